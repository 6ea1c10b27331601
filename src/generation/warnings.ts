import type { GenerationConfig, GenerationOptions } from "./generation-config.ts";
import type { AssistantModel } from "./speculation/assistant.ts";

/** Options and the values at which they change nothing anyway. */
type Neutral = readonly (readonly [keyof GenerationOptions, ...unknown[]])[];

const SAMPLING_ONLY: Neutral = [
  ["temperature", 1],
  ["top_k", 0, 50],
  ["top_p", 1],
  ["min_p"],
  ["top_h"],
  ["typical_p", 1],
  ["epsilon_cutoff", 0],
  ["eta_cutoff", 0],
];
const BEAMS_ONLY: Neutral = [
  ["early_stopping", false],
  ["length_penalty", 1],
];
const ASSISTANT_ONLY: Neutral = [
  ["num_assistant_tokens"],
  ["num_assistant_tokens_schedule"],
  ["assistant_confidence_threshold"],
];
const DICT_ONLY: Neutral = [
  ["output_scores", false],
  ["output_logits", false],
  ["output_hidden_states", false],
];

/** Remarks on options of a call (`own`, not the model's) that have no effect beside the others, as HF makes them. */
export function warnings(
  own: GenerationOptions & { assistant_model?: AssistantModel | null | undefined },
  config: GenerationConfig,
  promptLength: number,
  maxLength: number,
): string[] {
  const given = (options: Neutral): string =>
    options
      .filter(([name, ...neutral]) => !([undefined, null, ...neutral] as unknown[]).includes(own[name]))
      .map(([name]) => name)
      .join(", ");
  const remarks: string[] = [];
  const sampling = given(SAMPLING_ONLY);
  if (sampling !== "" && config.do_sample !== true) remarks.push(`${sampling}: no effect without do_sample`);
  const beams = given(BEAMS_ONLY);
  if (beams !== "" && (config.num_beams ?? 1) === 1)
    remarks.push(`${beams}: no effect without num_beams > 1`);
  const outputs = given(DICT_ONLY);
  if (outputs !== "" && config.return_dict_in_generate !== true) {
    remarks.push(`${outputs}: no effect without return_dict_in_generate`);
  }
  const assistant = given(ASSISTANT_ONLY);
  if (assistant !== "" && !own.assistant_model)
    remarks.push(`${assistant}: no effect without assistant_model`);
  if (own.assistant_model && config.prompt_lookup_num_tokens !== null)
    remarks.push("assistant_model: no effect beside prompt_lookup_num_tokens");
  if (given([["max_matching_ngram_size"]]) !== "" && config.prompt_lookup_num_tokens === null)
    remarks.push("max_matching_ngram_size: no effect without prompt_lookup_num_tokens");
  if (given([["max_length"]]) !== "" && given([["max_new_tokens"]]) !== "") {
    remarks.push("max_length: no effect beside max_new_tokens");
  }
  const least = config.min_new_tokens === null ? config.min_length : promptLength + config.min_new_tokens;
  if (least !== null && least > maxLength) {
    remarks.push(`the least length of ${least} tokens is beyond the greatest, ${maxLength}`);
  }
  return remarks;
}
