import { execFileSync } from "node:child_process";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { compareNumbers, compareValues } from "../../tools/parity/compare.ts";
import { Twins } from "../../tools/parity/folders.ts";
import { CaseRunner, type TestResult } from "../../tools/parity/run.ts";
import { readStoredTensors } from "../../tools/parity/safetensors.ts";
import type { ParityCase } from "../../tools/parity/test-set.ts";
import { type Flaws, fakeApi, fakeCase, fakeTest, floats, integers } from "./fake-api.ts";

const TOLERANCE = { atol: 1e-3, rtol: 0.1 };

async function runAll(
  flaws: Flaws = {},
  source: ParityCase = fakeCase(),
): Promise<Record<string, TestResult>> {
  const runner = new CaseRunner(fakeApi(flaws), source, { dtype: "fp32" });
  const results: Record<string, TestResult> = {};
  for (const variant of runner.variants()) results[variant.test.name] = await runner.run(variant);
  await runner.dispose();
  return results;
}

function statuses(results: Record<string, TestResult>): Record<string, string> {
  return Object.fromEntries(Object.entries(results).map(([name, { status }]) => [name, status]));
}

function withTest(...args: Parameters<typeof fakeTest>): ParityCase {
  return { ...fakeCase(), tests: [fakeTest(...args)] };
}

describe("CaseRunner", () => {
  it("passes every kind of call when the numbers are right", async () => {
    expect(statuses(await runAll())).toEqual({
      forward: "pass",
      states: "pass",
      greedy: "pass",
      steps: "pass",
      logprobs: "pass",
    });
  });

  it("fails when one number is off, and says where", async () => {
    const { forward } = await runAll({ offset: 0.01 });
    expect(forward?.status).toBe("fail");
    expect(forward?.detail).toMatch(/at logits\[1, 3, 7\]: got -?[\d.]+ expected -?[\d.]+$/);
    expect((await runAll({ offset: 1e-6 })).forward?.status).toBe("pass");
  });

  it("fails on NaN and infinities", async () => {
    for (const value of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
      expect((await runAll({ value })).forward?.status).toBe("fail");
    }
  });

  it("fails cached decoding when the cache is not used", async () => {
    expect(statuses(await runAll({ forgetful: true }))).toMatchObject({ forward: "pass", steps: "fail" });
  });

  it("fails on a hidden state too many", async () => {
    const { states } = await runAll({ extraState: true });
    expect(states).toMatchObject({ status: "fail", detail: "hidden_states: got 3 entries expected 2" });
  });

  it("fails with the error of a call that throws", async () => {
    const { forward } = await runAll({ throws: true });
    expect(forward?.status).toBe("fail");
    expect(forward?.detail).toContain("RangeError: the model is out of gems");
  });

  it("never passes an unknown kind of call, a missing class or an output that was not compared", async () => {
    for (const source of [
      withTest("x", "guess_my_age", { logits: "logits" }),
      withTest("x", "toString", { logits: "logits" }),
      withTest("x", "forward", { logits: "logits" }, { class: "Gemma9ForCausalLM" }),
      withTest("x", "forward", { logits: "logits" }, { expected_values: { colour: "green" } }),
      withTest("x", "forward", {}),
      withTest("x", "forward", { logits: "logits" }, { checkpoint: null }),
      withTest("x", "tokenize", {}, { class: "Tokenizer", expected_values: { left: {} } }),
    ]) {
      expect((await runAll({}, source)).x?.status).toBe("not-yet");
    }
  });

  it("fails rather than hides a wrong output beside one that is missing", async () => {
    const source = withTest("x", "forward", { logits: "logits" }, { expected_values: { colour: "green" } });
    expect((await runAll({ offset: 1 }, source)).x?.status).toBe("fail");
  });

  it("compares only where the mask is 1", async () => {
    const source = fakeCase();
    const tensors = new Map(source.tensors);
    const spoiled = tensors.get("logits")!.data.slice();
    spoiled[0] = 1e9;
    tensors.set("logits", { ...tensors.get("logits")!, data: spoiled });
    const results = await runAll({}, { ...source, tensors });
    expect(statuses(results)).toMatchObject({ forward: "pass", states: "fail" });
  });
});

describe("compareNumbers", () => {
  it("takes atol + rtol * |expected|, and integers exactly", () => {
    const expected = floats([10, 0], [2]);
    expect(compareNumbers("x", { shape: [2], data: [10.9, 0.0009] }, expected, TOLERANCE).passed).toBe(true);
    expect(compareNumbers("x", { shape: [2], data: [11.1, 0] }, expected, TOLERANCE).passed).toBe(false);
    const exact = integers([10], [1]);
    expect(compareNumbers("x", { shape: [1], data: [11n] }, exact, TOLERANCE).passed).toBe(false);
    expect(compareNumbers("x", { shape: [1], data: [10n] }, exact, TOLERANCE).passed).toBe(true);
  });

  it("wants equal shapes and equal infinities", () => {
    const expected = floats([Number.NEGATIVE_INFINITY, 1], [2]);
    const at = (data: number[], shape = [2]): boolean =>
      compareNumbers("x", { shape, data }, expected, TOLERANCE).passed;
    expect(at([Number.NEGATIVE_INFINITY, 1])).toBe(true);
    expect(at([-1e30, 1])).toBe(false);
    expect(at([Number.NEGATIVE_INFINITY, 1], [1, 2])).toBe(false);
  });

  it("wants both ends of a step for outputs of time - 1, and finds batch and time behind other axes", () => {
    const mask = integers([0, 1, 1], [1, 3]);
    const steps = (data: number[]): boolean =>
      compareNumbers("x", { shape: [1, 2], data }, floats([5, 6], [1, 2]), TOLERANCE, mask).passed;
    expect([steps([0, 6]), steps([5, 0])]).toEqual([true, false]);
    const stacked = floats([1, 2, 3, 4, 5, 6], [2, 1, 3]);
    const streams = (data: number[]): boolean =>
      compareNumbers("x", { shape: [2, 1, 3], data }, stacked, TOLERANCE, mask).passed;
    expect([streams([0, 2, 3, 0, 5, 6]), streams([1, 2, 3, 4, 0, 6])]).toEqual([true, false]);
  });
});

