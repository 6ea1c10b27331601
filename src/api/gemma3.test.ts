import { mkdtemp, readFile, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ConfigError, InputError } from "../errors.ts";
import { Tensor } from "../tensor.ts";
import { AutoConfig, AutoModelForCausalLM } from "./auto.ts";
import type { CausalLM } from "./causal-lm.ts";
import { Gemma3ForCausalLM, Gemma3TextModel } from "./gemma3.ts";

/** A tiny model with a window of 5 positions and heads of 12. */
const TINY = resolve(import.meta.dirname, "../../test/fixtures/golden-h12/gemma3_text/model");
const PROMPT = [2, 17, 230, 41, 99, 305, 6, 77, 18, 250, 31, 12, 401, 8, 56];

function ids(rows: readonly (readonly number[])[]): Tensor {
  return new Tensor("int64", rows.flat().map(BigInt), [rows.length, rows[0]!.length]);
}

function worst(a: Tensor, b: Tensor): number {
  expect(a.dims).toEqual(b.dims);
  let result = 0;
  for (let i = 0; i < a.size; i++) result = Math.max(result, Math.abs(Number(a.data[i]) - Number(b.data[i])));
  return result;
}

/** Root of the mean square of the difference, relative to that of `expected`. */
function relativeError(got: Tensor, expected: Tensor): number {
  let [difference, total] = [0, 0];
  for (let i = 0; i < expected.size; i++) {
    difference += (Number(got.data[i]) - Number(expected.data[i])) ** 2;
    total += Number(expected.data[i]) ** 2;
  }
  return Math.sqrt(difference / total);
}

