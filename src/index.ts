/** lapidary's public API: Transformers.js' names and call forms, then HF Python's where Transformers.js has none. */
export type { AdapterOption, LoadAdapterOptions } from "./api/adapter-files.ts";
export { AttentionMaskPicture } from "./api/attention-mask-picture.ts";
export {
  type AttentionMasks,
  AttentionMaskVisualizer,
  type MaskInputs,
  type VisualizerDisplay,
  type VisualizerOptions,
} from "./api/attention-mask-visualizer.ts";
export {
  AutoConfig,
  AutoModel,
  AutoModelForCausalLM,
  AutoModelForImageTextToText,
  AutoModelForSequenceClassification,
  AutoModelForTokenClassification,
} from "./api/auto.ts";
export { type BaseModelOutput, BaseTextModel } from "./api/base-model.ts";
export { CausalLM, type CausalLMOutput } from "./api/causal-lm.ts";
export { type ClassifierOutput, SequenceClassifier, TokenClassifier } from "./api/classifiers.ts";
export {
  Gemma3Config,
  Gemma3nAudioConfig,
  Gemma3nConfig,
  Gemma3nTextConfig,
  Gemma3nVisionConfig,
  Gemma3TextConfig,
  GemmaConfig,
  SiglipVisionConfig,
} from "./api/configs.ts";
export type { DecoderForwardInputs } from "./api/decoder-forward.ts";
export {
  AutoFeatureExtractor,
  type FeatureExtractorPretrainedOptions,
  Gemma3nAudioFeatureExtractor,
} from "./api/feature-extractors.ts";
export {
  FlaxGemmaForCausalLM,
  FlaxGemmaModel,
  GemmaForCausalLM,
  GemmaForSequenceClassification,
  GemmaForTokenClassification,
  GemmaModel,
} from "./api/gemma.ts";
export { Gemma3ForCausalLM, Gemma3TextForSequenceClassification, Gemma3TextModel } from "./api/gemma3.ts";
export {
  Gemma3ForConditionalGeneration,
  Gemma3ForSequenceClassification,
  Gemma3Model,
} from "./api/gemma3-multimodal.ts";
export { Gemma3nForCausalLM, Gemma3nTextModel } from "./api/gemma3n.ts";
export { Gemma3nForConditionalGeneration, Gemma3nModel } from "./api/gemma3n-multimodal.ts";
export type { ImageFeaturesOutput } from "./api/image-encoder.ts";
export {
  AutoImageProcessor,
  type AutoImageProcessorOptions,
  Gemma3ImageProcessor,
  Gemma3ImageProcessorPil,
  type ImageProcessorPretrainedOptions,
  SiglipImageProcessor,
  SiglipImageProcessorPil,
  type SiglipImageProcessorPretrainedOptions,
} from "./api/image-processors.ts";
export type { DtypeOption, PretrainedOptions, ProgressCallback, ProgressInfo } from "./api/options.ts";
export type { ModelMemory, ModelOutput } from "./api/pretrained-decoder.ts";
export {
  AutoProcessor,
  Gemma3nProcessor,
  Gemma3Processor,
  type ProcessorPretrainedOptions,
} from "./api/processors.ts";
export {
  BitsAndBytesConfig,
  type BitsAndBytesOptions,
  TorchAoConfig,
  type TorchAoOptions,
} from "./api/quantization-config.ts";
export {
  type EncodeOptions,
  SentenceTransformer,
  type SentenceTransformerOptions,
} from "./api/sentence-transformer.ts";
export { type SiglipVisionInputs, SiglipVisionModel, type SiglipVisionOutput } from "./api/siglip.ts";
export {
  AutoTokenizer,
  GemmaTokenizer,
  GemmaTokenizerFast,
  type TokenizerOptions,
} from "./api/tokenizers.ts";
export { type ResolvedModel, type ResolveOptions, resolveModel } from "./checkpoints/resolve.ts";
export { env } from "./env.ts";
export {
  CheckpointError,
  ConfigError,
  GraphError,
  HubError,
  InputError,
  LapidaryError,
  RuntimeError,
} from "./errors.ts";
export type { IdsInput } from "./generation/prompt.ts";
export * from "./generation/public.ts";
export type { SliceOption, SliceOptions } from "./models/gemma3n/slice.ts";
export * from "./pipelines/public.ts";
export type { AudioSource, LoadAudioOptions, ReadAudioOptions } from "./processing/audio/audio-source.ts";
export { type AudioChunk, chunkAudio } from "./processing/audio/chunks.ts";
export type { Gemma3nAudioFeatureExtractorConfig } from "./processing/audio/feature-settings.ts";
export type {
  AudioFeatureOptions,
  AudioFeatures,
  AudioInputs,
  Gemma3nAudioProcessing,
} from "./processing/audio/gemma3n-audio-processor.ts";
export { type AudioInput, load_audio, RawAudio } from "./processing/audio/raw-audio.ts";
export type {
  Gemma3ImageProcessing,
  ImageFeatures,
  ImageInputs,
  ImageProcessorOptions,
} from "./processing/gemma3-image-processor.ts";
export type { Gemma3ProcessorParts } from "./processing/gemma3-processor.ts";
export type { Gemma3nProcessorParts } from "./processing/gemma3n-processor.ts";
export type {
  Gemma3ImageProcessorConfig,
  ImageSize,
  SiglipImageProcessorConfig,
} from "./processing/image-settings.ts";
export type { ImageSource, LoadImageOptions } from "./processing/image-source.ts";
export { Processor } from "./processing/processor.ts";
export type {
  PendingEncoding,
  ProcessorArrays,
  ProcessorAudio,
  ProcessorCall,
  ProcessorChatOptions,
  ProcessorEncoding,
  ProcessorInputs,
  ProcessorText,
} from "./processing/processor-call.ts";
export type {
  AudioOptions,
  ImageOptions,
  ProcessorOptions,
  TextOptions,
} from "./processing/processor-options.ts";
export { type ImageInput, load_image, RawImage } from "./processing/raw-image.ts";
export type {
  SiglipImageFeatures,
  SiglipImageProcessing,
  SiglipImageProcessorOptions,
} from "./processing/siglip-image-processor.ts";
export { PreTrainedTokenizer } from "./processing/tokenizer.ts";
export {
  dequantize_4bit,
  dequantize_int4,
  type Int4Matrix,
  type Quantize4bitOptions,
  type QuantizeInt4Options,
  type QuantState,
  quantize_4bit,
  quantize_int4,
} from "./quantization/public.ts";
export { Tensor } from "./tensor.ts";
