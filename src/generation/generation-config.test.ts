import { describe, expect, it } from "vitest";
import { FakeDecoder, FakeTokenizer } from "../../test/support/fake-decoder.ts";
import { InputError } from "../errors.ts";
import type { Tensor } from "../tensor.ts";
import { type GenerateOptions, generate } from "./generate.ts";
import { GenerationConfig, type GenerationOptions, resolveConfig } from "./generation-config.ts";
import { FIELD_NAMES } from "./generation-fields.ts";

/** Options beside which a field shows an effect. */
const GREEDY = { max_new_tokens: 8, eos_token_id: [] };
const SAMPLED = { ...GREEDY, do_sample: true, top_k: 0, seed: 3 };
const BEAMS = { ...GREEDY, num_beams: 3, eos_token_id: [4] };
const DICT = { ...GREEDY, return_dict_in_generate: true };

/** Fields that change what comes out: the options beside them and a value. */
const EFFECTS: Record<string, readonly [GenerateOptions, unknown]> = {
  max_length: [{}, 6],
  max_new_tokens: [{}, 3],
  min_length: [{ max_new_tokens: 8, eos_token_id: 26 }, 9],
  min_new_tokens: [{ max_new_tokens: 8, eos_token_id: 26 }, 5],
  early_stopping: [{ ...BEAMS, eos_token_id: [22, 26, 48], max_new_tokens: 20 }, true],
  max_time: [GREEDY, 0],
  stop_strings: [{ ...GREEDY, tokenizer: new FakeTokenizer([]) }, "0"],
  do_sample: [{ max_new_tokens: 8, seed: 1 }, true],
  num_beams: [GREEDY, 4],
  seed: [{ ...SAMPLED, seed: 1 }, 2],
  temperature: [SAMPLED, 5],
  top_k: [SAMPLED, 1],
  top_p: [SAMPLED, 0.05],
  min_p: [SAMPLED, 0.9],
  top_h: [SAMPLED, 0.05],
  typical_p: [SAMPLED, 0.05],
  epsilon_cutoff: [SAMPLED, 0.3],
  eta_cutoff: [SAMPLED, 0.5],
  repetition_penalty: [GREEDY, 0.001],
  encoder_repetition_penalty: [GREEDY, 100],
  length_penalty: [{ ...BEAMS, eos_token_id: [22, 26, 48], max_new_tokens: 12 }, -3],
  no_repeat_ngram_size: [{ ...GREEDY, repetition_penalty: 0.001 }, 1],
  encoder_no_repeat_ngram_size: [{ ...GREEDY, encoder_repetition_penalty: 100 }, 1],
  bad_words_ids: [GREEDY, [[26]]],
  renormalize_logits: [{ ...DICT, output_scores: true }, true],
  forced_bos_token_id: [{ ...GREEDY, input_ids: [[5]] }, 7],
  forced_eos_token_id: [GREEDY, 7],
  remove_invalid_values: [{ ...DICT, output_scores: true, bad_words_ids: [[9]] }, true],
  exponential_decay_length_penalty: [{ max_new_tokens: 8, eos_token_id: 7 }, [1, 9]],
  suppress_tokens: [GREEDY, [26]],
  begin_suppress_tokens: [GREEDY, [26]],
  sequence_bias: [GREEDY, [[[14, 7], 20]]],
  num_return_sequences: [SAMPLED, 2],
  output_hidden_states: [DICT, true],
  output_attentions: [DICT, true],
  output_scores: [DICT, true],
  output_logits: [DICT, true],
  return_dict_in_generate: [GREEDY, true],
  pad_token_id: [{ max_new_tokens: 8, input_ids: [[3, 14], [5]], eos_token_id: 26 }, 9],
  bos_token_id: [{ ...GREEDY, input_ids: null }, 2],
  eos_token_id: [{ max_new_tokens: 8 }, 26],
};

