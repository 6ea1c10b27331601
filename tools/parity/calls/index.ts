import type { ParityTest } from "../test-set.ts";
import type { Call } from "./call.ts";
import { decodeWithCache, generate } from "./generation.ts";
import { attentionMasks, visualizeAttentionMask } from "./masks.ts";
import { featureExtractor, processor, processorChatTemplate } from "./media.ts";
import {
  audioFeatures,
  forward,
  forwardBaseModel,
  forwardNf4,
  imageFeatures,
  perLayerInputs,
  promptLogprobs,
  visionStages,
} from "./model.ts";
import { int4Quantize, nf4Quantize } from "./quantization.ts";
import { logitsProcessor, softmax } from "./scores.ts";
import { batchDecode, chatTemplate, decode, tokenize, tokenizeAndDecode } from "./tokenizer.ts";

/** The kinds of call that can be made through the public contract. Others are not-yet: add them here. */
const CALLS: Readonly<Record<string, Call>> = {
  forward,
  forward_base_model: forwardBaseModel,
  forward_nf4: forwardNf4,
  get_image_features: imageFeatures,
  get_audio_features: audioFeatures,
  vision_stages: visionStages,
  generate,
  decode_with_cache: decodeWithCache,
  prompt_logprobs: promptLogprobs,
  per_layer_inputs: perLayerInputs,
  tokenize,
  tokenize_and_decode: tokenizeAndDecode,
  decode,
  batch_decode: batchDecode,
  visualize_attention_mask: visualizeAttentionMask,
  attention_masks: attentionMasks,
  logits_processor: logitsProcessor,
  softmax,
  processor,
  feature_extractor: featureExtractor,
  nf4_quantize: nf4Quantize,
  int4_quantize: int4Quantize,
};

/** The function that makes a test's call, if its kind is known. */
export function callFor(test: ParityTest): Call | undefined {
  if (test.call === "apply_chat_template") {
    return test.class.endsWith("Processor") ? processorChatTemplate : chatTemplate;
  }
  return Object.hasOwn(CALLS, test.call) ? CALLS[test.call] : undefined;
}
