import { cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { readFloat32 } from "../checkpoints/lora.ts";
import { openSafetensors } from "../checkpoints/safetensors.ts";
import { Tensor } from "../tensor.ts";
import { AutoModelForCausalLM, AutoModelForSequenceClassification } from "./auto.ts";
import type { CausalLM } from "./causal-lm.ts";
import type { PretrainedOptions } from "./options.ts";

const FIXTURES = resolve(import.meta.dirname, "../../test/fixtures");
const BASE = join(FIXTURES, "golden-h16/gemma3_text/model");
/** Adapters and results of HF and PEFT: tools/oracle/make_lora.py. */
const ADAPTERS = join(FIXTURES, "lora-h16");

const folder = (name: string): string => join(ADAPTERS, name);
const expected = new Map<string, number[]>();
let input_ids: Tensor;
let cache: string;
let before: string | undefined;

beforeAll(async () => {
  cache = await mkdtemp(join(tmpdir(), "lapidary-adapters-"));
  before = process.env.LAPIDARY_CACHE;
  process.env.LAPIDARY_CACHE = cache;
  const results = await openSafetensors(join(ADAPTERS, "expected.safetensors"));
  for (const [name, slice] of results.tensors) expected.set(name, [...(await readFloat32(results, slice))]);
  await results.close();
  const ids = expected.get("input_ids")!;
  input_ids = new Tensor("int64", ids.map(BigInt), [1, ids.length]);
});
afterAll(async () => {
  if (before === undefined) delete process.env.LAPIDARY_CACHE;
  else process.env.LAPIDARY_CACHE = before;
  await rm(cache, { recursive: true, force: true });
});

function load(options: PretrainedOptions = {}): Promise<CausalLM> {
  return AutoModelForCausalLM.from_pretrained(BASE, options);
}

async function logitsOf(model: CausalLM): Promise<number[]> {
  const { logits } = await model({ input_ids, logits_to_keep: 3, use_cache: false });
  return [...(logits.data as Float32Array)];
}

function worst(a: readonly number[], b: readonly number[]): number {
  expect(a).toHaveLength(b.length);
  return a.reduce((most, value, i) => Math.max(most, Math.abs(value - b[i]!)), 0);
}

async function expectResults(model: CausalLM, name: string): Promise<void> {
  expect(worst(await logitsOf(model), expected.get(name)!)).toBeLessThan(1e-4);
  const sequences = await model.generate({
    input_ids,
    max_new_tokens: 12,
    do_sample: false,
    eos_token_id: [],
  });
  expect([...sequences.data].slice(input_ids.size).map(Number)).toEqual(expected.get(`${name}.generated`));
}

describe("a merged adapter", () => {
  it.each(["every", "some", "dora", "saved"])("gives what PEFT gives: %s", async (name) => {
    const model = await load({ adapter: folder(name) });
    await expectResults(model, name);
    await model.dispose();
  });

  it("quantises the sums, not the base", async () => {
    const model = await load({ adapter: folder("every"), dtype: "q8" });
    const [base, merged] = [expected.get("base")!, expected.get("every")!];
    expect(worst(await logitsOf(model), merged)).toBeLessThan(worst(base, merged) / 8);
    await model.dispose();
  });

  it("brings a classifier its head", async () => {
    const model = await AutoModelForSequenceClassification.from_pretrained(BASE, {
      adapter: folder("labels"),
    });
    const { logits } = await model({ input_ids });
    expect(worst([...(logits.data as Float32Array)], expected.get("labels")!)).toBeLessThan(1e-5);
    await model.dispose();
  });

  it("is packed anew when its configuration changes", async () => {
    const copy = join(cache, "copy");
    await cp(folder("every"), copy, { recursive: true });
    const first = await load({ adapter: copy });
    await expectResults(first, "every");
    const file = join(copy, "adapter_config.json");
    const config = JSON.parse(await readFile(file, "utf8"));
    await writeFile(file, JSON.stringify({ ...config, lora_alpha: 0, alpha_pattern: {} }));
    const second = await load({ adapter: copy });
    await expectResults(second, "base");
    await Promise.all([first.dispose(), second.dispose()]);
  });

  it("is refused where the model uses the changed weight twice", async () => {
    await expect(load({ adapter: folder("table") })).rejects.toThrow(/embed_tokens.*merge: false/);
  });
});

describe("adapters beside a model", () => {
  let model: CausalLM;
  let plain: number[];
  beforeAll(async () => {
    model = await load();
    plain = await logitsOf(model);
  });
  afterAll(() => model.dispose());

  it("are chosen, added up, switched off and deleted between calls", async () => {
    expect(worst(plain, expected.get("base")!)).toBeLessThan(1e-4);
    await model.load_adapter(folder("every"), "every");
    await expectResults(model, "every");
    await model.load_adapter(folder("some"), "some");
    expect(model.active_adapters()).toEqual(["some"]);
    await expectResults(model, "some");
    await model.load_adapter(folder("table"), "table");
    await expectResults(model, "table");
    model.set_adapter("every");
    await expectResults(model, "every");
    model.set_adapter(["every", "some"]);
    await expectResults(model, "both");
    model.disable_adapters();
    expect(model.active_adapters()).toEqual(["every", "some"]);
    expect(await logitsOf(model)).toEqual(plain);
    model.set_adapter("some");
    expect(await logitsOf(model)).toEqual(plain);
    model.enable_adapters();
    await expectResults(model, "some");
    model.delete_adapter("some");
    expect(model.active_adapters()).toEqual(["every"]);
    await expectResults(model, "every");
    model.delete_adapter(["every", "table"]);
    expect(await logitsOf(model)).toEqual(plain);
  });

  it("may change in the middle of a sequence", async () => {
    await model.load_adapter(folder("every"), "every");
    model.disable_adapters();
    const { past_key_values } = await model({ input_ids });
    const token = new Tensor("int64", [5n], [1, 1]);
    const off = await model({ input_ids: token, past_key_values: past_key_values! });
    model.enable_adapters();
    const on = await model({ input_ids: token, past_key_values: past_key_values! });
    expect(on.past_key_values?.lengths).toEqual([input_ids.size + 2]);
    expect(
      worst([...(on.logits.data as Float32Array)], [...(off.logits.data as Float32Array)]),
    ).toBeGreaterThan(0.1);
    past_key_values!.dispose();
    model.delete_adapter("every");
  });

  it("are named in errors", async () => {
    expect(() => model.active_adapters()).toThrow("no adapter is loaded");
    expect(() => model.set_adapter("some")).toThrow("no adapter is loaded");
    await model.load_adapter(folder("some"));
    expect(model.active_adapters()).toEqual(["default"]);
    await expect(model.load_adapter(folder("every"))).rejects.toThrow(/"default" already/);
    expect(() => model.set_adapter("sum")).toThrow(/no adapter "sum"; loaded are default/);
    await expect(model.load_adapter(folder("dora"), "dora")).rejects.toThrow(/DoRA.*merge: true/);
    await expect(model.load_adapter(folder("saved"), "saved")).rejects.toThrow(/replaces .*merge: true/);
    model.delete_adapter("default");
  });
});

describe("the option adapter", () => {
  it("keeps an adapter beside the weights when told", async () => {
    const model = await load({ adapter: { path: folder("table"), merge: false, adapter_name: "words" } });
    expect(model.active_adapters()).toEqual(["words"]);
    await expectResults(model, "table");
    await model.dispose();
  });

  it("works in the other engine too", async () => {
    const model = await load({ engine: "node", adapter: { path: folder("some"), merge: false } });
    await expectResults(model, "some");
    await model.dispose();
  });

  it("works on quantised weights, which stay as they are", async () => {
    const plain = await load({ dtype: "q8" });
    const adapted = await load({ dtype: "q8", adapter: { path: folder("every"), merge: false } });
    expect(worst(await logitsOf(adapted), expected.get("every")!)).toBeLessThan(0.2);
    adapted.disable_adapters();
    expect(await logitsOf(adapted)).toEqual(await logitsOf(plain));
    await Promise.all([plain.dispose(), adapted.dispose()]);
  });

  it("says what is wrong with it", async () => {
    await expect(AutoModelForCausalLM.from_pretrained(folder("every"))).rejects.toThrow(
      /is an adapter; load "golden-h16.*" with the option adapter/,
    );
    await expect(load({ adapter: "./nowhere" })).rejects.toThrow(/^adapter: .*no such file or folder/);
    await expect(load({ adapter: BASE })).rejects.toThrow(/adapter_config\.json: no such file/);
    await expect(load({ adapter: { path: folder("every"), merged: true } as never })).rejects.toThrow(
      /unknown option "merged"; did you mean "merge"/,
    );
    await expect(load({ adapter: { merge: true } as never })).rejects.toThrow("expected a path");
  });
});
