import { InputError, rejectUnknownOptions } from "../errors.ts";
import { isPlainObject } from "./checks.ts";
import { checkField, FIELD_DEFAULTS, FIELD_NAMES, METADATA_NAMES } from "./generation-fields.ts";
import type { SequenceBias } from "./logits-processors/bias.ts";
import { checkedTemperature } from "./logits-processors/warpers.ts";

/**
 * How text is generated, under HF's names (transformers 5.18). A field that is null is not set: generate takes the
 * model's value, then HF's default. Lengths count tokens, times are in seconds.
 */
export class GenerationConfig {
  // Length
  /** Prompt and new tokens together. Without this and max_new_tokens 20 tokens are generated. */
  max_length: number | null = null;
  /** New tokens; wins over max_length. */
  max_new_tokens: number | null = null;
  /** Prompt and new tokens together: no end token before. */
  min_length: number | null = null;
  min_new_tokens: number | null = null;
  /** Beam search: true stops at num_beams finished beams, false when a better one is unlikely, "never" impossible. */
  early_stopping: boolean | "never" | null = null;
  /** Seconds, after which the current step is the last. */
  max_time: number | null = null;
  stop_strings: string | readonly string[] | null = null;

  // Strategy
  do_sample: boolean | null = null;
  num_beams: number | null = null;
  use_mtp: boolean | null = null;
  /** lapidary's own: makes sampling repeatable. An integer; each row has a random stream of its own. */
  seed: number | null = null;

  // Cache
  /** false computes the whole row anew for every token. */
  use_cache: boolean | null = null;
  /** "dynamic" grows, "static" reserves the whole length at once. */
  cache_implementation: string | null = null;
  cache_config: object | null = null;
  /** Positions that a static cache reserves at least. */
  max_cache_len: number | null = null;
  /** Tokens of the prompt computed at a time. */
  prefill_chunk_size: number | null = null;

  // Scores
  temperature: number | null = null;
  /** 0 switches it off. */
  top_k: number | null = null;
  top_p: number | null = null;
  min_p: number | null = null;
  top_h: number | null = null;
  typical_p: number | null = null;
  epsilon_cutoff: number | null = null;
  eta_cutoff: number | null = null;
  repetition_penalty: number | null = null;
  encoder_repetition_penalty: number | null = null;
  /** Beam search: scores are divided by length ** length_penalty. */
  length_penalty: number | null = null;
  no_repeat_ngram_size: number | null = null;
  encoder_no_repeat_ngram_size: number | null = null;
  bad_words_ids: readonly (readonly number[])[] | null = null;
  renormalize_logits: boolean | null = null;
  forced_bos_token_id: number | null = null;
  forced_eos_token_id: number | readonly number[] | null = null;
  remove_invalid_values: boolean | null = null;
  /** [start, factor], start counted from the end of the prompt. */
  exponential_decay_length_penalty: readonly [number, number] | null = null;
  suppress_tokens: readonly number[] | null = null;
  begin_suppress_tokens: readonly number[] | null = null;
  sequence_bias: SequenceBias | null = null;
  token_healing: boolean | null = null;
  guidance_scale: number | null = null;
  watermarking_config: object | null = null;

  // Output
  num_return_sequences: number | null = null;
  output_attentions: boolean | null = null;
  output_hidden_states: boolean | null = null;
  output_scores: boolean | null = null;
  output_logits: boolean | null = null;
  return_dict_in_generate: boolean | null = null;

  // Tokens
  pad_token_id: number | null = null;
  bos_token_id: number | null = null;
  /** One id, a list, or []: nothing but lengths, times and criteria ends a row. */
  eos_token_id: number | readonly number[] | null = null;
  decoder_start_token_id: number | number[] | null = null;

  // Assisted generation
  is_assistant: boolean | null = null;
  /** Tokens that the assistant drafts at a time; 20 unless its own configuration says otherwise. */
  num_assistant_tokens: number | null = null;
  /** "constant"; "heuristic" drafts 2 more when all were right, else 1 less, and "heuristic_transient" for one call. */
  num_assistant_tokens_schedule: string | null = null;
  /** The assistant stops drafting after a token that it gives a smaller probability; 0.4. */
  assistant_confidence_threshold: number | null = null;
  /** Guesses, so many tokens at most, that the text goes on as it did where its last tokens stood before. */
  prompt_lookup_num_tokens: number | null = null;
  /** How many last tokens are looked for in the text at most; 2. */
  max_matching_ngram_size: number | null = null;
  assistant_early_exit: number | null = null;
  assistant_lookbehind: number | null = null;
  target_lookbehind: number | null = null;
  assistant_ensemble_weight: number | null = null;
  speculation_type: string | null = null;

