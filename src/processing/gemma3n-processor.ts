import { InputError } from "../errors.ts";
import {
  AUDIO_CALL_OPTIONS,
  type AudioFeatureOptions,
  type AudioInputs,
  type Gemma3nAudioProcessing,
} from "./audio/gemma3n-audio-processor.ts";
import type { ImageInputs } from "./image-pixels.ts";
import { SIGLIP_SETTING_NAMES } from "./image-settings.ts";
import {
  audioSequence,
  checkSequenceLength,
  imageSequence,
  type MediaFeatures,
  type MediaPart,
  type MediaToken,
  tokenInRole,
} from "./media-part.ts";
import { Processor } from "./processor.ts";
import type { SiglipImageProcessing, SiglipImageProcessorOptions } from "./siglip-image-processor.ts";
import type { PreTrainedTokenizer } from "./tokenizer.ts";

/** What Gemma 3n's processor is made of. */
export interface Gemma3nProcessorParts {
  readonly feature_extractor: Gemma3nAudioProcessing;
  readonly image_processor: SiglipImageProcessing;
  readonly tokenizer: PreTrainedTokenizer;
  /** Tokens of a clip, 188 in released models whatever its length. */
  readonly audio_seq_length?: number;
  /** Tokens of an image, 256 in released models. */
  readonly image_seq_length?: number;
}

const AUDIO_NAMES = AUDIO_CALL_OPTIONS.filter((name) => name !== "return_tensors" && name !== "signal");

/** Gemma 3n's: `<image_soft_token>` and `<audio_soft_token>` become the tokens of an image and of a clip. */
export class Gemma3nProcessing extends Processor {
  readonly feature_extractor: Gemma3nAudioProcessing;
  readonly image_processor: SiglipImageProcessing;
  readonly audio_seq_length: number;
  readonly image_seq_length: number;
  override readonly audio_token: string;
  readonly audio_token_id: number;
  readonly image_token: string;
  readonly image_token_id: number;
  /** What the placeholders become. */
  readonly full_audio_sequence: string;
  readonly full_image_sequence: string;
  protected readonly parts: readonly MediaPart[];

  constructor(given: Gemma3nProcessorParts) {
    const { tokenizer, audio_seq_length = 188, image_seq_length = 256 } = given;
    super(tokenizer);
    const image = tokenInRole(tokenizer, "image_token");
    const audio = tokenInRole(tokenizer, "audio_token");
    this.feature_extractor = given.feature_extractor;
    this.image_processor = given.image_processor;
    this.audio_seq_length = checkSequenceLength(audio_seq_length, "audio_seq_length");
    this.image_seq_length = checkSequenceLength(image_seq_length, "image_seq_length");
    this.audio_token = audio.text;
    this.audio_token_id = audio.id;
    this.image_token = image.text;
    this.image_token_id = image.id;
    this.full_audio_sequence = audioSequence(tokenizer, audio_seq_length);
    this.full_image_sequence = imageSequence(tokenizer, image_seq_length);
    this.parts = [
      {
        token: softToken("audio", audio, 3),
        optionNames: AUDIO_NAMES,
        features: (items, options) => this.#sounds(items, options),
      },
      {
        token: softToken("images", image, 1),
        optionNames: SIGLIP_SETTING_NAMES,
        features: (items, options) => this.#images(items, options),
      },
    ];
  }

  async #images(items: readonly unknown[], options: SiglipImageProcessorOptions): Promise<MediaFeatures> {
    const { pixel_values } = await this.image_processor(items as ImageInputs, options);
    return { inputs: { pixel_values }, texts: items.map(() => this.full_image_sequence) };
  }

  async #sounds(items: readonly unknown[], options: AudioFeatureOptions): Promise<MediaFeatures> {
    const features = await this.feature_extractor(items as AudioInputs, options);
    const { input_features, input_features_mask, chunks } = features;
    if (input_features_mask === undefined)
      throw new InputError("processor: the model needs input_features_mask", {
        option: "return_attention_mask",
      });
    // A clip that was cut into pieces has the tokens of each.
    const texts = items.map((_, i) => this.full_audio_sequence.repeat(chunks?.[i]?.length ?? 1));
    return { inputs: { input_features, input_features_mask }, texts };
  }
}

/** A placeholder that is the token itself. */
function softToken(
  kind: MediaToken["kind"],
  { text, id }: { readonly text: string; readonly id: number },
  type: number,
): MediaToken {
  return { kind, placeholder: text, soft: text, id, type };
}