/** Fields that change how it comes out, not what: any value gives the same ids. */
const NEUTRAL: Record<string, readonly unknown[]> = {
  use_cache: [true, false],
  cache_implementation: ["dynamic", "static", "sliding_window", "hybrid", "hybrid_chunked", "quantized"],
  cache_config: [{ nbits: 8, residual_length: 4 }],
  max_cache_len: [64],
  prefill_chunk_size: [1],
  disable_compile: [true, false],
  num_assistant_tokens: [5],
  num_assistant_tokens_schedule: ["constant", "heuristic", "heuristic_transient"],
  assistant_confidence_threshold: [0, 0.4],
  prompt_lookup_num_tokens: [3],
  max_matching_ngram_size: [3],
};

const UNSUPPORTED: Record<string, unknown> = {
  use_mtp: true,
  token_healing: true,
  guidance_scale: 1.5,
  watermarking_config: {},
  decoder_start_token_id: 1,
  is_assistant: true,
  assistant_early_exit: 1,
  assistant_lookbehind: 5,
  target_lookbehind: 5,
  assistant_ensemble_weight: 0.5,
  speculation_type: "dflash",
  compile_config: {},
  continuous_batching_config: {},
  low_memory: true,
  penalty_alpha: 0.6,
  dola_layers: "high",
  diversity_penalty: 1,
  num_beam_groups: 2,
  constraints: [],
  force_words_ids: [],
};

const INVALID: Record<string, readonly unknown[]> = {
  num_assistant_tokens: [0, 1.5],
  num_assistant_tokens_schedule: ["adaptive", 1],
  assistant_confidence_threshold: [-0.1, 1.5],
  prompt_lookup_num_tokens: [0, 1.5, "3"],
  max_matching_ngram_size: [0, 2.5],
  max_length: [0, -1, 1.5, "9"],
  max_new_tokens: [0, -5, 2.5, Number.NaN],
  min_length: [-1],
  min_new_tokens: [-1, 0.5],
  early_stopping: ["always", 1],
  max_time: [-1, "1"],
  stop_strings: ["", [], [1]],
  do_sample: ["yes", 1],
  num_beams: [0, -2, 1.5],
  seed: [-1, 0.5],
  use_cache: ["no"],
  cache_implementation: ["offloaded", "paged", "nonsense"],
  cache_config: [{ nbits: 4 }, { bits: 8 }],
  max_cache_len: [0],
  prefill_chunk_size: [0],
  temperature: [-1, Number.POSITIVE_INFINITY],
  top_k: [-1, 2.5],
  top_p: [0, 1.1, -0.5],
  min_p: [-0.1, 1.5],
  top_h: [0, 2],
  typical_p: [0, 1.5],
  epsilon_cutoff: [1, -0.1],
  eta_cutoff: [1, -0.1],
  repetition_penalty: [0, -1],
  encoder_repetition_penalty: [0],
  length_penalty: ["long", Number.NaN],
  no_repeat_ngram_size: [-1, 1.5],
  encoder_no_repeat_ngram_size: [-1],
  bad_words_ids: [[], [[]], [1], [[-1]]],
  renormalize_logits: ["x"],
  forced_bos_token_id: [-1, 1.5],
  forced_eos_token_id: [-1, [1.5]],
  remove_invalid_values: [1],
  exponential_decay_length_penalty: [3, [1], [-1, 2], [1, -1]],
  suppress_tokens: [[-1], "x"],
  begin_suppress_tokens: [[0.5]],
  sequence_bias: [[], {}, [[1, 2]], [[[], 1]], [[[1], "x"]]],
  num_return_sequences: [0, 1.5],
  pad_token_id: [-1],
  bos_token_id: [0.5],
  eos_token_id: [-1, [1, -1], "1"],
};

