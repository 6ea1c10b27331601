import { Callable } from "../callable.ts";
import { InputError } from "../errors.ts";
import { Tensor } from "../tensor.ts";
import { wantsTensors } from "./encoding.ts";
import {
  DEFAULT_IMAGE_SETTINGS,
  type Gemma3ImageProcessorConfig,
  type ImageSettings,
  imageSettings,
} from "./image-settings.ts";
import type { LoadImageOptions } from "./image-source.ts";
import { panAndScan } from "./pan-and-scan.ts";
import { type ImageInput, load_image, RawImage } from "./raw-image.ts";
import { cut, type Region, type ResampleStyle, resizeBilinear } from "./resample.ts";

/** One image, a list, or a list for each text. */
export type ImageInputs = ImageInput | readonly (ImageInput | readonly ImageInput[])[];

/** Settings in place of the processor's own, for one call. */
export interface ImageProcessorOptions extends Gemma3ImageProcessorConfig {
  /** Taken as in HF ("pt", "np"); there is always a tensor. */
  readonly return_tensors?: string | null;
  readonly signal?: AbortSignal;
}

export interface ImageFeatures {
  /** float32 [images and crops, channels, height, width]: each image is followed by its crops. */
  readonly pixel_values: Tensor;
  /** Crops of each image, 0 without pan-and-scan. */
  readonly num_crops: number[];
}

type ImageProcessorCall = (images: ImageInputs, options?: ImageProcessorOptions) => Promise<ImageFeatures>;

/** A part of an image that becomes one row of pixel_values. */
interface Part {
  readonly image: RawImage;
  readonly region: Region;
}

/** Most elements of pixel_values: 8 GiB, some 890 images of 896x896. */
const MAX_ELEMENTS = 2 ** 31;

/** What HF's two image processors of Gemma 3 have in common; `style` is whose arithmetic is repeated. */
export abstract class Gemma3ImageProcessing extends Callable<ImageProcessorCall> {
  readonly config: ImageSettings;
  readonly #style: ResampleStyle;

  protected constructor(config: Gemma3ImageProcessorConfig, style: ResampleStyle, name: string) {
    super();
    this.config = imageSettings(config, DEFAULT_IMAGE_SETTINGS, name);
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
    const loaded = await loadAll(images, settings, signal === undefined ? {} : { signal });
    const parts: Part[] = [];
    const num_crops = loaded.map((image) => {
      const crops = settings.do_pan_and_scan ? panAndScan(image.width, image.height, settings) : [];
      const whole = { left: 0, top: 0, width: image.width, height: image.height };
      for (const region of [whole, ...crops]) parts.push({ image, region });
      return crops.length;
    });
    return { pixel_values: this.#pixelValues(parts, settings, signal), num_crops };
  }

  #pixelValues(parts: readonly Part[], settings: ImageSettings, signal: AbortSignal | undefined): Tensor {
    // HF's torchvision processor resizes for pan-and-scan whatever do_resize says.
    const isResized = settings.do_resize || (settings.do_pan_and_scan && this.#style === "torchvision");
    const { channels } = parts[0]!.image;
    const { height, width } = isResized ? settings.size : parts[0]!.region;
    checkParts(parts, isResized);
    const size = channels * height * width;
    if (parts.length * size > MAX_ELEMENTS) {
      throw new InputError(
        `pixel_values: ${parts.length} images of ${width}x${height} are over 2^31 elements`,
      );
    }
    const tables = valueTables(settings, channels, this.#style);
    const out = new Float32Array(parts.length * size);
    parts.forEach(({ image, region }, i) => {
      signal?.throwIfAborted();
      const pixels = isResized
        ? resizeBilinear(image, region, height, width, this.#style)
        : cut(image, region);
      toPlanes(pixels, tables, out.subarray(i * size, (i + 1) * size));
    });
    return new Tensor("float32", out, [parts.length, channels, height, width]);
  }
}

async function loadAll(
  images: ImageInputs,
  settings: ImageSettings,
  options: LoadImageOptions,
): Promise<RawImage[]> {
  const inputs = [images].flat(2) as ImageInput[];
  if (inputs.length === 0) throw new InputError("image processor: at least one image is needed");
  const loaded: RawImage[] = [];
  for (const input of inputs) {
    const image = settings.do_convert_rgb
      ? await load_image(input, options)
      : await RawImage.read(input, options);
    if (image.channels !== 1 && image.channels !== 3) {
      throw new InputError("image processor: images with alpha need do_convert_rgb", {
        option: "do_convert_rgb",
      });
    }
    loaded.push(image);
  }
  return loaded;
}

function checkParts(parts: readonly Part[], isResized: boolean): void {
  const { image, region } = parts[0]!;
  for (const part of parts) {
    if (part.region.width === 0 || part.region.height === 0) {
      const { width, height } = part.image;
      throw new InputError(
        `image processor: a crop of the ${width}x${height} image would be empty; raise pan_and_scan_min_crop_size`,
        { option: "pan_and_scan_min_crop_size" },
      );
    }
    if (part.image.channels !== image.channels) {
      throw new InputError("image processor: grey and colour images in one call need do_convert_rgb", {
        option: "do_convert_rgb",
      });
    }
    if (!isResized && (part.region.width !== region.width || part.region.height !== region.height)) {
      throw new InputError("image processor: images of several sizes in one call need do_resize", {
        option: "do_resize",
      });
    }
  }
}

/** For each channel what each of the 256 grey levels becomes, rounded to float32 where HF rounds. */
function valueTables(settings: ImageSettings, channels: number, style: ResampleStyle): Float32Array[] {
  const means = perChannel(settings.image_mean, channels, "image_mean");
  const stds = perChannel(settings.image_std, channels, "image_std");
  const { do_rescale, do_normalize, rescale_factor } = settings;
  // torchvision's processor multiplies mean and deviation instead of every pixel.
  const isFused = style === "torchvision" && do_rescale && do_normalize;
  const scale = isFused ? Math.fround(1 / rescale_factor) : 1;
  const factor = style === "torchvision" ? Math.fround(rescale_factor) : rescale_factor;
  return means.map((value, c) => {
    const mean = Math.fround(Math.fround(value) * scale);
    const std = Math.fround(Math.fround(stds[c]!) * scale);
    return Float32Array.from({ length: 256 }, (_, level) => {
      const rescaled = do_rescale && !isFused ? Math.fround(level * factor) : level;
      return do_normalize ? Math.fround(rescaled - mean) / std : rescaled;
    });
  });
}

function perChannel(value: number | readonly number[], channels: number, name: string): readonly number[] {
  const list = typeof value === "number" ? new Array<number>(channels).fill(value) : value;
  if (list.length === channels) return list;
  throw new InputError(`image processor: ${name} has ${list.length} numbers for ${channels} channels`, {
    option: name,
  });
}

/** [height, width, channels] as levels to [channels, height, width] as values. */
function toPlanes(pixels: Uint8Array, tables: readonly Float32Array[], out: Float32Array): void {
  const channels = tables.length;
  const plane = pixels.length / channels;
  tables.forEach((table, c) => {
    for (let i = 0; i < plane; i++) out[c * plane + i] = table[pixels[i * channels + c]!]!;
  });
}
