import { InputError } from "../../errors.ts";
import type { GenerationConfig } from "../generation-config.ts";
import type { LogitsProcessorCall } from "../logits-processors/base.ts";
import { Assistant, type AssistantModel } from "./assistant.ts";
import type { Drafter } from "./draft.ts";
import { PromptLookup } from "./prompt-lookup.ts";

/** What a drafter depends on, besides the configuration of the call. */
export interface DrafterContext {
  readonly assistant: AssistantModel | undefined;
  readonly vocab_size: number;
  /** Prompts in the call. */
  readonly batch: number;
  readonly eos: readonly number[];
  readonly seed: number | bigint;
  /** Makes the processors that an assistant's guesses go through: apart from the text's own, which may count calls. */
  readonly processors: () => Iterable<LogitsProcessorCall>;
  readonly signal: AbortSignal | undefined;
}

/** Where the guesses of a call come from; undefined where it asks for none. Throws an InputError where it can't be. */
export function buildDrafter(config: GenerationConfig, context: DrafterContext): Drafter | undefined {
  const { assistant, eos } = context;
  const lookup = config.prompt_lookup_num_tokens;
  if (lookup === null && assistant === undefined) return undefined;
  checkOneRow(config, context.batch, lookup === null ? "assistant_model" : "prompt_lookup_num_tokens");
  if (lookup !== null) {
    const { max_matching_ngram_size } = config;
    return new PromptLookup({ prompt_lookup_num_tokens: lookup, max_matching_ngram_size, eos });
  }
  checkAssistant(assistant!, context.vocab_size);
  return new Assistant(assistant!, { ...context, config, processors: context.processors() });
}

/** As in HF: greedy decoding or sampling of one row, with a cache. */
function checkOneRow(config: GenerationConfig, batch: number, asked: string): void {
  const refuse = (option: string, problem: string): never => {
    throw new InputError(`${asked} needs ${problem}`, { option });
  };
  const beams = config.num_beams ?? 1;
  const returned = config.num_return_sequences ?? 1;
  if (beams > 1) refuse("num_beams", `greedy decoding or sampling, got num_beams ${beams}`);
  if (returned > 1) refuse("num_return_sequences", `num_return_sequences 1, got ${returned}`);
  if (batch > 1) refuse("input_ids", `one row of input_ids, got ${batch}: generate row by row`);
  if (config.use_cache === false) refuse("use_cache", "a cache, got use_cache false");
}

function checkAssistant(assistant: AssistantModel, vocab_size: number): void {
  const option = "assistant_model";
  const { decoder } = assistant as Partial<AssistantModel>;
  if (typeof decoder?.step !== "function") {
    throw new InputError("assistant_model must be a loaded model, or an object with a decoder", { option });
  }
  if (decoder.vocab_size !== vocab_size) {
    throw new InputError(
      `assistant_model has a vocabulary of ${decoder.vocab_size} tokens, the model one of ${vocab_size}: only models with the same tokens can work together`,
      { option },
    );
  }
}
