import { InputError } from "../errors.ts";
import { tokenId, tokenIds } from "./checks.ts";
import {
  GrammarCompleteCriteria,
  GrammarConstrainedLogitsProcessor,
  type GrammarConstraintOptions,
} from "./constraints/processor.ts";
import type { GenerationConfig } from "./generation-config.ts";
import { type LogitsProcessorCall, LogitsProcessorList } from "./logits-processors/base.ts";
import { NoBadWordsLogitsProcessor, SequenceBiasLogitsProcessor } from "./logits-processors/bias.ts";
import {
  EpsilonLogitsWarper,
  EtaLogitsWarper,
  LogitNormalization,
  TypicalLogitsWarper,
} from "./logits-processors/entropy-warpers.ts";
import {
  ExponentialDecayLengthPenalty,
  ForcedBOSTokenLogitsProcessor,
  ForcedEOSTokenLogitsProcessor,
  MinLengthLogitsProcessor,
  MinNewTokensLengthLogitsProcessor,
} from "./logits-processors/length.ts";
import {
  EncoderNoRepeatNGramLogitsProcessor,
  EncoderRepetitionPenaltyLogitsProcessor,
  NoRepeatNGramLogitsProcessor,
  RepetitionPenaltyLogitsProcessor,
} from "./logits-processors/repetition.ts";
import {
  InfNanRemoveLogitsProcessor,
  type PrefixAllowedTokensFn,
  PrefixConstrainedLogitsProcessor,
  SuppressTokensAtBeginLogitsProcessor,
  SuppressTokensLogitsProcessor,
} from "./logits-processors/tokens.ts";
import {
  MinPLogitsWarper,
  TemperatureLogitsWarper,
  TopHLogitsWarper,
  TopKLogitsWarper,
  TopPLogitsWarper,
} from "./logits-processors/warpers.ts";
import {
  EosTokenCriteria,
  MaxLengthCriteria,
  MaxTimeCriteria,
  type StoppingCriteriaCall,
  StoppingCriteriaList,
  StopStringCriteria,
  type TokenDecoder,
} from "./stopping.ts";

/** What the processors and criteria of one call depend on, besides its configuration. */
export interface BuildContext {
  /** Tokens of each prompt, padding included. */
  readonly promptLength: number;
  readonly maxLength: number;
  readonly eos: readonly number[];
  /** The prompts, padding included. */
  readonly prompts: readonly bigint[][];
  /** Rows for each prompt. */
  readonly copies: number;
  /** What the texts must keep to, if anything. */
  readonly constraint?: GrammarConstraintOptions | undefined;
}

/** The processors that a configuration asks for, in HF's order, the call's own before the warpers. */
export function buildProcessors(
  config: GenerationConfig,
  context: BuildContext,
  prefix_allowed_tokens_fn: PrefixAllowedTokensFn | undefined,
  custom: Iterable<LogitsProcessorCall>,
): LogitsProcessorList {
  const built = mergeCustom(scoreProcessors(config, context, prefix_allowed_tokens_fn), custom);
  if (config.do_sample === true) built.push(...samplingWarpers(config, context));
  if (config.renormalize_logits === true) built.push(new LogitNormalization());
  return new LogitsProcessorList(built);
}

