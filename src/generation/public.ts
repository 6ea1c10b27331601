/** What lapidary exports of generation. */
export {
  Cache,
  type CacheEntries,
  type CacheLayerInfo,
  DynamicCache,
  type PastKeyValues,
  type RowIndices,
} from "./cache.ts";
export type { LegacyCache } from "./cache-tensors.ts";
export type { ChatStats } from "./chat-reply.ts";
export {
  type ChatGenerationOptions,
  type ChatModel,
  ChatSession,
  type ChatSessionOptions,
  type ChatTokenizer,
} from "./chat-session.ts";
export type { ConstraintOptions, ResponseFormat } from "./constraints/constraint.ts";
export {
  GrammarConstrainedLogitsProcessor,
  type GrammarConstraintOptions,
} from "./constraints/processor.ts";
export type { ConstraintTokenizer } from "./constraints/vocabulary.ts";
export type { Decoder, DecoderCache, DecoderStep } from "./decoder.ts";
export {
  type GenerateContext,
  type GenerateOptions,
  type GenerateResult,
  generate,
} from "./generate.ts";
export { GenerationConfig, type GenerationFields, type GenerationOptions } from "./generation-config.ts";
export {
  CandidateWarper,
  LogitsProcessor,
  type LogitsProcessorCall,
  LogitsProcessorList,
  LogitsWarper,
  type TokenRows,
} from "./logits-processors/base.ts";
export {
  NoBadWordsLogitsProcessor,
  type SequenceBias,
  SequenceBiasLogitsProcessor,
} from "./logits-processors/bias.ts";
export type { Candidates } from "./logits-processors/candidates.ts";
export {
  EpsilonLogitsWarper,
  EtaLogitsWarper,
  LogitNormalization,
  TypicalLogitsWarper,
} from "./logits-processors/entropy-warpers.ts";
export {
  ExponentialDecayLengthPenalty,
  ForcedBOSTokenLogitsProcessor,
  ForcedEOSTokenLogitsProcessor,
  MinLengthLogitsProcessor,
  MinNewTokensLengthLogitsProcessor,
} from "./logits-processors/length.ts";
export {
  EncoderNoRepeatNGramLogitsProcessor,
  EncoderRepetitionPenaltyLogitsProcessor,
  NoRepeatNGramLogitsProcessor,
  RepetitionPenaltyLogitsProcessor,
} from "./logits-processors/repetition.ts";
export {
  InfNanRemoveLogitsProcessor,
  type PrefixAllowedTokensFn,
  PrefixConstrainedLogitsProcessor,
  SuppressTokensAtBeginLogitsProcessor,
  SuppressTokensLogitsProcessor,
} from "./logits-processors/tokens.ts";
export {
  type FilterOptions,
  MinPLogitsWarper,
  TemperatureLogitsWarper,
  TopHLogitsWarper,
  TopKLogitsWarper,
  TopPLogitsWarper,
} from "./logits-processors/warpers.ts";
export { softmax } from "./math.ts";
export type {
  GenerateBeamDecoderOnlyOutput,
  GenerateDecoderOnlyOutput,
  GenerateOutput,
} from "./output.ts";
export { QuantizedCache, type QuantizedCacheOptions } from "./quantized-cache.ts";
export { Random } from "./sampling.ts";
export type { AssistantModel } from "./speculation/assistant.ts";
export { StaticCache, type StaticCacheOptions } from "./static-cache.ts";
export {
  EosTokenCriteria,
  InterruptableStoppingCriteria,
  MaxLengthCriteria,
  MaxTimeCriteria,
  StoppingCriteria,
  type StoppingCriteriaCall,
  StoppingCriteriaList,
  StopStringCriteria,
  type TokenDecoder,
} from "./stopping.ts";
export { BaseStreamer, TextIteratorStreamer, TextStreamer, type TextStreamerOptions } from "./streamer.ts";
