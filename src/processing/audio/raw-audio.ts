import { writeFile } from "node:fs/promises";
import { InputError } from "../../errors.ts";
import { placeOf, readMediaSource } from "../media-source.ts";
import { decodeAudio } from "./audio-decoder.ts";
import {
  AUDIO,
  type AudioSource,
  audioLimits,
  checkSamplingRate,
  type LoadAudioOptions,
  loadAudioLimits,
  type ReadAudioLimits,
  type ReadAudioOptions,
} from "./audio-source.ts";
import { resample } from "./resample.ts";
import { encodeWav } from "./wav.ts";

/** Everything that is taken where a sound is asked for; bare samples are mono at the rate that is asked for. */
export type AudioInput = AudioSource | RawAudio | Float32Array;

/** Decoded audio, as in Transformers.js: samples in [-1, 1] and how many of them make a second. */
export class RawAudio {
  /** One array of samples, or a list of one for each channel. */
  readonly audio: Float32Array | readonly Float32Array[];
  readonly sampling_rate: number;

  /** Throws an InputError for channels of different lengths or a rate that no sound has. */
  constructor(audio: Float32Array | readonly Float32Array[], sampling_rate: number) {
    const channels = audio instanceof Float32Array ? [audio] : audio;
    if (!Array.isArray(channels) || !channels.every((samples) => samples instanceof Float32Array)) {
      throw new InputError("RawAudio: audio must be a Float32Array or a list of one for each channel");
    }
    const [first] = channels;
    if (first === undefined || channels.some((samples) => samples.length !== first.length)) {
      throw new InputError("RawAudio: needs one channel or several of the same length");
    }
    this.audio = audio;
    this.sampling_rate = checkSamplingRate(sampling_rate, "RawAudio");
  }

  /** Samples of each channel. */
  get channels(): readonly Float32Array[] {
    return this.audio instanceof Float32Array ? [this.audio] : this.audio;
  }

  /** Seconds. */
  get duration(): number {
    return this.channels[0]!.length / this.sampling_rate;
  }

  /**
   * Reads an audio file with all channels at its own sampling rate. Throws an InputError for what is no audio or too
   * long, a HubError for a download that fails.
   */
  static async read(input: AudioSource | RawAudio, options: ReadAudioOptions = {}): Promise<RawAudio> {
    return readRawAudio(input, audioLimits(options, "RawAudio.read"));
  }

  /** `read` for an address. */
  static async fromURL(url: string | URL, options: ReadAudioOptions = {}): Promise<RawAudio> {
    return readRawAudio(url, audioLimits(options, "RawAudio.fromURL"));
  }

  /** `read` for a Blob. */
  static async fromBlob(blob: Blob, options: ReadAudioOptions = {}): Promise<RawAudio> {
    return readRawAudio(blob, audioLimits(options, "RawAudio.fromBlob"));
  }

  /** One channel: the mean of all, as in HF's loaders. Itself where there is one. */
  mono(): RawAudio {
    const { channels } = this;
    const [first] = channels as [Float32Array];
    if (channels.length === 1) return this;
    const mean = new Float32Array(first.length);
    for (let i = 0; i < mean.length; i++) {
      let sum = 0;
      for (const samples of channels) sum += samples[i]!;
      mean[i] = sum / channels.length;
    }
    return new RawAudio(mean, this.sampling_rate);
  }

  /** The same sound with another number of samples a second, filtered below both Nyquist frequencies. */
  resample(sampling_rate: number): RawAudio {
    if (sampling_rate === this.sampling_rate) return this;
    const rate = checkSamplingRate(sampling_rate, "RawAudio.resample");
    return new RawAudio(
      this.channels.map((samples) => resample(samples, this.sampling_rate, rate)),
      rate,
    );
  }

  /** A WAV file of 32-bit floats. */
  toWav(): Uint8Array<ArrayBuffer> {
    return encodeWav(this.channels, this.sampling_rate);
  }

  /** `toWav` as a Blob. */
  toBlob(): Blob {
    return new Blob([this.toWav()], { type: "audio/wav" });
  }

  /** Writes `toWav` into a file. */
  async save(path: string): Promise<void> {
    await writeFile(path, this.toWav());
  }
}

/**
 * HF's and Transformers.js' `load_audio`: the samples of a sound as one channel at 16 kHz, or at the rate given as a
 * number or in the options. Bare samples come back as they are.
 */
export async function load_audio(
  input: AudioInput,
  options: LoadAudioOptions | number = {},
): Promise<Float32Array> {
  const { sampling_rate, ...limits } = loadAudioLimits(options, "load_audio");
  if (input instanceof Float32Array) return input;
  const audio = await readRawAudio(input, limits);
  return audio.mono().resample(sampling_rate).channels[0]!;
}

async function readRawAudio(input: AudioSource | RawAudio, limits: ReadAudioLimits): Promise<RawAudio> {
  limits.signal?.throwIfAborted();
  if (input instanceof RawAudio) return input;
  const bytes = await readMediaSource(input, limits, AUDIO);
  const { channels, sampling_rate } = await decodeAudio(bytes, limits, placeOf(input, AUDIO));
  limits.signal?.throwIfAborted();
  return new RawAudio(channels.length === 1 ? channels[0]! : channels, sampling_rate);
}
