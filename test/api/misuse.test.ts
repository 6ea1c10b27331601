import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { AutoModelForCausalLM } from "../../src/api/auto.ts";
import type { CausalLM } from "../../src/api/causal-lm.ts";
import { GemmaForCausalLM, GemmaForSequenceClassification } from "../../src/api/gemma.ts";
import { AutoTokenizer } from "../../src/api/tokenizers.ts";
import { DynamicCache } from "../../src/generation/cache.ts";
import { pipeline } from "../../src/pipelines/pipeline.ts";
import { writeTinyModel } from "../support/tiny-model.ts";

const FIXTURES = resolve(import.meta.dirname, "../fixtures");
const GEMMA = join(FIXTURES, "gemma-tiny");
const GEMMA3 = join(FIXTURES, "golden-h16/gemma3_text/model");
const IDS = [[2, 5, 6, 7, 8, 9, 10, 12]];

/** What goes wrong silently where nobody looks. */
describe("misuse is told, not computed", () => {
  const folder = mkdtempSync(join(tmpdir(), "lapidary-misuse-"));
  let model: CausalLM;
  beforeAll(async () => {
    model = await AutoModelForCausalLM.from_pretrained(GEMMA3);
  });
  afterAll(async () => {
    await model.dispose();
    rmSync(folder, { recursive: true });
  });

  it("of a class for another architecture", async () => {
    await expect(GemmaForCausalLM.from_pretrained(GEMMA3)).rejects.toThrow(
      /model_type "gemma3_text" is not for GemmaForCausalLM/,
    );
  });

  it("of a cache that two calls share at once", async () => {
    const cache = new DynamicCache();
    const options = { input_ids: IDS, do_sample: false, max_new_tokens: 6, eos_token_id: [] };
    const plain = await model.generate(options);
    const [first, second] = await Promise.allSettled([
      model.generate({ ...options, past_key_values: cache }),
      model.generate({ ...options, past_key_values: cache }),
    ]);
    expect(first.status === "fulfilled" && first.value.tolist()).toEqual(plain.tolist());
    expect(second).toMatchObject({ status: "rejected", reason: { option: "past_key_values" } });
    const call = model({ input_ids: [[5]], past_key_values: cache });
    await expect(model({ input_ids: [[5]], past_key_values: cache })).rejects.toThrow(
      "in use by another call",
    );
    await call;
    await model({ input_ids: [[5]], past_key_values: cache });
  });

  it("of a model that was disposed", async () => {
    const other = await AutoModelForCausalLM.from_pretrained(GEMMA);
    await other({ input_ids: IDS });
    await other.dispose();
    await expect(other({ input_ids: IDS })).rejects.toThrow("the model was disposed");
    await expect(other.generate({ input_ids: IDS })).rejects.toThrow("the model was disposed");
  });

  it("of a loaded model in a pipeline of another task, and of options that can't reach it", async () => {
    const tokenizer = await AutoTokenizer.from_pretrained(GEMMA3);
    await expect(pipeline("text-classification", model, { tokenizer })).rejects.toThrow(
      "a Gemma3ForCausalLM is no model for text-classification",
    );
    await expect(pipeline("text-generation", model, { tokenizer, dtype: "q8" })).rejects.toThrow("dtype");
  });

  it("of a folder without a tokenizer, and of names that are none", async () => {
    await expect(AutoTokenizer.from_pretrained(GEMMA)).rejects.toThrow("there is no tokenizer.json");
    await expect(AutoModelForCausalLM.from_pretrained(undefined as never)).rejects.toThrow(
      "a model is named by",
    );
    const load = AutoModelForCausalLM.from_pretrained(GEMMA, { config: "x" as never });
    await expect(load).rejects.toThrow("config must be an object");
  });

  it("of images for a text model; null inputs are absent ones", async () => {
    const types = { token_type_ids: [[0, 1, 0, 0, 0, 0, 0, 0]] };
    await expect(model({ input_ids: IDS, ...types })).rejects.toThrow("takes text alone");
    await expect(model.generate({ input_ids: IDS, ...types })).rejects.toThrow("takes text alone");
    const nothing = {
      inputs_embeds: null,
      attention_mask: null,
      position_ids: null,
      labels: null,
      past_key_values: null,
      token_type_ids: [[0, 0, 0, 0, 0, 0, 0, 0]],
    };
    const output = await model({ input_ids: IDS, ...nothing });
    expect(output.logits.tolist()).toEqual((await model({ input_ids: IDS })).logits.tolist());
    expect(output.loss).toBeUndefined();
  });

  it("of the signal: its reason comes out while weights are packed", async () => {
    await writeTinyModel(folder, {
      model_type: "gemma",
      vocab_size: 40_000,
      hidden_size: 512,
      intermediate_size: 2048,
      num_hidden_layers: 2,
      num_attention_heads: 2,
      num_key_value_heads: 1,
      head_dim: 64,
    });
    const reason = new Error("enough");
    const abort = new AbortController();
    const load = AutoModelForCausalLM.from_pretrained(folder, {
      dtype: "q8",
      signal: abort.signal,
      progress_callback: ({ file }) => {
        if (file === "packing weights") abort.abort(reason);
      },
    });
    await expect(load).rejects.toBe(reason);
  });
});

const CLASSIFIER = resolve(import.meta.dirname, "../../../shared/golden/gemma1_classification/sequence");

describe.skipIf(!existsSync(CLASSIFIER))("a text whose last token is masked", () => {
  it("is classified by the last one that is not", async () => {
    const model = await GemmaForSequenceClassification.from_pretrained(CLASSIFIER);
    const whole = await model({ input_ids: [[2, 5, 6]] });
    const masked = await model({ input_ids: [[2, 5, 6, 7]], attention_mask: [[1, 1, 1, 0]] });
    for (const [i, value] of [...(whole.logits.data as Float32Array)].entries())
      expect(masked.logits.data[i]).toBeCloseTo(value, 4);
    expect((await model({ input_ids: [[2, 5, 6]], labels: [[1]] })).loss).toBeDefined();
    await model.dispose();
  });
});
