import { InputError } from "../../errors.ts";

/** What bounds the memory of decoded audio. */
export interface AudioLimits {
  readonly maxSeconds: number;
  /** Samples of all channels together. */
  readonly maxSamples: number;
}

/** The slowest and the fastest sampling that is read; telephones have 8000, recorders at most 384,000. */
export const LOWEST_RATE = 1_000;
export const HIGHEST_RATE = 768_000;
const MOST_CHANNELS = 64;

/** Decoded audio: one array of samples in [-1, 1] per channel. */
export interface Samples {
  readonly channels: readonly Float32Array[];
  readonly sampling_rate: number;
}

/** Gathers what a decoder gives piece by piece, and stops at the limits before memory does. */
export class SampleBuffer {
  readonly #pieces: Float32Array[][] = [];
  readonly #limits: AudioLimits;
  readonly #place: string;
  #format: { channels: number; sampling_rate: number } | undefined;
  #length = 0;

  /** `place` names the file in messages. */
  constructor(limits: AudioLimits, place: string) {
    this.#limits = limits;
    this.#place = place;
  }

  /** Samples of each channel so far. */
  get length(): number {
    return this.#length;
  }

  /** Throws where `more` samples a channel would pass a limit, or where the format is none or changes midway. */
  check(more: number, channels: number, sampling_rate: number): void {
    this.#format ??= checkFormat(channels, sampling_rate, this.#place);
    if (channels !== this.#format.channels || sampling_rate !== this.#format.sampling_rate) {
      const { channels: before, sampling_rate: rate } = this.#format;
      throw new InputError(
        `${this.#place}: changes midway from ${before} channels of ${rate} Hz to ${channels} of ${sampling_rate} Hz`,
      );
    }
    const length = this.#length + more;
    const { maxSeconds, maxSamples } = this.#limits;
    if (length > maxSeconds * sampling_rate) {
      const limit = `${this.#place}: is longer than ${maxSeconds} s`;
      throw new InputError(`${limit}; raise the limit with the option maxSeconds`, { option: "maxSeconds" });
    }
    if (length * channels > maxSamples) {
      const limit = `${this.#place}: has more than ${maxSamples} samples`;
      throw new InputError(`${limit}; raise the limit with the option maxSamples`, { option: "maxSamples" });
    }
  }

  /** Adds samples that the caller gives away, one array per channel. */
  push(channels: Float32Array[], sampling_rate: number): void {
    const length = channels[0]?.length ?? 0;
    if (length === 0) return;
    this.check(length, channels.length, sampling_rate);
    this.#pieces.push(channels);
    this.#length += length;
  }

  /** Everything, from sample `start` to before `end`. */
  finish(start = 0, end: number = this.#length): Samples {
    if (this.#format === undefined || end <= start) {
      throw new InputError(`${this.#place}: holds no samples`);
    }
    const { channels, sampling_rate } = this.#format;
    const joined = Array.from({ length: channels }, (_, c) => this.#join(c).subarray(start, end));
    return { channels: joined, sampling_rate };
  }

  /** Frees the pieces of a channel as it joins them. */
  #join(channel: number): Float32Array {
    if (this.#pieces.length === 1) return this.#pieces[0]![channel]!;
    const joined = new Float32Array(this.#length);
    let offset = 0;
    for (const piece of this.#pieces) {
      joined.set(piece[channel]!, offset);
      offset += piece[channel]!.length;
      piece[channel] = new Float32Array(0);
    }
    return joined;
  }
}

function checkFormat(
  channels: number,
  sampling_rate: number,
  place: string,
): { channels: number; sampling_rate: number } {
  if (!Number.isInteger(channels) || channels < 1 || channels > MOST_CHANNELS) {
    throw new InputError(`${place}: has ${channels} channels; 1 to ${MOST_CHANNELS} are read`);
  }
  if (!(sampling_rate >= LOWEST_RATE && sampling_rate <= HIGHEST_RATE)) {
    throw new InputError(
      `${place}: has ${sampling_rate} samples a second; ${LOWEST_RATE} to ${HIGHEST_RATE} are read`,
    );
  }
  return { channels, sampling_rate };
}