function scoreProcessors(
  config: GenerationConfig,
  { promptLength, maxLength, eos, prompts, copies, constraint }: BuildContext,
  allowed: PrefixAllowedTokensFn | undefined,
): LogitsProcessorCall[] {
  const built: LogitsProcessorCall[] = [];
  const beams = config.num_beams ?? 1;
  if (config.sequence_bias !== null) built.push(new SequenceBiasLogitsProcessor(config.sequence_bias));
  if ((config.encoder_repetition_penalty ?? 1) !== 1) {
    built.push(new EncoderRepetitionPenaltyLogitsProcessor(config.encoder_repetition_penalty!, prompts));
  }
  if ((config.repetition_penalty ?? 1) !== 1) {
    built.push(new RepetitionPenaltyLogitsProcessor(config.repetition_penalty!));
  }
  if ((config.no_repeat_ngram_size ?? 0) > 0) {
    built.push(new NoRepeatNGramLogitsProcessor(config.no_repeat_ngram_size!));
  }
  if ((config.encoder_no_repeat_ngram_size ?? 0) > 0) {
    built.push(new EncoderNoRepeatNGramLogitsProcessor(config.encoder_no_repeat_ngram_size!, prompts));
  }
  if (config.bad_words_ids !== null) built.push(new NoBadWordsLogitsProcessor(config.bad_words_ids, eos));
  if ((config.min_length ?? 0) > 0 && config.min_new_tokens === null && eos.length > 0) {
    built.push(new MinLengthLogitsProcessor(config.min_length!, eos));
  }
  if ((config.min_new_tokens ?? 0) > 0 && eos.length > 0) {
    built.push(new MinNewTokensLengthLogitsProcessor(promptLength, config.min_new_tokens!, eos));
  }
  if (allowed !== undefined) {
    // In sampling each row stands for itself; the function still gets the number of its prompt.
    const byPrompt: PrefixAllowedTokensFn =
      beams > 1 ? allowed : (row, ids) => allowed(Math.floor(row / copies), ids);
    built.push(new PrefixConstrainedLogitsProcessor(byPrompt, beams));
  }
  if (config.forced_bos_token_id !== null) {
    built.push(new ForcedBOSTokenLogitsProcessor(tokenId("forced_bos_token_id", config.forced_bos_token_id)));
  }
  if (config.forced_eos_token_id !== null) {
    const forced = tokenIds("forced_eos_token_id", config.forced_eos_token_id);
    built.push(new ForcedEOSTokenLogitsProcessor(maxLength, forced));
  }
  if (config.remove_invalid_values === true) built.push(new InfNanRemoveLogitsProcessor());
  if (config.exponential_decay_length_penalty !== null) {
    built.push(new ExponentialDecayLengthPenalty(config.exponential_decay_length_penalty, eos, promptLength));
  }
  if (config.suppress_tokens !== null) built.push(new SuppressTokensLogitsProcessor(config.suppress_tokens));
  if (config.begin_suppress_tokens !== null) {
    const begin = promptLength > 1 || config.forced_bos_token_id === null ? promptLength : promptLength + 1;
    built.push(new SuppressTokensAtBeginLogitsProcessor(config.begin_suppress_tokens, begin));
  }
  // Last, as it wins where the others leave nothing that it allows.
  if (constraint !== undefined) built.push(new GrammarConstrainedLogitsProcessor(constraint));
  return built;
}

function samplingWarpers(config: GenerationConfig, { eos }: BuildContext): LogitsProcessorCall[] {
  // Beams need a token besides the end tokens to go on with.
  const min_tokens_to_keep = (config.num_beams ?? 1) === 1 ? 1 : Math.max(eos.length, 1) + 1;
  const keep = { min_tokens_to_keep };
  const built: LogitsProcessorCall[] = [];
  if ((config.temperature ?? 1) !== 1) built.push(new TemperatureLogitsWarper(config.temperature!));
  if (config.top_h !== null) built.push(new TopHLogitsWarper(config.top_h));
  if ((config.top_k ?? 0) > 0) built.push(new TopKLogitsWarper(config.top_k!, keep));
  if ((config.top_p ?? 1) < 1) built.push(new TopPLogitsWarper(config.top_p!, keep));
  if (config.min_p !== null) built.push(new MinPLogitsWarper(config.min_p, keep));
  if ((config.typical_p ?? 1) < 1) built.push(new TypicalLogitsWarper(config.typical_p!, keep));
  if ((config.epsilon_cutoff ?? 0) > 0) built.push(new EpsilonLogitsWarper(config.epsilon_cutoff!, keep));
  if ((config.eta_cutoff ?? 0) > 0) built.push(new EtaLogitsWarper(config.eta_cutoff!, keep));
  return built;
}

/** The criteria that a configuration asks for, and the call's own. */
export function buildCriteria(
  config: GenerationConfig,
  { maxLength, eos, constraint }: BuildContext,
  tokenizer: TokenDecoder | undefined,
  custom: Iterable<StoppingCriteriaCall>,
): StoppingCriteriaList {
  const built: StoppingCriteriaCall[] = [new MaxLengthCriteria(maxLength)];
  if (config.max_time !== null) built.push(new MaxTimeCriteria(config.max_time));
  if (config.stop_strings !== null) {
    if (tokenizer === undefined) {
      throw new InputError("stop_strings needs the tokenizer: give it as the option `tokenizer`", {
        option: "stop_strings",
      });
    }
    built.push(new StopStringCriteria(tokenizer, config.stop_strings));
  }
  if (eos.length > 0) built.push(new EosTokenCriteria(eos));
  else if (constraint !== undefined) built.push(new GrammarCompleteCriteria(constraint));
  return new StoppingCriteriaList(mergeCustom(built, custom));
}

/** A custom object takes the place of a built one of the same class; the others follow, as in HF. */
function mergeCustom<T extends { readonly constructor: unknown }>(
  built: readonly T[],
  custom: Iterable<T>,
): T[] {
  const own = [...custom];
  const merged = built.map((item) => own.find((other) => other.constructor === item.constructor) ?? item);
  return [...merged, ...own.filter((item) => !merged.includes(item))];
}
