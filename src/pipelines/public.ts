/** What lapidary exports of pipelines. */
export { Pipeline } from "./base.ts";
export type { AggregationStrategy, EntityGroup, TokenEntity } from "./entities.ts";
export { type FeatureExtractionOptions, FeatureExtractionPipeline } from "./feature-extraction.ts";
export type { Chat, GenerativeModel } from "./generating.ts";
export {
  ImageTextToTextPipeline,
  type MediaTextInputs,
  type MediaTextOptions,
  type MediaTextOutput,
} from "./image-text-to-text.ts";
export { type PipelineArguments, type PipelineOptions, type PipelineTask, pipeline } from "./pipeline.ts";
export { type SentenceSimilarityInput, SentenceSimilarityPipeline } from "./sentence-similarity.ts";
export {
  AutomaticSpeechRecognitionPipeline,
  type SpeechRecognitionOptions,
  type SpeechRecognitionOutput,
} from "./speech-recognition.ts";
export {
  type ClassifiedLabel,
  type TextClassificationOptions,
  TextClassificationPipeline,
} from "./text-classification.ts";
export {
  type TextGenerationOptions,
  type TextGenerationOutput,
  TextGenerationPipeline,
} from "./text-generation.ts";
export { type TokenClassificationOptions, TokenClassificationPipeline } from "./token-classification.ts";
