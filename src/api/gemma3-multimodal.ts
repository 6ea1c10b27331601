import { rejectUnknownOptions } from "../errors.ts";
import type { Gemma3Config } from "../models/gemma3/multimodal-config.ts";
import { Tensor } from "../tensor.ts";
import { BaseTextModel } from "./base-model.ts";
import { CausalLM } from "./causal-lm.ts";
import { SequenceClassifier } from "./classifiers.ts";
import type { Gemma3Images, ImageFeaturesOutput } from "./image-encoder.ts";
import type { PretrainedOptions } from "./options.ts";
import { TextModelCore } from "./pretrained-decoder.ts";
import { GEMMA3, NO_HEAD, SEQUENCE_CLASSIFIER, UNCAPPED_LANGUAGE_MODEL } from "./text-models.ts";

/** What `get_image_features` takes: pixel values alone, or by name. */
type PixelInput = Tensor | { readonly pixel_values: Tensor; readonly signal?: AbortSignal };

/** The core of a model that reads images through SigLIP. */
type ImageCore = TextModelCore<Gemma3Config>;

async function imageFeatures({ media }: ImageCore, input: PixelInput): Promise<ImageFeaturesOutput> {
  if (input instanceof Tensor) return (media as Gemma3Images).features(input);
  rejectUnknownOptions(input ?? {}, ["pixel_values", "signal"], "get_image_features");
  const { pixel_values, signal } = input ?? {};
  return (media as Gemma3Images).features(pixel_values, signal);
}

/** Gemma 3 (4B, 12B, 27B) without its head: text and images in, hidden states out. */
export class Gemma3Model extends BaseTextModel<Gemma3Config> {
  /** Loads a model: a folder or a hub id. */
  static async from_pretrained(id: string, options?: PretrainedOptions): Promise<Gemma3Model> {
    return new Gemma3Model(await TextModelCore.load(id, options, "Gemma3Model", GEMMA3, NO_HEAD));
  }

  /** What the image encoder makes of pixel_values [images, channels, height, width], and the text model's vectors for it. */
  get_image_features(input: PixelInput): Promise<ImageFeaturesOutput> {
    return imageFeatures(this.core, input);
  }
}

/** Gemma 3 (4B, 12B, 27B) with its language-model head: text and images in, text out. */
export class Gemma3ForConditionalGeneration extends CausalLM<Gemma3Config> {
  /** Loads a model: a folder or a hub id. */
  static async from_pretrained(
    id: string,
    options?: PretrainedOptions,
  ): Promise<Gemma3ForConditionalGeneration> {
    const name = "Gemma3ForConditionalGeneration";
    return new Gemma3ForConditionalGeneration(
      await TextModelCore.load(id, options, name, GEMMA3, UNCAPPED_LANGUAGE_MODEL),
    );
  }

  /** What the image encoder makes of pixel_values [images, channels, height, width], and the text model's vectors for it. */
  get_image_features(input: PixelInput): Promise<ImageFeaturesOutput> {
    return imageFeatures(this.core, input);
  }
}

/** Gemma 3 with a score for each label of a text with images. */
export class Gemma3ForSequenceClassification extends SequenceClassifier<Gemma3Config> {
  /** Loads a model: a folder or a hub id. */
  static async from_pretrained(
    id: string,
    options?: PretrainedOptions,
  ): Promise<Gemma3ForSequenceClassification> {
    const name = "Gemma3ForSequenceClassification";
    return new Gemma3ForSequenceClassification(
      await TextModelCore.load(id, options, name, GEMMA3, SEQUENCE_CLASSIFIER),
    );
  }
}