describe("Gemma3ForCausalLM", () => {
  let model: CausalLM;
  beforeAll(async () => {
    model = await AutoModelForCausalLM.from_pretrained(TINY);
  });
  afterAll(() => model.dispose());

  it("gives the same logits at once, token by token and in parts of any size", async () => {
    const whole = await model({ input_ids: ids([PROMPT]) });
    for (const part of [1, 4]) {
      let cache: Awaited<ReturnType<typeof model._call>>["past_key_values"];
      for (let start = 0; start < PROMPT.length; start += part) {
        const tokens = PROMPT.slice(start, start + part);
        const step: Awaited<ReturnType<typeof model._call>> = await model({
          input_ids: ids([tokens]),
          ...(cache === undefined ? {} : { past_key_values: cache }),
        });
        cache = step.past_key_values;
        const expected = whole.logits.slice(null, [start, start + tokens.length]);
        expect(worst(step.logits, expected)).toBeLessThan(2e-5);
      }
      expect(cache?.lengths).toEqual([PROMPT.length]);
    }
  });

  it("does not mind on which side a row is padded", async () => {
    const short = PROMPT.slice(0, 6);
    const pad = new Array<number>(PROMPT.length - short.length).fill(0);
    const ones = short.map(() => 1);
    const alone = await model({ input_ids: ids([short]) });
    const left = await model({
      input_ids: ids([PROMPT, [...pad, ...short]]),
      attention_mask: ids([PROMPT.map(() => 1), [...pad, ...ones]]),
    });
    const right = await model({
      input_ids: ids([[...short, ...pad], PROMPT]),
      attention_mask: ids([[...ones, ...pad], PROMPT.map(() => 1)]),
    });
    expect(worst(left.logits.slice([1, 2], [pad.length, null]), alone.logits)).toBeLessThan(2e-5);
    expect(worst(right.logits.slice([0, 1], [0, short.length]), alone.logits)).toBeLessThan(2e-5);
  });

  it("keeps the last logits only, and gives the loss of labels", async () => {
    const whole = await model({ input_ids: ids([PROMPT]), labels: ids([PROMPT]) });
    const last = await model({ input_ids: ids([PROMPT]), logits_to_keep: 2 });
    expect(worst(last.logits, whole.logits.slice(null, [-2, null]))).toBeLessThan(2e-5);
    const vocab = whole.logits.dims[2]!;
    const terms = PROMPT.slice(1).map((label, i) => {
      const row = Array.from((whole.logits.data as Float32Array).subarray(i * vocab, (i + 1) * vocab));
      return Math.log(row.reduce((sum, value) => sum + Math.exp(value), 0)) - row[label]!;
    });
    expect(whole.loss!.item()).toBeCloseTo(terms.reduce((sum, value) => sum + value, 0) / terms.length, 4);
    const masked = await model({
      input_ids: ids([PROMPT]),
      labels: ids([PROMPT.map((id, i) => (i === 3 ? id : -100))]),
    });
    expect(masked.loss!.item()).toBeCloseTo(terms[2]!, 4);
  });

  it("forks a cache for several rows and reorders them", async () => {
    const { past_key_values: cache } = await model({ input_ids: ids([PROMPT]) });
    cache!.reorder([0, 0]);
    const forked = await model({ input_ids: ids([[5], [9]]), past_key_values: cache! });
    const alone = await model({ input_ids: ids([[...PROMPT, 9]]), logits_to_keep: 1 });
    expect(worst(forked.logits.slice([1, 2]), alone.logits)).toBeLessThan(2e-5);
  });

  it("continues several tokens on a batch with a past", async () => {
    const { past_key_values: cache } = await model({ input_ids: ids([PROMPT, PROMPT]) });
    const next = await model({
      input_ids: ids([
        [5, 6, 7],
        [9, 8, 7],
      ]),
      past_key_values: cache!,
    });
    const alone = await model({ input_ids: ids([[...PROMPT, 9, 8, 7]]), logits_to_keep: 3 });
    expect(worst(next.logits.slice([1, 2]), alone.logits)).toBeLessThan(2e-5);
  });

  it("takes prompts of several chunks, and a cache far past the window stays small", async () => {
    const long = Array.from({ length: 1300 }, (_, i) => 3 + ((i * 37) % 400));
    const { logits, past_key_values: cache } = await model({ input_ids: ids([long]), logits_to_keep: 1 });
    let last: Tensor | undefined;
    let stepped: typeof cache;
    for (let start = 0; start < long.length; start += 130) {
      const step: Awaited<ReturnType<typeof model._call>> = await model({
        input_ids: ids([long.slice(start, start + 130)]),
        logits_to_keep: 1,
        ...(stepped === undefined ? {} : { past_key_values: stepped }),
      });
      [last, stepped] = [step.logits, step.past_key_values];
    }
    expect(worst(last!, logits)).toBeLessThan(2e-5);
    const [sliding, full] = ["sliding_attention", "full_attention"].map((wanted) =>
      cache!.layers.find(({ kind }) => kind === wanted)!.keys.dims.at(2),
    );
    expect([sliding, full]).toEqual([4, 1300]);
    expect(cache!.byteLength).toBeLessThan(cache!.layers.length * 2 * 4 * 2 * 16 * 1400);
  });

  it("stops at the first token when asked to, with the signal's reason, and stays usable", async () => {
    const reason = new Error("enough");
    await expect(model({ input_ids: ids([PROMPT]), signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    expect((await model({ input_ids: ids([PROMPT]) })).logits.dims).toEqual([1, PROMPT.length, 440]);
  });

  it.each([
    [{ input_ids: ids([[440]]) }, /token 440 at row 0/],
    [{}, /either input_ids or inputs_embeds/],
    [{ input_ids: ids([[5, 6]]), attention_mask: ids([[1]]) }, /does not cover/],
    [{ input_ids: ids([[5, 6]]), position_ids: ids([[0, -5]]) }, /-5 is no position/],
    [{ input_ids: ids([[5, 6]]), position_ids: ids([[0, 1, 2]]) }, /does not fit/],
    [{ input_ids: ids([[5]]), logits_to_keep: -1 }, /logits_to_keep/],
    [{ input_ids: ids([[5, 6]]), labels: ids([[5]]) }, /labels/],
    [{ input_ids: ids([[5]]), atention_mask: ids([[1]]) }, /did you mean "attention_mask"/],
  ])("refuses %#", async (inputs, message) => {
    const error = await model(inputs as never).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(InputError);
    expect((error as Error).message).toMatch(message);
  });

  it("refuses a cache of another model", async () => {
    const other = await Gemma3ForCausalLM.from_pretrained(TINY);
    const { past_key_values } = await other({ input_ids: ids([PROMPT]) });
    await expect(model({ input_ids: ids([[5]]), past_key_values: past_key_values! })).rejects.toThrow(
      /another model/,
    );
    await other.dispose();
  });
});

describe("from_pretrained", () => {
  it.each([
    ["fp16", 2e-3],
    ["bf16", 2e-2],
    ["q8", 6e-2],
    ["q4", 0.8],
  ] as const)("stores weights as %s, off by less than %f", async (dtype, tolerance) => {
    const exact = await Gemma3ForCausalLM.from_pretrained(TINY, { dtype: "fp32" });
    const stored = await Gemma3ForCausalLM.from_pretrained(TINY, { dtype });
    const [a, b] = [await exact({ input_ids: ids([PROMPT]) }), await stored({ input_ids: ids([PROMPT]) })];
    const error = relativeError(b.logits, a.logits);
    expect(error).toBeLessThan(tolerance);
    expect(error).toBeGreaterThan(tolerance / 20);
    const bytes = (model: Gemma3ForCausalLM): number =>
      Object.values(model.memory().weights).reduce((sum, value) => sum + value, 0);
    expect(bytes(stored)).toBeLessThan(bytes(exact));
    await Promise.all([exact.dispose(), stored.dispose()]);
  });

  it("runs the same on onnxruntime-node's own API", async () => {
    const [native, fallback] = await Promise.all([
      Gemma3ForCausalLM.from_pretrained(TINY),
      Gemma3ForCausalLM.from_pretrained(TINY, { engine: "node" }),
    ]);
    const options = { input_ids: ids([PROMPT]), max_new_tokens: 12, do_sample: false, eos_token_id: [] };
    expect((await fallback.generate(options)).tolist()).toEqual((await native.generate(options)).tolist());
    await Promise.all([native.dispose(), fallback.dispose()]);
  });

  it("follows the symbolic links of a hub cache", async () => {
    const folder = await mkdtemp(join(tmpdir(), "lapidary-links-"));
    try {
      for (const name of ["config.json", "model.safetensors", "generation_config.json"])
        await symlink(join(TINY, name), join(folder, name));
      const linked = await AutoModelForCausalLM.from_pretrained(folder);
      const { logits } = await linked({ input_ids: ids([PROMPT]), logits_to_keep: 1 });
      expect(logits.data.every((value) => Number.isFinite(Number(value)))).toBe(true);
      await linked.dispose();
    } finally {
      await rm(folder, { recursive: true });
    }
  });

  it("takes a configuration instead of config.json, and a class of it", async () => {
    const plain = JSON.parse(await readFile(join(TINY, "config.v4.json"), "utf8")) as object;
    const config = await AutoConfig.from_pretrained(TINY);
    for (const given of [plain, config]) {
      const model = await AutoModelForCausalLM.from_pretrained(TINY, { config: given });
      expect(model.config.get_text_config().layer_types).toEqual(config.get_text_config().layer_types);
      await model.dispose();
    }
  });

  it("says what is wrong with an option", async () => {
    const load = (options: object) => AutoModelForCausalLM.from_pretrained(TINY, options);
    await expect(load({ dtyp: "q8" })).rejects.toThrow(/did you mean "dtype"/);
    await expect(load({ dtype: "q5" })).rejects.toThrow(/expected one of auto, fp32/);
    await expect(load({ device: "tpu" })).rejects.toThrow(/unknown device "tpu"/);
    await expect(load({ attn_implementation: "flash" })).rejects.toThrow(/does not exist here/);
    await expect(load({ config: { model_type: "llama" } })).rejects.toThrow(ConfigError);
  });

  it("gives hidden states without a head", async () => {
    const model = await Gemma3TextModel.from_pretrained(TINY);
    const { last_hidden_state, hidden_states } = await model({
      input_ids: ids([PROMPT]),
      output_hidden_states: true,
    });
    expect(last_hidden_state.dims).toEqual([1, PROMPT.length, 24]);
    expect(hidden_states!.length).toBe(model.config.num_hidden_layers + 1);
    await model.dispose();
  });
});
