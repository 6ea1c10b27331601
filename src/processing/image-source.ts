import { variable } from "../env.ts";
import { rejectUnknownOptions } from "../errors.ts";
import {
  MEDIA_OPTIONS,
  type MediaKind,
  type MediaLimits,
  type MediaOptions,
  type MediaSource,
  mediaLimits,
  positive,
} from "./media-source.ts";

/** An image file: its path, its http(s):, file: or data: address, or its bytes. */
export type ImageSource = MediaSource;

export interface LoadImageOptions extends MediaOptions {
  /** Most pixels that are unpacked. Default: LAPIDARY_MAX_IMAGE_PIXELS, else Pillow's limit of 178,956,970. */
  readonly maxPixels?: number;
}

/** Options with every default filled in. */
export interface ImageLimits extends MediaLimits {
  readonly maxPixels: number;
}

export const IMAGE: MediaKind = {
  noun: "image",
  expected: "an image is a path, a URL, bytes, a Blob or a RawImage",
};

/** Pillow refuses images of more than twice MAX_IMAGE_PIXELS, which is a quarter of 2^30 bytes in RGB. */
const MAX_PIXELS = 178_956_970;
const LIMIT_VARIABLE = "LAPIDARY_MAX_IMAGE_PIXELS";

/** Checks options; what is left out takes its default. */
export function imageLimits(options: LoadImageOptions, call: string): ImageLimits {
  rejectUnknownOptions(options, ["maxPixels", ...MEDIA_OPTIONS], call);
  const fromVariable = variable(LIMIT_VARIABLE);
  const given = options.maxPixels ?? (fromVariable === undefined ? MAX_PIXELS : Number(fromVariable));
  const option = options.maxPixels === undefined ? LIMIT_VARIABLE : "maxPixels";
  return { maxPixels: positive(given, option, call), ...mediaLimits(options, call) };
}