  // Performance, and what HF has moved out of transformers
  compile_config: object | null = null;
  disable_compile: boolean | null = null;
  continuous_batching_config: object | null = null;
  low_memory: boolean | null = null;
  penalty_alpha: number | null = null;
  dola_layers: string | number[] | null = null;
  diversity_penalty: number | null = null;
  num_beam_groups: number | null = null;
  constraints: unknown[] | null = null;
  force_words_ids: unknown[] | null = null;

  /** Sets fields; an unknown one is an InputError that names the nearest. */
  constructor(values: GenerationOptions = {}) {
    this.update(values);
  }

  /** From the contents of generation_config.json. Keys that lapidary does not know are left out. */
  static from_object(object: unknown): GenerationConfig {
    if (!isPlainObject(object)) throw new InputError("generation_config.json must hold an object");
    const known = Object.entries(object).filter(([name]) => FIELD_NAMES.has(name));
    const config = new GenerationConfig(Object.fromEntries(known));
    // The caches of old Gemma configurations; HF drops the name as well and takes its default.
    if (config.cache_implementation === "hybrid") config.cache_implementation = null;
    return config;
  }

  /** Sets the fields that `values` has; null unsets one. */
  update(values: GenerationOptions): this {
    rejectUnknownOptions(values, [...FIELD_NAMES, ...METADATA_NAMES], "GenerationConfig");
    for (const [name, value] of Object.entries(values)) {
      if (FIELD_NAMES.has(name) && value !== undefined) Object.assign(this, { [name]: value });
    }
    return this;
  }

  /** Throws an InputError for the first field whose value can't be used or isn't supported. */
  validate(): void {
    for (const [name, value] of Object.entries(this)) if (value !== null) checkField(name, value);
    checkTogether(this);
  }

  /** The fields that are set, for JSON. */
  to_object(): GenerationOptions {
    return Object.fromEntries(Object.entries(this).filter(([, value]) => value !== null));
  }
}

/** The fields of a GenerationConfig. */
export type GenerationFields = {
  [K in keyof GenerationConfig as GenerationConfig[K] extends (...args: never[]) => unknown
    ? never
    : K]: GenerationConfig[K];
};

/** Some of the fields of a GenerationConfig; undefined means not given. */
export type GenerationOptions = { [K in keyof GenerationFields]?: GenerationFields[K] | undefined };

/**
 * The configuration of one call: the call's own options, then those of the GenerationConfig given in the call, of
 * the model, and HF's defaults. A null among the call's own options unsets a field for good.
 */
export function resolveConfig(
  options: GenerationOptions,
  ...configs: readonly (GenerationConfig | undefined)[]
): GenerationConfig {
  const resolved = new GenerationConfig();
  for (const layer of [FIELD_DEFAULTS, ...configs.map((config) => config?.to_object() ?? {}).reverse()]) {
    resolved.update(layer);
  }
  resolved.update(options);
  resolved.validate();
  return resolved;
}

function checkTogether(config: GenerationConfig): void {
  const beams = config.num_beams ?? 1;
  const returned = config.num_return_sequences ?? 1;
  if (config.do_sample === true && config.temperature !== null) checkedTemperature(config.temperature);
  if (returned > 1 && beams === 1 && config.do_sample !== true) {
    throw new InputError(`num_return_sequences ${returned} needs do_sample or num_beams`, {
      option: "num_return_sequences",
    });
  }
  if (beams > 1 && returned > beams) {
    throw new InputError(`num_return_sequences ${returned} must not be larger than num_beams ${beams}`, {
      option: "num_return_sequences",
    });
  }
  for (const option of ["forced_bos_token_id", "forced_eos_token_id"] as const) {
    const forced = [config[option] ?? []].flat();
    if (forced.length > 0 && forced.every((id) => config.suppress_tokens?.includes(id))) {
      throw new InputError(`${option} ${forced.join(", ")} is among suppress_tokens`, { option });
    }
  }
}
