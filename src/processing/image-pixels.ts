/** What image processors have in common: reading images, resizing them, and making numbers of their grey levels. */
import { InputError } from "../errors.ts";
import { Tensor } from "../tensor.ts";
import type { ImageSettings } from "./image-settings.ts";
import type { LoadImageOptions } from "./image-source.ts";
import { type ImageInput, load_image, RawImage } from "./raw-image.ts";
import { cut, isFilter, type Region, type ResampleStyle, resizeImage } from "./resample.ts";

/** One image, a list, or a list for each text. */
export type ImageInputs = ImageInput | readonly (ImageInput | readonly ImageInput[])[];

/** What a call of an image processor takes besides settings. */
export interface ImageCallOptions {
  /** Taken as in HF ("pt", "np"); there is always a tensor. */
  readonly return_tensors?: string | null;
  readonly signal?: AbortSignal;
}

/** A part of an image that becomes one row of pixel_values. */
export interface ImagePart {
  readonly image: RawImage;
  readonly region: Region;
}

/** Most elements of pixel_values: 8 GiB, some 890 images of 896x896. */
const MAX_ELEMENTS = 2 ** 31;

/** All of an image. */
export function wholeImage(image: RawImage): ImagePart {
  return { image, region: { left: 0, top: 0, width: image.width, height: image.height } };
}

/** float32 [parts, channels, height, width], with the arithmetic of the library that `style` names. */
export function pixelValues(
  parts: readonly ImagePart[],
  settings: ImageSettings,
  style: ResampleStyle,
  signal: AbortSignal | undefined,
): Tensor {
  const { channels } = parts[0]!.image;
  const { do_resize, resample } = settings;
  const { height, width } = do_resize ? settings.size : parts[0]!.region;
  checkParts(parts, do_resize);
  const size = channels * height * width;
  if (parts.length * size > MAX_ELEMENTS) {
    throw new InputError(`pixel_values: ${parts.length} images of ${width}x${height} are over 2^31 elements`);
  }
  const tables = valueTables(settings, channels, style);
  const out = new Float32Array(parts.length * size);
  parts.forEach(({ image, region }, i) => {
    signal?.throwIfAborted();
    const pixels =
      do_resize && isFilter(resample)
        ? resizeImage(image, region, [height, width], resample, style)
        : cut(image, region);
    toPlanes(pixels, tables, out.subarray(i * size, (i + 1) * size));
  });
  return new Tensor("float32", out, [parts.length, channels, height, width]);
}

/** The images of a call, in their order. Those that are not RawImages are read with `load_image`. */
export async function loadImages(
  images: ImageInputs,
  settings: ImageSettings,
  { signal }: ImageCallOptions,
): Promise<RawImage[]> {
  const options: LoadImageOptions = signal === undefined ? {} : { signal };
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

function checkParts(parts: readonly ImagePart[], isResized: boolean): void {
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
