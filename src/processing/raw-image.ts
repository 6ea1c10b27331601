import { InputError } from "../errors.ts";
import { checkPixels, decodeImage } from "./image-decoder.ts";
import {
  IMAGE,
  type ImageLimits,
  type ImageSource,
  imageLimits,
  type LoadImageOptions,
} from "./image-source.ts";
import { placeOf, readMediaSource } from "./media-source.ts";
import type { PixelGrid } from "./resample.ts";

/** Everything that is taken where an image is asked for. */
export type ImageInput = ImageSource | RawImage;

/** An unpacked image, as in Transformers.js: 8 bits a channel, row by row, the channels of a pixel side by side. */
export class RawImage implements PixelGrid {
  /** [height, width, channels] */
  readonly data: Uint8Array | Uint8ClampedArray;
  readonly width: number;
  readonly height: number;
  /** 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha. */
  readonly channels: number;

  /** Throws an InputError where `data` does not have width * height * channels bytes. */
  constructor(data: Uint8Array | Uint8ClampedArray, width: number, height: number, channels: number) {
    if (!(data instanceof Uint8Array || data instanceof Uint8ClampedArray)) {
      throw new InputError("RawImage: data must be a Uint8Array or a Uint8ClampedArray");
    }
    if (![width, height].every((side) => Number.isSafeInteger(side) && side > 0)) {
      throw new InputError(
        `RawImage: width and height must be positive integers, got ${width} and ${height}`,
      );
    }
    if (![1, 2, 3, 4].includes(channels)) {
      throw new InputError(`RawImage: an image has 1 to 4 channels, got ${channels}`);
    }
    if (data.length !== width * height * channels) {
      throw new InputError(
        `RawImage: ${width}x${height} with ${channels} channels are ${width * height * channels} bytes, got ${data.length}`,
      );
    }
    this.data = data;
    this.width = width;
    this.height = height;
    this.channels = channels;
  }

  /** [width, height], in Transformers.js' order. */
  get size(): [number, number] {
    return [this.width, this.height];
  }

  /**
   * Reads an image with the channels that it has, turned as its EXIF orientation says. Throws an InputError for
   * what is no image or too large, a HubError for a download that fails.
   */
  static async read(input: ImageInput, options: LoadImageOptions = {}): Promise<RawImage> {
    return readRawImage(input, imageLimits(options, "RawImage.read"));
  }

  /** `read` for an address. */
  static async fromURL(url: string | URL, options: LoadImageOptions = {}): Promise<RawImage> {
    return readRawImage(url, imageLimits(options, "RawImage.fromURL"));
  }

  /** `read` for a Blob. */
  static async fromBlob(blob: Blob, options: LoadImageOptions = {}): Promise<RawImage> {
    return readRawImage(blob, imageLimits(options, "RawImage.fromBlob"));
  }

  /** RGB without alpha: transparency is dropped, not blended, as in Pillow's `convert("RGB")`. Itself where it is RGB. */
  rgb(): RawImage {
    const { data, width, height, channels } = this;
    if (channels === 3) return this;
    const out = new Uint8ClampedArray(width * height * 3);
    const isGrey = channels < 3;
    for (let i = 0; i < width * height; i++) {
      for (let c = 0; c < 3; c++) out[i * 3 + c] = data[i * channels + (isGrey ? 0 : c)]!;
    }
    return new RawImage(out, width, height, 3);
  }

  /** A copy with memory of its own. */
  clone(): RawImage {
    return new RawImage(this.data.slice(), this.width, this.height, this.channels);
  }
}

/** HF's `load_image`: an image as RGB, turned as its EXIF orientation says, without alpha. */
export async function load_image(input: ImageInput, options: LoadImageOptions = {}): Promise<RawImage> {
  return (await readRawImage(input, imageLimits(options, "load_image"))).rgb();
}

async function readRawImage(input: ImageInput, limits: ImageLimits): Promise<RawImage> {
  limits.signal?.throwIfAborted();
  if (input instanceof RawImage) {
    checkPixels(input.width, input.height, limits.maxPixels, "image");
    return input;
  }
  const bytes = await readMediaSource(input, limits, IMAGE);
  const { data, width, height, channels } = await decodeImage(bytes, limits.maxPixels, placeOf(input, IMAGE));
  limits.signal?.throwIfAborted();
  return new RawImage(data, width, height, channels);
}
