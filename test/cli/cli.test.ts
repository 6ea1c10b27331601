import { type SpawnSyncReturns, spawnSync } from "node:child_process";
import { cpSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, describe, expect, it } from "vitest";

/** The built command line, as a user runs it. */
const MAIN = resolve(import.meta.dirname, "../../dist/cli/main.js");
const TINY = resolve(import.meta.dirname, "../fixtures/golden-h16/gemma3_text/model");
const GEMMA3N = resolve(import.meta.dirname, "../fixtures/gemma3n/odd");
const folder = mkdtempSync(join(tmpdir(), "lapidary-cli-"));
afterAll(() => rmSync(folder, { recursive: true }));

function lapidary(args: readonly string[], input?: string): SpawnSyncReturns<string> {
  const env = {
    ...process.env,
    LAPIDARY_CACHE: join(folder, "cache"),
    HF_HOME: join(folder, "hf"),
    HF_HUB_OFFLINE: "1",
  };
  return spawnSync(process.execPath, [MAIN, ...args], {
    encoding: "utf8",
    env,
    timeout: 60_000,
    ...(input === undefined ? {} : { input }),
  });
}

const GREEDY = ["--no-do-sample", "--raw", "--ignore-eos", "-n", "8"];

describe("lapidary", () => {
  it("explains itself", () => {
    for (const args of [
      ["--help"],
      ["run", "--help"],
      ["info", "--help"],
      ["pull", "--help"],
      ["slice", "--help"],
    ]) {
      const { status, stdout } = lapidary(args);
      expect(status).toBe(0);
      expect(stdout).toMatch(/Usage: lapidary/);
    }
    expect(lapidary(["--version"]).stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
  });

  it("runs a prompt from an argument and from a pipe alike, twice", () => {
    const first = lapidary(["run", "--model", TINY, ...GREEDY, "Hello world"]);
    expect(first.stderr).toContain("onnxruntime");
    expect(first.status).toBe(0);
    expect(first.stdout.length).toBeGreaterThan(3);
    const piped = lapidary(["run", "--task", "text-generation", "--model", TINY, ...GREEDY], "Hello world\n");
    expect(piped.stdout).toBe(first.stdout);
  });

  it("answers in JSON with figures", () => {
    const { stdout, status } = lapidary(["run", "--model", TINY, ...GREEDY, "--json", "Hello world"]);
    expect(status).toBe(0);
    const answer = JSON.parse(stdout) as { generated_text: string; stats: Record<string, number> };
    expect(answer.stats).toMatchObject({ new_tokens: 8 });
    expect(answer.stats.time_to_first_token).toBeGreaterThan(0);
  });

  it("prints figures with --stats, apart from the text", () => {
    const { stdout, stderr } = lapidary(["run", "--model", TINY, ...GREEDY, "--stats", "Hello world"]);
    expect(stderr).toMatch(/first token .* s after/);
    expect(stderr).toMatch(/decode +[\d.]+ tok\/s \(8 tokens\)/);
    expect(stdout).not.toMatch(/tok\/s/);
  });

  it("times a model", () => {
    const flags = [
      "--prefill",
      "6,9",
      "--depths",
      "0,5",
      "--batches",
      "1,2",
      "--tokens",
      "3",
      "--rounds",
      "2",
    ];
    const { stdout, status, stderr } = lapidary(["bench", TINY, ...flags, "--json"]);
    expect(stderr).toBe("");
    expect(status).toBe(0);
    const rows = JSON.parse(stdout) as Record<string, string | number>[];
    const titles = rows.map(({ metric, depth, batch, tokens, unit }) =>
      [metric, depth, batch, tokens, unit].join(),
    );
    expect(titles).toEqual([
      "first_token,0,1,1,s",
      ...[1, 2].flatMap((batch) => [
        `prefill,0,${batch},6,tok/s`,
        `prefill,0,${batch},9,tok/s`,
        `decode,0,${batch},3,tok/s`,
        `decode,5,${batch},3,tok/s`,
      ]),
      "memory,0,1,1,MB",
    ]);
    for (const { median, min, max } of rows) {
      expect(min).toBeGreaterThan(0);
      expect(median).toBeGreaterThanOrEqual(min as number);
      expect(max).toBeGreaterThanOrEqual(median as number);
    }
    expect(lapidary(["bench", TINY, "--prefill", "5,x"]).status).toBe(2);
  });

  it("guesses ahead without changing the text", () => {
    const text = (...more: string[]): string =>
      lapidary(["run", "--model", TINY, ...GREEDY, ...more, "Hello world"]).stdout;
    const plain = text();
    expect(text("--prompt-lookup", "4")).toBe(plain);
    expect(text("--assistant", TINY)).toBe(plain);
  });

  it("samples the same with the same seed, and searches with beams", () => {
    const sample = (seed: string): string =>
      lapidary([
        "run",
        "--model",
        TINY,
        "--raw",
        "--ignore-eos",
        "-n",
        "12",
        "--seed",
        seed,
        "--temperature",
        "1.5",
        "Hello",
      ]).stdout;
    expect(sample("1")).toBe(sample("1"));
    expect(sample("1")).not.toBe(sample("2"));
    expect(lapidary(["run", "--model", TINY, ...GREEDY, "--num-beams", "3", "Hello"]).status).toBe(0);
  });

  it("keeps to a schema, from a file or as an argument, and to a pattern", () => {
    const schema = {
      type: "object",
      properties: { n: { type: "integer" }, s: { type: "string" } },
      required: ["n", "s"],
    };
    const file = join(folder, "schema.json");
    writeFileSync(file, JSON.stringify(schema));
    const constrained = (...flags: string[]): string =>
      lapidary(["run", "--model", TINY, "--raw", "--seed", "4", "-n", "40", ...flags, "Hello"]).stdout;
    const text = constrained("--json-schema", file);
    expect(JSON.parse(text)).toEqual({ n: expect.any(Number), s: expect.any(String) });
    expect(constrained("--json-schema", JSON.stringify(schema))).toBe(text);
    expect(constrained("--regex", "[a-f]{4}-\\d+")).toMatch(/^[a-f]{4}-\d+\n$/);
    const missing = lapidary(["run", "--model", TINY, "--json-schema", "none.json", "Hello"]);
    expect([missing.status, missing.stderr]).toEqual([2, expect.stringContaining("neither JSON nor a file")]);
    const wrong = lapidary(["run", "--model", TINY, "--json-schema", '{"not": {}}', "Hello"]);
    expect([wrong.status, wrong.stderr]).toEqual([
      2,
      expect.stringContaining('the keyword "not" isn\'t supported'),
    ]);
  });

  it("says with --device 0 that there is no accelerator, and runs", () => {
    const { status, stderr } = lapidary(["run", "--model", TINY, ...GREEDY, "--device", "0", "Hello"]);
    expect(status).toBe(0);
    // On a machine with a GPU the note is absent and the device is named.
    expect(stderr).toMatch(/no accelerator could be used, running on the processor|, (cuda|webgpu)\n/);
  });

  it("tells what a model is without reading its weights", () => {
    const { stdout } = lapidary(["info", TINY, "--json"]);
    expect(JSON.parse(stdout)).toMatchObject({
      architecture: "Gemma3ForCausalLM",
      format: "safetensors",
      head_dim: 16,
    });
    expect(lapidary(["info", TINY]).stdout).toMatch(/cache bytes per token/);
    const gemma3n = lapidary(["info", GEMMA3N, "--json"]);
    const { bytes, resident_bytes, on_disk_bytes } = JSON.parse(gemma3n.stdout) as Record<string, number>;
    expect(on_disk_bytes).toBe(64 * 5 * 6 * 4);
    expect(resident_bytes! + on_disk_bytes!).toBe(bytes);
    expect(lapidary(["pull", TINY]).stdout.trim()).toBe(TINY);
  });

  it.each([
    [["run", "--model", "/nowhere/at-all", "Hello"], 1, /no such file or folder/],
    [["run", "--model", "gemma-3-270n", "Hello"], 1, /gemma-3-270m/],
    [["run", "--model", TINY, "--temperature", "hot", "Hello"], 2, /expected a number/],
    [["run", "--model", TINY, "--dtype", "q3", "Hello"], 2, /Allowed choices/],
    [["run", "--model", TINY, "--temprature", "1", "Hello"], 2, /temperature/],
    [["run", "--model", TINY, "--top-p", "2", "Hello"], 2, /top_p/],
    [["run", "--model", TINY, "--system", "x", "--raw", "Hello"], 2, /chat template/],
    [["jump"], 2, /unknown command/],
  ])("%j ends with %i", (args, status, message) => {
    const result = lapidary(args);
    expect(result.stderr).toMatch(message);
    expect(result.status).toBe(status);
    expect(result.stderr).not.toMatch(/\n\s+at /);
  });

  it("refuses a truncated checkpoint with its name", () => {
    const broken = join(folder, "broken");
    cpSync(TINY, broken, { recursive: true });
    truncateSync(join(broken, "model.safetensors"), 5000);
    const { status, stderr } = lapidary(["run", "--model", broken, "Hello"]);
    expect(status).toBe(1);
    expect(stderr).toMatch(/model\.safetensors/);
  });

  it("wants a prompt", () => {
    const { status, stderr } = lapidary(["run", "--model", TINY], "");
    expect(status).toBe(2);
    expect(stderr).toMatch(/no prompt/);
  });

  it("writes slices", () => {
    const out = join(folder, "sliced");
    const nested = resolve(import.meta.dirname, "../fixtures/gemma3n/nested");
    const made = lapidary([
      "slice",
      nested,
      out,
      "--intermediate-size",
      "24",
      "--skip-layers",
      "3-4",
      "--json",
    ]);
    expect(JSON.parse(made.stdout)).toMatchObject({ folder: out, layers: 4, files: 1 });
    const { layers, intermediate_size } = JSON.parse(lapidary(["info", out, "--json"]).stdout) as Record<
      string,
      number
    >;
    expect([layers, intermediate_size]).toEqual([4, 24]);
    const wrong = lapidary(["slice", nested, join(folder, "other"), "--skip-layers", "2"]);
    expect(wrong.status).toBe(1);
    expect(wrong.stderr).toMatch(/layer 2 must stay, for layer 5 reads its keys/);
    expect(lapidary(["slice", nested, join(folder, "other")]).status).toBe(2);
  });
});
