import { rejectUnknownOptions } from "../errors.ts";
import type { Gemma3nConfig } from "../models/gemma3n/multimodal-config.ts";
import { Tensor } from "../tensor.ts";
import { BaseTextModel } from "./base-model.ts";
import { CausalLM } from "./causal-lm.ts";
import type { AudioTowerInputs, AudioTowerOutput } from "./gemma3n-audio.ts";
import type { VisionTowerOptions, VisionTowerOutput } from "./gemma3n-images.ts";
import type { Gemma3nMedia } from "./gemma3n-media.ts";
import type { PretrainedOptions } from "./options.ts";
import { TextModelCore } from "./pretrained-decoder.ts";
import { GEMMA3N, LANGUAGE_MODEL, NO_HEAD } from "./text-models.ts";

/** What `get_image_features` takes: pixel values alone, or by name. */
type PixelInput = Tensor | ({ readonly pixel_values: Tensor } & VisionTowerOptions);

/** What `get_audio_features` takes. */
type SoundInput = AudioTowerInputs & { readonly signal?: AbortSignal };

type Core = TextModelCore<Gemma3nConfig>;

async function imageFeatures({ media }: Core, input: PixelInput): Promise<VisionTowerOutput> {
  const { pixel_values, ...options } = input instanceof Tensor ? { pixel_values: input } : input;
  rejectUnknownOptions(options, ["output_hidden_states", "signal"], "get_image_features");
  return (media as Gemma3nMedia).images.features(pixel_values, options);
}

async function audioFeatures({ media }: Core, { signal, ...inputs }: SoundInput): Promise<AudioTowerOutput> {
  rejectUnknownOptions(inputs, ["input_features", "input_features_mask"], "get_audio_features");
  return (media as Gemma3nMedia).audio.features(inputs, { subsampled: true, ...(signal && { signal }) });
}

/** Gemma 3n without its head: text, images and sounds in, hidden states out. */
export class Gemma3nModel extends BaseTextModel<Gemma3nConfig> {
  /** Loads a model: a folder or a hub id. */
  static async from_pretrained(id: string, options?: PretrainedOptions): Promise<Gemma3nModel> {
    return new Gemma3nModel(await TextModelCore.load(id, options, "Gemma3nModel", GEMMA3N, NO_HEAD));
  }

  /** What the vision tower makes of pixel_values [images, channels, height, width], and the text model's vectors for it. */
  get_image_features(input: PixelInput): Promise<VisionTowerOutput> {
    return imageFeatures(this.core, input);
  }

  /** What the audio encoder makes of a feature extractor's output, whose mask is 0 at padding, and the text model's vectors for it. */
  get_audio_features(input: SoundInput): Promise<AudioTowerOutput> {
    return audioFeatures(this.core, input);
  }
}

/** Gemma 3n with its language-model head: text, images and sounds in, text out. */
export class Gemma3nForConditionalGeneration extends CausalLM<Gemma3nConfig> {
  /** Loads a model: a folder or a hub id. */
  static async from_pretrained(
    id: string,
    options?: PretrainedOptions,
  ): Promise<Gemma3nForConditionalGeneration> {
    const name = "Gemma3nForConditionalGeneration";
    return new Gemma3nForConditionalGeneration(
      await TextModelCore.load(id, options, name, GEMMA3N, LANGUAGE_MODEL),
    );
  }

  protected override makeModel(): Gemma3nModel {
    return new Gemma3nModel(this.core);
  }

  override get model(): Gemma3nModel {
    return super.model as Gemma3nModel;
  }

  /** What the vision tower makes of pixel_values [images, channels, height, width], and the text model's vectors for it. */
  get_image_features(input: PixelInput): Promise<VisionTowerOutput> {
    return imageFeatures(this.core, input);
  }

  /** What the audio encoder makes of a feature extractor's output, whose mask is 0 at padding, and the text model's vectors for it. */
  get_audio_features(input: SoundInput): Promise<AudioTowerOutput> {
    return audioFeatures(this.core, input);
  }
}
