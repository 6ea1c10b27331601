import { InputError } from "../../errors.ts";
import type { AudioFeatureSettings } from "./feature-settings.ts";

/** How sounds come to one length; names and defaults are HF's, but for `truncation`. */
export interface PaddingOptions {
  /** true or "longest" (default), "max_length", or false for sounds of one length. */
  readonly padding?: boolean | "longest" | "max_length" | "do_not_pad";
  /** Longest sound in samples, 480000 (30 s) by default; null: no limit. */
  readonly max_length?: number | null;
  /** What becomes of a longer sound: by default an error, true cuts it as HF does in silence, false keeps it whole. */
  readonly truncation?: boolean | null;
  /** Samples are padded to a multiple of this, 128 by default. */
  readonly pad_to_multiple_of?: number | null;
}

/** A sound with its padding: it lies between `start` and `end`. */
export interface PaddedSound {
  readonly samples: Float32Array;
  readonly start: number;
  readonly end: number;
}

const MAX_LENGTH = 480_000;
const PAD_TO_MULTIPLE_OF = 128;

/** Cuts and pads sounds as the options say. */
export function fitLengths(
  sounds: readonly Float32Array[],
  { padding_side, padding_value, sampling_rate }: AudioFeatureSettings,
  options: PaddingOptions,
): PaddedSound[] {
  const multiple = wholeNumber(options.pad_to_multiple_of, PAD_TO_MULTIPLE_OF, "pad_to_multiple_of") ?? 1;
  const limit = wholeNumber(options.max_length, MAX_LENGTH, "max_length");
  const roundUp = (length: number): number => Math.ceil(length / multiple) * multiple;
  const longest = limit === undefined ? Number.POSITIVE_INFINITY : roundUp(limit);
  const cut = sounds.map((samples) => {
    if (samples.length <= longest || options.truncation === false) return samples;
    if (options.truncation === true) return samples.subarray(0, longest);
    const seconds = (length: number): string => `${Number((length / sampling_rate).toFixed(2))} s`;
    throw new InputError(
      `a sound of ${seconds(samples.length)} is longer than ${seconds(longest)}, max_length (${limit}); chunk_length_s ` +
        "cuts it into pieces, truncation: true drops the rest",
      { option: "max_length" },
    );
  });
  const length = paddedLength(cut, limit, options.padding ?? "longest");
  return cut.map((samples) => {
    const total = length === undefined ? samples.length : Math.max(samples.length, roundUp(length));
    const start = padding_side === "right" ? 0 : total - samples.length;
    if (total === samples.length) return { samples, start, end: total };
    const padded = new Float32Array(total).fill(padding_value);
    padded.set(samples, start);
    return { samples: padded, start, end: start + samples.length };
  });
}

/** The length to pad to; undefined: none. */
function paddedLength(
  sounds: readonly Float32Array[],
  limit: number | undefined,
  padding: NonNullable<PaddingOptions["padding"]>,
): number | undefined {
  switch (padding) {
    case false:
    case "do_not_pad":
      return undefined;
    case true:
    case "longest":
      return Math.max(...sounds.map(({ length }) => length));
    case "max_length":
      if (limit !== undefined) return limit;
      throw new InputError('feature extractor: padding "max_length" needs max_length', {
        option: "max_length",
      });
    default:
      throw new InputError(
        `feature extractor: padding must be true, false, "longest" or "max_length", got ${JSON.stringify(padding)}`,
        { option: "padding" },
      );
  }
}

function wholeNumber(given: number | null | undefined, fallback: number, option: string): number | undefined {
  if (given === null) return undefined;
  const value = given ?? fallback;
  if (Number.isSafeInteger(value) && value > 0) return value;
  throw new InputError(`feature extractor: ${option} must be a whole number above 0, got ${String(given)}`, {
    option,
  });
}
