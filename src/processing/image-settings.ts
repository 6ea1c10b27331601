import { InputError, rejectUnknownOptions } from "../errors.ts";
import type { PanAndScanSettings } from "./pan-and-scan.ts";

/** Height and width in pixels; a number is a square. */
export type ImageSize = number | { readonly height: number; readonly width: number };

/** What preprocessor_config.json says, under its names; null is the same as nothing. */
export interface Gemma3ImageProcessorConfig {
  readonly do_convert_rgb?: boolean | null;
  readonly do_resize?: boolean | null;
  readonly size?: ImageSize | null;
  /** Pillow's number of a filter; 2, bilinear, is the only one here. */
  readonly resample?: number | null;
  readonly do_rescale?: boolean | null;
  readonly rescale_factor?: number | null;
  readonly do_normalize?: boolean | null;
  readonly image_mean?: number | readonly number[] | null;
  readonly image_std?: number | readonly number[] | null;
  readonly do_pan_and_scan?: boolean | null;
  readonly pan_and_scan_min_crop_size?: number | null;
  readonly pan_and_scan_max_num_crops?: number | null;
  readonly pan_and_scan_min_ratio_to_activate?: number | null;
}

/** Settings with every default filled in. */
export interface ImageSettings extends PanAndScanSettings {
  readonly do_convert_rgb: boolean;
  readonly do_resize: boolean;
  readonly size: { readonly height: number; readonly width: number };
  readonly resample: number;
  readonly do_rescale: boolean;
  readonly rescale_factor: number;
  readonly do_normalize: boolean;
  readonly image_mean: number | readonly number[];
  readonly image_std: number | readonly number[];
  readonly do_pan_and_scan: boolean;
}

/** HF's class defaults; those of pan-and-scan, where its image processor has none, are Gemma3Processor's. */
export const DEFAULT_IMAGE_SETTINGS: ImageSettings = {
  do_convert_rgb: true,
  do_resize: true,
  size: { height: 224, width: 224 },
  resample: 2,
  do_rescale: true,
  rescale_factor: 1 / 255,
  do_normalize: true,
  image_mean: [0.5, 0.5, 0.5],
  image_std: [0.5, 0.5, 0.5],
  do_pan_and_scan: false,
  pan_and_scan_min_crop_size: 256,
  pan_and_scan_max_num_crops: 4,
  pan_and_scan_min_ratio_to_activate: 1.2,
};

/** Names of the settings, in files and as options. */
export const IMAGE_SETTING_NAMES: readonly string[] = Object.keys(DEFAULT_IMAGE_SETTINGS);

const BILINEAR = 2;
/** A resized image has sides of at most this many pixels; real ones have 896. */
const MAX_SIDE = 16_384;

/** Settings in place of `base`'s, checked. Throws an InputError for an unknown name or a value that makes no sense. */
export function imageSettings(
  config: Gemma3ImageProcessorConfig,
  base: ImageSettings,
  call: string,
): ImageSettings {
  rejectUnknownOptions(config, IMAGE_SETTING_NAMES, call);
  const given = Object.entries(config).filter(([, value]) => value !== undefined && value !== null);
  const settings = { ...base, ...Object.fromEntries(given) } as Record<keyof ImageSettings, unknown>;
  const fail = (name: string, expected: string): never => {
    const got = JSON.stringify(settings[name as keyof ImageSettings]);
    throw new InputError(`${call}: ${name} must be ${expected}, got ${got}`, { option: name });
  };
  for (const name of FLAGS) if (typeof settings[name] !== "boolean") fail(name, "true or false");
  for (const name of NUMBERS) if (!isPositive(settings[name])) fail(name, "a number above 0");
  for (const name of COUNTS) if (!Number.isSafeInteger(settings[name])) fail(name, "a whole number");
  if (settings.resample !== BILINEAR) fail("resample", "2 (bilinear), the only filter here");
  if (!isStatistic(settings.image_mean)) fail("image_mean", "a number or a list of one for each channel");
  if (!isStatistic(settings.image_std) || [settings.image_std].flat().includes(0)) {
    fail("image_std", "a number or a list of one for each channel, and not 0");
  }
  const size = sizeOf(settings.size) ?? fail("size", `{ height, width } of 1 to ${MAX_SIDE} pixels`);
  return { ...(settings as unknown as ImageSettings), size };
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
