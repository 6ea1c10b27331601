import { Callable } from "../callable.ts";
import type { Tensor } from "../tensor.ts";
import { wantsTensors } from "./encoding.ts";
import {
  type ImageCallOptions,
  type ImageInputs,
  loadImages,
  pixelValues,
  wholeImage,
} from "./image-pixels.ts";
import {
  type ImageSettings,
  imageSettings,
  SIGLIP_DEFAULTS,
  type SiglipImageProcessorConfig,
} from "./image-settings.ts";
import type { ResampleStyle } from "./resample.ts";

/** Settings in place of the processor's own, for one call. */
export type SiglipImageProcessorOptions = SiglipImageProcessorConfig & ImageCallOptions;

export interface SiglipImageFeatures {
  /** float32 [images, channels, height, width] */
  readonly pixel_values: Tensor;
  /** SigLIP's processor makes no crops. */
  readonly num_crops?: undefined;
}

type SiglipImageProcessorCall = (
  images: ImageInputs,
  options?: SiglipImageProcessorOptions,
) => Promise<SiglipImageFeatures>;

/** What HF's two image processors of SigLIP, which Gemma 3n uses, have in common; `style` is whose arithmetic is repeated. */
export abstract class SiglipImageProcessing extends Callable<SiglipImageProcessorCall> {
  readonly config: ImageSettings;
  readonly #style: ResampleStyle;

  protected constructor(config: SiglipImageProcessorConfig, style: ResampleStyle, name: string) {
    super();
    this.config = imageSettings(config, SIGLIP_DEFAULTS, name);
    this.#style = style;
  }

  /** The same as calling the processor. */
  preprocess(images: ImageInputs, options: SiglipImageProcessorOptions = {}): Promise<SiglipImageFeatures> {
    return this._call(images, options);
  }

  /** Pixels as the vision tower takes them. Images that are not RawImages are read with `load_image`. */
  async _call(images: ImageInputs, options: SiglipImageProcessorOptions = {}): Promise<SiglipImageFeatures> {
    const { return_tensors, signal, ...overrides } = options;
    wantsTensors({ return_tensors });
    const settings = imageSettings(overrides, this.config, "image processor");
    const loaded = await loadImages(images, settings, options);
    return { pixel_values: pixelValues(loaded.map(wholeImage), settings, this.#style, signal) };
  }
}