describe("compareValues", () => {
  it("reports the first place that differs", () => {
    expect(compareValues("x", { a: [1, "b"] }, { a: [1, "b"] }).passed).toBe(true);
    expect(compareValues("x", { a: [1, "b"] }, { a: [1, "c"] }).detail).toBe('x.a[1]: got "b" expected "c"');
    expect(compareValues("x", { a: [1] }, { a: [1, 2] }).detail).toBe("x.a[1]: got undefined expected 2");
    expect(compareValues("x", { a: 1, b: 2 }, { a: 1 }).passed).toBe(false);
  });
});

describe("files", () => {
  const twins = new Twins();
  const made: string[] = [];
  afterAll(async () => {
    await twins.dispose();
    for (const folder of made) await rm(folder, { recursive: true, force: true });
  });
  const makeFolder = async (): Promise<string> => {
    const folder = await mkdtemp(path.join(tmpdir(), "lapidary-test-"));
    made.push(folder);
    return folder;
  };

  it("reads safetensors", async () => {
    const folder = await makeFolder();
    const header = Buffer.from(
      JSON.stringify({
        __metadata__: { a: "b" },
        x: { dtype: "F32", shape: [1, 2], data_offsets: [1, 9] },
        flag: { dtype: "U8", shape: [1], data_offsets: [0, 1] },
      }),
    );
    const size = Buffer.alloc(8);
    size.writeBigUInt64LE(BigInt(header.length));
    const body = Buffer.concat([Buffer.from([1]), Buffer.from(Float32Array.from([1.5, -2]).buffer)]);
    const file = path.join(folder, "x.safetensors");
    await writeFile(file, Buffer.concat([size, header, body]));
    const tensors = await readStoredTensors(file);
    expect(tensors.get("x")).toEqual(floats([1.5, -2], [1, 2]));
    expect(tensors.get("flag")).toEqual({ kind: "integer", shape: [1], data: Uint8Array.of(1) });
  });

  it("gives a folder another config.json, leaving the files alone", async () => {
    const folder = await makeFolder();
    for (const name of ["config.json", "config.v4.json", "weights"])
      await writeFile(path.join(folder, name), name);
    const twin = await twins.withConfig(folder, "config.v4.json");
    expect(await readFile(path.join(twin, "config.json"), "utf8")).toBe("config.v4.json");
    expect(await readFile(path.join(twin, "weights"), "utf8")).toBe("weights");
    expect(await readFile(path.join(folder, "config.json"), "utf8")).toBe("config.json");
  });

  it("says which special tokens a released tokenizer adds", async () => {
    const folder = await makeFolder();
    const added_tokens = [
      { id: 2, content: "<bos>" },
      { id: 1, content: "<eos>" },
    ];
    await writeFile(
      path.join(folder, "tokenizer.json"),
      JSON.stringify({ added_tokens, post_processor: null }),
    );
    const read = async (setting: "chat" | "embedding", file: string): Promise<Record<string, unknown>> =>
      JSON.parse(await readFile(path.join(await twins.withTokenizerSetting(folder, setting), file), "utf8"));
    const chat = (await read("chat", "tokenizer.json")).post_processor as { single: object[] };
    const embedding = (await read("embedding", "tokenizer.json")).post_processor as { single: object[] };
    expect([chat.single.length, embedding.single.length]).toEqual([2, 3]);
    expect((await read("embedding", "tokenizer_config.json")).add_eos_token).toBe(true);
  });

  it("ends with a count and exits 1 when a test failed, 2 when there is nothing to run", async () => {
    const folder = path.join(await makeFolder(), "tiny");
    await mkdir(folder);
    const tests = [fakeTest("one", "forward", {}, { checkpoint: null }), fakeTest("two", "softmax", {})];
    await writeFile(path.join(folder, "cases.json"), JSON.stringify({ case: "tiny", tests }));
    const api = path.join(folder, "api.mjs");
    await writeFile(
      api,
      "export const softmax = () => { throw new Error('no') }; export class Gemma3ForCausalLM {}",
    );
    const [status, lines] = runScript([folder], { LAPIDARY_PARITY_API: api });
    expect(lines.at(-1)).toBe("parity: 0 passed, 1 failed, 1 not-yet");
    expect(lines[0]).toMatch(/^not-yet {2}tiny\/one {2}/);
    expect(status).toBe(1);
    expect(runScript([path.join(folder, "nothing")])[0]).toBe(2);
  });
});

function runScript(args: readonly string[], env: Record<string, string> = {}): [number, string[]] {
  const script = path.join(import.meta.dirname, "../../tools/parity.ts");
  try {
    const out = execFileSync(process.execPath, ["--import", "tsx", script, ...args], {
      encoding: "utf8",
      env: { ...process.env, ...env },
      stdio: ["ignore", "pipe", "ignore"],
    });
    return [0, out.trimEnd().split("\n")];
  } catch (error) {
    const failed = error as { status: number; stdout: string };
    return [failed.status, failed.stdout.trimEnd().split("\n")];
  }
}
