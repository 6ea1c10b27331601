import { InputError, rejectUnknownOptions } from "../errors.ts";
import type { PanAndScanSettings } from "./pan-and-scan.ts";
import { isFilter } from "./resample.ts";

/** Height and width in pixels; a number is a square. */
export type ImageSize = number | { readonly height: number; readonly width: number };

/** Settings that every image processor has, with every default filled in. */
export interface ImageSettings {
  readonly do_convert_rgb: boolean;
  readonly do_resize: boolean;
  readonly size: { readonly height: number; readonly width: number };
  /** Pillow's number of a filter: 2 is bilinear, 3 bicubic. */
  readonly resample: number;
  readonly do_rescale: boolean;
  readonly rescale_factor: number;
  readonly do_normalize: boolean;
  readonly image_mean: number | readonly number[];
  readonly image_std: number | readonly number[];
}

/** Those of Gemma 3's. */
export interface Gemma3ImageSettings extends ImageSettings, PanAndScanSettings {
  readonly do_pan_and_scan: boolean;
}

/** Settings as preprocessor_config.json has them, under its names; null is the same as nothing. */
export type ImageProcessorConfig<Settings extends ImageSettings> = {
  readonly [Name in keyof Settings]?: (Name extends "size" ? ImageSize : Settings[Name]) | null;
};

export type Gemma3ImageProcessorConfig = ImageProcessorConfig<Gemma3ImageSettings>;

export type SiglipImageProcessorConfig = ImageProcessorConfig<ImageSettings>;

/** HF's class defaults of SigLIP's image processor, which is Gemma 3n's. */
export const SIGLIP_DEFAULTS: ImageSettings = {
  do_convert_rgb: true,
  do_resize: true,
  size: { height: 224, width: 224 },
  resample: 3,
  do_rescale: true,
  rescale_factor: 1 / 255,
  do_normalize: true,
  image_mean: [0.5, 0.5, 0.5],
  image_std: [0.5, 0.5, 0.5],
};

/** HF's class defaults; those of pan-and-scan, where its image processor has none, are Gemma3Processor's. */
export const GEMMA3_DEFAULTS: Gemma3ImageSettings = {
  ...SIGLIP_DEFAULTS,
  resample: 2,
  do_pan_and_scan: false,
  pan_and_scan_min_crop_size: 256,
  pan_and_scan_max_num_crops: 4,
  pan_and_scan_min_ratio_to_activate: 1.2,
};

/** Names of the settings of any image processor, in files and as options. */
export const IMAGE_SETTING_NAMES: readonly string[] = Object.keys(GEMMA3_DEFAULTS);

/** Those of SigLIP's. */
export const SIGLIP_SETTING_NAMES: readonly string[] = Object.keys(SIGLIP_DEFAULTS);

/** A resized image has sides of at most this many pixels; real ones have 896. */
const MAX_SIDE = 16_384;

/** Settings in place of `base`'s, checked. Throws an InputError for an unknown name or a value that makes no sense. */
export function imageSettings<Settings extends ImageSettings>(
  config: ImageProcessorConfig<Settings>,
  base: Settings,
  call: string,
): Settings {
  rejectUnknownOptions(config, Object.keys(base), call);
  const given = Object.entries(config).filter(([, value]) => value !== undefined && value !== null);
  const settings: Readonly<Record<string, unknown>> = { ...base, ...Object.fromEntries(given) };
  const fail = (name: string, expected: string): never => {
    const got = JSON.stringify(settings[name]);
    throw new InputError(`${call}: ${name} must be ${expected}, got ${got}`, { option: name });
  };
  const check = (names: readonly string[], accepts: (value: unknown) => boolean, expected: string): void => {
    for (const name of names) if (name in base && !accepts(settings[name])) fail(name, expected);
  };
  check(FLAGS, (value) => typeof value === "boolean", "true or false");
  check(NUMBERS, isPositive, "a number above 0");
  check(COUNTS, Number.isSafeInteger, "a whole number");
  check(["resample"], isFilter, "2 (bilinear) or 3 (bicubic)");
  check(["image_mean", "image_std"], isStatistic, "a number or a list of one for each channel");
  check(
    ["image_std"],
    (value) => ![value].flat().includes(0),
    "a number or a list of one for each channel, and not 0",
  );
  const size = sizeOf(settings.size) ?? fail("size", `{ height, width } of 1 to ${MAX_SIDE} pixels`);
  return { ...settings, size } as Settings;
}

const FLAGS = ["do_convert_rgb", "do_resize", "do_rescale", "do_normalize", "do_pan_and_scan"] as const;
const COUNTS = ["pan_and_scan_min_crop_size", "pan_and_scan_max_num_crops"] as const;
const NUMBERS = [...COUNTS, "pan_and_scan_min_ratio_to_activate", "rescale_factor"] as const;

function sizeOf(size: unknown): ImageSettings["size"] | undefined {
  const { height, width, ...others } = (typeof size === "number" ? { height: size, width: size } : size) as {
    height?: unknown;
    width?: unknown;
  };
  const isSide = (side: unknown): side is number =>
    Number.isSafeInteger(side) && (side as number) > 0 && (side as number) <= MAX_SIDE;
  if (!isSide(height) || !isSide(width)) return undefined;
  return Object.values(others).some((value) => value !== null && value !== undefined)
    ? undefined
    : { height, width };
}

function isPositive(value: unknown): boolean {
  return typeof value === "number" && Number.isFinite(value) && value > 0;
}

function isStatistic(value: unknown): value is number | readonly number[] {
  return [value].flat().every((item) => typeof item === "number" && Number.isFinite(item));
}