describe("every field", () => {
  it("is in one of the lists here", () => {
    const listed = [EFFECTS, NEUTRAL, UNSUPPORTED].flatMap((list) => Object.keys(list));
    expect(listed.sort()).toEqual([...FIELD_NAMES].sort());
    expect(Object.keys(new GenerationConfig()).sort()).toEqual([...FIELD_NAMES].sort());
  });

  it.each(Object.entries(EFFECTS))("%s has an effect", async (name, [beside, value]) => {
    const without = name === "bos_token_id" ? "nothing" : await outcome(beside);
    expect(await outcome({ ...beside, [name]: value })).not.toBe(without);
  });

  it.each(Object.entries(NEUTRAL))("%s changes no result", async (name, values) => {
    for (const value of values) {
      expect(await outcome({ ...GREEDY, [name]: value })).toBe(await outcome(GREEDY));
    }
  });

  it.each(Object.entries(UNSUPPORTED))("%s is refused", async (name, value) => {
    const given = outcome({ ...GREEDY, [name]: value });
    await expect(given).rejects.toMatchObject({
      option: name,
      message: expect.stringContaining("isn't supported yet"),
    });
  });

  it("temperature 0 is for greedy decoding", async () => {
    const greedy = { ...GREEDY, temperature: 0 };
    expect(await outcome(greedy)).toBe(await outcome(GREEDY));
    await expect(outcome({ ...greedy, do_sample: true })).rejects.toThrow("set do_sample: false");
  });

  it.each(Object.entries(INVALID))("%s is checked", async (name, values) => {
    for (const value of values) {
      await expect(outcome({ ...GREEDY, [name]: value }), JSON.stringify(value)).rejects.toMatchObject({
        name: "InputError",
        option: name,
      });
    }
  });

  it("may be null", async () => {
    const nulls = Object.fromEntries([...FIELD_NAMES].map((name) => [name, null]));
    expect(await outcome({ ...nulls, ...GREEDY })).toBe(await outcome(GREEDY));
  });
});

describe("GenerationConfig", () => {
  it("reads generation_config.json and leaves out what it doesn't know", () => {
    const json = {
      top_k: 64,
      eos_token_id: [1, 106],
      cache_implementation: "hybrid",
      transformers_version: "4.50",
      x: 1,
    };
    const config = GenerationConfig.from_object(json);
    expect(config.to_object()).toEqual({ top_k: 64, eos_token_id: [1, 106] });
    expect(() => GenerationConfig.from_object([])).toThrow(InputError);
  });

  it("refuses unknown fields by name", () => {
    expect(() => new GenerationConfig({ temprature: 1 } as GenerationOptions)).toThrow(
      /did you mean "temperature"/,
    );
  });

  it("merges the call over its GenerationConfig over the model's over the defaults", () => {
    const model = GenerationConfig.from_object({ top_k: 64, top_p: 0.95, temperature: 0.5, eos_token_id: 1 });
    const inCall = new GenerationConfig({ top_p: 0.8, temperature: 0.7 });
    const config = resolveConfig({ temperature: 0.9, eos_token_id: null, min_p: undefined }, inCall, model);
    expect(config).toMatchObject({
      top_k: 64,
      top_p: 0.8,
      temperature: 0.9,
      eos_token_id: null,
      num_beams: 1,
    });
    expect(resolveConfig({}).top_k).toBe(50);
    expect(resolveConfig({ top_k: null }).top_k).toBeNull();
  });

  it("is taken by generate, also as a plain object", async () => {
    const plain = await outcome({ ...GREEDY, suppress_tokens: [26] });
    expect(
      await outcome({ generation_config: new GenerationConfig({ ...GREEDY, suppress_tokens: [26] }) }),
    ).toBe(plain);
    expect(await outcome({ ...GREEDY, generation_config: { suppress_tokens: [26] } })).toBe(plain);
  });

  it("refuses to force a token that is suppressed", () => {
    expect(() => resolveConfig({ forced_eos_token_id: [3], suppress_tokens: [3, 4] })).toThrow(
      /suppress_tokens/,
    );
  });
});

/** All that comes out of a call, as text to compare. */
async function outcome(options: GenerateOptions): Promise<string> {
  const output = await generate(
    new FakeDecoder(50),
    { input_ids: [[3, 14]], ...options },
    { warn: () => undefined },
  );
  const list = (tensors: readonly Tensor[] | undefined): unknown =>
    tensors?.map((tensor) => [...tensor.data].join());
  if (!("sequences" in output)) return JSON.stringify([list([output])]);
  const { sequences, scores, logits, hidden_states, attentions } = output;
  return JSON.stringify([
    list([sequences]),
    { scores: list(scores), logits: list(logits) },
    hidden_states?.map(list),
    attentions?.map(list),
  ]);
}
