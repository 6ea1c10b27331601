import { InputError } from "../errors.ts";
import {
  integerFrom,
  invalid,
  isPlainObject,
  numberWhere,
  oneOf,
  sequenceBiases,
  tokenId,
  tokenIds,
  tokenSequences,
} from "./checks.ts";
import type { GenerationFields, GenerationOptions } from "./generation-config.ts";
import { decayPenalty } from "./logits-processors/length.ts";
import { QuantizedCache, type QuantizedCacheOptions } from "./quantized-cache.ts";
import { stopStrings } from "./stopping.ts";

/** Throws an InputError unless `value`, which is not null, can be the value of the field. */
type Check = (option: string, value: unknown) => unknown;

const positive: Check = (option, value) => integerFrom(option, value, 1);
const count: Check = (option, value) => integerFrom(option, value, 0);
const boolean: Check = (option, value) => oneOf(option, value, [true, false]);
const above0: Check = (option, value) => numberWhere(option, value, "a number greater than 0", (n) => n > 0);
const above0To1: Check = (option, value) =>
  numberWhere(option, value, "a number in (0, 1]", (n) => n > 0 && n <= 1);
const from0To1: Check = (option, value) =>
  numberWhere(option, value, "a number in [0, 1]", (n) => n >= 0 && n <= 1);
const below1: Check = (option, value) =>
  numberWhere(option, value, "a number in [0, 1)", (n) => n >= 0 && n < 1);

/** A field of HF's that lapidary has no code for: only the values that change nothing pass. */
function unsupported(...neutral: readonly unknown[]): Check {
  return (option, value) => {
    if (neutral.includes(value)) return;
    throw new InputError(`${option} isn't supported yet`, { option });
  };
}

/** How the number of drafted tokens follows what became of the last ones. */
export const ASSISTANT_SCHEDULES = ["constant", "heuristic", "heuristic_transient"] as const;

const CACHES = ["dynamic", "static", "sliding_window", "hybrid", "hybrid_chunked", "quantized"];
/** HF's other caches, and why there is none here. */
const OTHER_CACHES: Readonly<Record<string, string>> = {
  offloaded: "caches are in main memory anyway",
  offloaded_static: "caches are in main memory anyway",
  offloaded_hybrid: "caches are in main memory anyway",
  offloaded_hybrid_chunked: "caches are in main memory anyway",
  paged: "there is no continuous batching in generate",
};

const CHECKS: Record<keyof GenerationFields, Check> = {
  max_length: positive,
  max_new_tokens: positive,
  min_length: count,
  min_new_tokens: count,
  early_stopping: (option, value) => oneOf(option, value, [true, false, "never"]),
  max_time: (option, value) => numberWhere(option, value, "a number of seconds", (n) => n >= 0),
  stop_strings: (_, value) => stopStrings(value),
  do_sample: boolean,
  num_beams: positive,
  use_mtp: unsupported(false),
  seed: count,
  use_cache: boolean,
  cache_implementation: (option, value) => {
    const reason = Object.hasOwn(OTHER_CACHES, String(value)) ? OTHER_CACHES[String(value)] : undefined;
    if (reason !== undefined)
      throw new InputError(`${option} "${String(value)}" isn't supported: ${reason}`, { option });
    oneOf(option, value, CACHES);
  },
  cache_config: (option, value) => {
    if (!isPlainObject(value)) throw invalid(option, "an object", value);
    try {
      new QuantizedCache(value as QuantizedCacheOptions);
    } catch (cause) {
      if (!(cause instanceof InputError)) throw cause;
      throw new InputError(`${option}: ${cause.message}`, { option, cause });
    }
  },
  max_cache_len: positive,
  prefill_chunk_size: positive,
  temperature: (option, value) => numberWhere(option, value, "a number from 0", (n) => n >= 0),
  top_k: count,
  top_p: above0To1,
  min_p: from0To1,
  top_h: above0To1,
  typical_p: above0To1,
  epsilon_cutoff: below1,
  eta_cutoff: below1,
  repetition_penalty: above0,
  encoder_repetition_penalty: above0,
  length_penalty: (option, value) => numberWhere(option, value, "a number"),
  no_repeat_ngram_size: count,
  encoder_no_repeat_ngram_size: count,
  bad_words_ids: (option, value) => {
    if (tokenSequences(option, value).length === 0) throw invalid(option, "a non-empty list", value);
  },
  renormalize_logits: boolean,
  forced_bos_token_id: tokenId,
  forced_eos_token_id: tokenIds,
  remove_invalid_values: boolean,
  exponential_decay_length_penalty: (_, value) => decayPenalty(value),
  suppress_tokens: tokenIds,
  begin_suppress_tokens: tokenIds,
  sequence_bias: sequenceBiases,
  token_healing: unsupported(false),
  guidance_scale: unsupported(1),
  watermarking_config: unsupported(),
  num_return_sequences: positive,
  output_attentions: boolean,
  output_hidden_states: boolean,
  output_scores: boolean,
  output_logits: boolean,
  return_dict_in_generate: boolean,
  pad_token_id: tokenId,
  bos_token_id: tokenId,
  eos_token_id: tokenIds,
  decoder_start_token_id: unsupported(),
  is_assistant: unsupported(false),
  num_assistant_tokens: positive,
  num_assistant_tokens_schedule: (option, value) => oneOf(option, value, ASSISTANT_SCHEDULES),
  assistant_confidence_threshold: from0To1,
  prompt_lookup_num_tokens: positive,
  max_matching_ngram_size: positive,
  assistant_early_exit: unsupported(),
  assistant_lookbehind: unsupported(10),
  target_lookbehind: unsupported(10),
  assistant_ensemble_weight: unsupported(),
  speculation_type: unsupported(),
  compile_config: unsupported(),
  // Nothing is compiled, whatever it says.
  disable_compile: boolean,
  continuous_batching_config: unsupported(),
  low_memory: unsupported(false),
  penalty_alpha: unsupported(0),
  dola_layers: unsupported(),
  diversity_penalty: unsupported(0),
  num_beam_groups: unsupported(1),
  constraints: unsupported(),
  force_words_ids: unsupported(),
};

/** HF's defaults where a null field would not mean the same. Lengths are worked out in generate. */
export const FIELD_DEFAULTS: GenerationOptions = {
  do_sample: false,
  use_cache: true,
  early_stopping: false,
  num_beams: 1,
  top_k: 50,
  length_penalty: 1,
  num_return_sequences: 1,
};

/** The names of all fields of a GenerationConfig. */
export const FIELD_NAMES: ReadonlySet<string> = new Set(Object.keys(CHECKS));

/** Keys of generation_config.json that say where it comes from. */
export const METADATA_NAMES: readonly string[] = [
  "transformers_version",
  "_from_model_config",
  "_commit_hash",
];

/** Throws an InputError unless `value`, which is not null, can be the value of the field `name`. */
export function checkField(name: string, value: unknown): void {
  CHECKS[name as keyof GenerationFields](name, value);
}
