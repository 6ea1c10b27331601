import type { Gemma3ImageProcessing, ImageInputs, ImageProcessorOptions } from "./gemma3-image-processor.ts";
import { IMAGE_SETTING_NAMES } from "./image-settings.ts";
import {
  checkSequenceLength,
  imageSequence,
  type MediaFeatures,
  type MediaPart,
  tokenInRole,
} from "./media-part.ts";
import { Processor } from "./processor.ts";
import type { PreTrainedTokenizer } from "./tokenizer.ts";

/** What Gemma 3's processor is made of. */
export interface Gemma3ProcessorParts {
  readonly image_processor: Gemma3ImageProcessing;
  readonly tokenizer: PreTrainedTokenizer;
  /** Tokens of an image, 256 in released models. */
  readonly image_seq_length?: number;
}

/** Gemma 3's: each `<start_of_image>` of a text becomes the tokens of one image, and of its crops. */
export class Gemma3Processing extends Processor {
  readonly image_processor: Gemma3ImageProcessing;
  readonly image_seq_length: number;
  readonly image_token: string;
  readonly image_token_id: number;
  readonly boi_token: string;
  /** What the placeholder becomes. */
  readonly full_image_sequence: string;
  protected readonly parts: readonly MediaPart[];

  constructor({ image_processor, tokenizer, image_seq_length = 256 }: Gemma3ProcessorParts) {
    super(tokenizer);
    const start = tokenInRole(tokenizer, "boi_token");
    const soft = tokenInRole(tokenizer, "image_token");
    this.image_processor = image_processor;
    this.image_seq_length = checkSequenceLength(image_seq_length, "image_seq_length");
    this.image_token = start.text;
    this.image_token_id = start.id;
    this.boi_token = start.text;
    this.full_image_sequence = imageSequence(tokenizer, image_seq_length);
    const token = { kind: "images", placeholder: start.text, soft: soft.text, id: soft.id, type: 1 } as const;
    this.parts = [
      { token, optionNames: IMAGE_SETTING_NAMES, features: (items, options) => this.#images(items, options) },
    ];
  }

  async #images(items: readonly unknown[], options: ImageProcessorOptions): Promise<MediaFeatures> {
    const { pixel_values, num_crops } = await this.image_processor(items as ImageInputs, options);
    const whole = this.full_image_sequence;
    const texts = num_crops.map((crops) =>
      crops === 0
        ? whole
        : `Here is the original image ${whole} and here are some crops to help you see better ${new Array<string>(crops).fill(whole).join(" ")}`,
    );
    return { inputs: { pixel_values }, texts };
  }
}
