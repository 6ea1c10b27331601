import { Callable } from "../callable.ts";
import type { Tensor } from "../tensor.ts";
import { wantsTensors } from "./encoding.ts";
import {
  type ImageCallOptions,
  type ImageInputs,
  type ImagePart,
  loadImages,
  pixelValues,
  wholeImage,
} from "./image-pixels.ts";
import {
  GEMMA3_DEFAULTS,
  type Gemma3ImageProcessorConfig,
  type Gemma3ImageSettings,
  imageSettings,
} from "./image-settings.ts";
import { panAndScan } from "./pan-and-scan.ts";
import type { ResampleStyle } from "./resample.ts";

export type { ImageInputs };

/** Settings in place of the processor's own, for one call. */
export type ImageProcessorOptions = Gemma3ImageProcessorConfig & ImageCallOptions;

export interface ImageFeatures {
  /** float32 [images and crops, channels, height, width]: each image is followed by its crops. */
  readonly pixel_values: Tensor;
  /** Crops of each image, 0 without pan-and-scan. */
  readonly num_crops: number[];
}

type ImageProcessorCall = (images: ImageInputs, options?: ImageProcessorOptions) => Promise<ImageFeatures>;

/** What HF's two image processors of Gemma 3 have in common; `style` is whose arithmetic is repeated. */
export abstract class Gemma3ImageProcessing extends Callable<ImageProcessorCall> {
  readonly config: Gemma3ImageSettings;
  readonly #style: ResampleStyle;

  protected constructor(config: Gemma3ImageProcessorConfig, style: ResampleStyle, name: string) {
    super();
    this.config = imageSettings(config, GEMMA3_DEFAULTS, name);
    this.#style = style;
  }

  /** The same as calling the processor. */
  preprocess(images: ImageInputs, options: ImageProcessorOptions = {}): Promise<ImageFeatures> {
    return this._call(images, options);
  }

  /** Pixels as the vision tower takes them. Images that are not RawImages are read with `load_image`. */
  async _call(images: ImageInputs, options: ImageProcessorOptions = {}): Promise<ImageFeatures> {
    const { return_tensors, signal, ...overrides } = options;
    wantsTensors({ return_tensors });
    const settings = imageSettings(overrides, this.config, "image processor");
    const parts: ImagePart[] = [];
    const num_crops = (await loadImages(images, settings, options)).map((image) => {
      const { width, height } = image;
      const crops = settings.do_pan_and_scan ? panAndScan(width, height, settings) : [];
      parts.push(wholeImage(image), ...crops.map((region) => ({ image, region })));
      return crops.length;
    });
    // HF's torchvision processor resizes for pan-and-scan whatever do_resize says.
    const do_resize = settings.do_resize || (settings.do_pan_and_scan && this.#style === "torchvision");
    return { pixel_values: pixelValues(parts, { ...settings, do_resize }, this.#style, signal), num_crops };
  }
}
