import { InputError, rejectUnknownOptions } from "../../errors.ts";
import {
  MEDIA_OPTIONS,
  type MediaKind,
  type MediaLimits,
  type MediaOptions,
  type MediaSource,
  mediaLimits,
  positive,
} from "../media-source.ts";
import { type AudioLimits, HIGHEST_RATE, LOWEST_RATE } from "./sample-buffer.ts";

export interface ReadAudioOptions extends MediaOptions {
  /** Longest sound in seconds, 3600 by default. */
  readonly maxSeconds?: number;
  /** Most samples of all channels, 2^28 (1 GiB) by default. */
  readonly maxSamples?: number;
}

export interface LoadAudioOptions extends ReadAudioOptions {
  /** Samples a second of the result, 16000 by default: what Gemma 3n hears. */
  readonly sampling_rate?: number;
}

export const AUDIO: MediaKind = {
  noun: "audio",
  expected: "audio is a path, a URL, bytes, a Blob, a Float32Array of samples or a RawAudio",
};

const MAX_SECONDS = 3600;
const MAX_SAMPLES = 2 ** 28;
const SAMPLING_RATE = 16_000;
const READ_OPTIONS = ["maxSeconds", "maxSamples", ...MEDIA_OPTIONS];

/** An audio file: its path, its http(s):, file: or data: address, or its bytes. */
export type AudioSource = MediaSource;

/** Options with every default filled in. */
export type ReadAudioLimits = MediaLimits & AudioLimits;

/** Checks options; what is left out takes its default. */
export function audioLimits(options: ReadAudioOptions, call: string): ReadAudioLimits {
  rejectUnknownOptions(options, READ_OPTIONS, call);
  return {
    maxSeconds: positive(options.maxSeconds ?? MAX_SECONDS, "maxSeconds", call),
    maxSamples: positive(options.maxSamples ?? MAX_SAMPLES, "maxSamples", call),
    ...mediaLimits(options, call),
  };
}

/** The same for `load_audio`, whose options may be just the sampling rate, as in Transformers.js. */
export function loadAudioLimits(
  options: LoadAudioOptions | number,
  call: string,
): ReadAudioLimits & { readonly sampling_rate: number } {
  const { sampling_rate = SAMPLING_RATE, ...others } =
    typeof options === "number" ? { sampling_rate: options } : options;
  return { sampling_rate: checkSamplingRate(sampling_rate, call), ...audioLimits(others, call) };
}

/** Throws for a rate that no sound has. */
export function checkSamplingRate(sampling_rate: number, call: string): number {
  if (sampling_rate >= LOWEST_RATE && sampling_rate <= HIGHEST_RATE) return sampling_rate;
  const limits = `${LOWEST_RATE} to ${HIGHEST_RATE}`;
  throw new InputError(`${call}: sampling_rate must be ${limits}, got ${String(sampling_rate)}`, {
    option: "sampling_rate",
  });
}
