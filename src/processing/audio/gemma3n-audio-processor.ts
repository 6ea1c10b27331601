import { Callable } from "../../callable.ts";
import { InputError, rejectUnknownOptions } from "../../errors.ts";
import { Tensor } from "../../tensor.ts";
import { wantsTensors } from "../encoding.ts";
import { type AudioChunk, chunkAudio } from "./chunks.ts";
import {
  type AudioFeatureSettings,
  audioFeatureSettings,
  type Gemma3nAudioFeatureExtractorConfig,
} from "./feature-settings.ts";
import { LogMel } from "./log-mel.ts";
import { fitLengths, type PaddedSound, type PaddingOptions } from "./padding.ts";
import { type AudioInput, load_audio } from "./raw-audio.ts";

/** One sound or a list. Bare samples, also as plain numbers, are mono at the extractor's sampling rate. */
export type AudioInputs = AudioInput | readonly number[] | readonly (AudioInput | readonly number[])[];

/** How sounds become one batch; names are HF's. */
export interface AudioFeatureOptions extends PaddingOptions {
  /** Whether to give input_features_mask. */
  readonly return_attention_mask?: boolean | null;
  /** The rate of bare samples, to check it against the extractor's. */
  readonly sampling_rate?: number | null;
  /** Cuts each sound into pieces of so many seconds, each a row of its own. */
  readonly chunk_length_s?: number | null;
  /** Seconds that a piece shares with the one before and the one after it, 0 by default; a list: left and right. */
  readonly stride_length_s?: number | readonly [number, number] | null;
  /** Taken as in HF ("pt", "np"); there is always a tensor. */
  readonly return_tensors?: string | null;
  readonly signal?: AbortSignal;
}

export interface AudioFeatures {
  /** float32 [sounds or pieces, frames, feature_size] */
  readonly input_features: Tensor;
  /** bool [sounds or pieces, frames]: 1 where a frame starts inside the sound. */
  readonly input_features_mask?: Tensor;
  /** Where each sound was cut, with chunk_length_s. */
  readonly chunks?: readonly (readonly AudioChunk[])[];
}

type AudioFeaturesCall = (audio: AudioInputs, options?: AudioFeatureOptions) => Promise<AudioFeatures>;

/** Most elements of input_features: 2 GiB, more than 1,300 clips of 30 s. */
const MAX_ELEMENTS = 2 ** 29;
/** Names of the options of a call. */
export const AUDIO_CALL_OPTIONS: readonly (keyof AudioFeatureOptions)[] = [
  "padding",
  "max_length",
  "truncation",
  "pad_to_multiple_of",
  "return_attention_mask",
  "sampling_rate",
  "chunk_length_s",
  "stride_length_s",
  "return_tensors",
  "signal",
];

/** Log-mel features of sounds as HF's Gemma3nAudioFeatureExtractor gives them; what `from_pretrained` needs is above. */
export abstract class Gemma3nAudioProcessing extends Callable<AudioFeaturesCall> {
  readonly config: AudioFeatureSettings;

  protected constructor(config: Gemma3nAudioFeatureExtractorConfig, name: string) {
    super();
    this.config = audioFeatureSettings(config, name);
  }

  get sampling_rate(): number {
    return this.config.sampling_rate;
  }

  /** Features of sounds. What is no array of samples is read with `load_audio`. */
  async _call(audio: AudioInputs, options: AudioFeatureOptions = {}): Promise<AudioFeatures> {
    rejectUnknownOptions(options, AUDIO_CALL_OPTIONS, "feature extractor");
    wantsTensors({ return_tensors: options.return_tensors });
    checkRate(options.sampling_rate, this.sampling_rate);
    const sounds = await loadAll(audio, this.sampling_rate, options.signal);
    const chunks = this.#chunks(sounds, options);
    const pieces = sounds.flatMap((samples, i) =>
      (chunks?.[i] ?? [{ start: 0, end: samples.length }]).map(({ start, end }) =>
        samples.subarray(start, end),
      ),
    );
    const features = this.#features(fitLengths(pieces, this.config, options), options);
    return chunks === undefined ? features : { ...features, chunks };
  }

  #chunks(sounds: readonly Float32Array[], options: AudioFeatureOptions): AudioChunk[][] | undefined {
    const { chunk_length_s, stride_length_s } = options;
    if (chunk_length_s === undefined || chunk_length_s === null) {
      if (stride_length_s === undefined || stride_length_s === null) return undefined;
      throw new InputError("feature extractor: stride_length_s needs chunk_length_s", {
        option: "stride_length_s",
      });
    }
    const samples = (seconds: number): number => Math.round(seconds * this.sampling_rate);
    const [left, right] =
      typeof stride_length_s === "object" && stride_length_s !== null
        ? stride_length_s
        : [stride_length_s ?? 0, stride_length_s ?? 0];
    return sounds.map(({ length }) =>
      chunkAudio(length, samples(chunk_length_s), [samples(left), samples(right)]),
    );
  }

  #features(padded: readonly PaddedSound[], options: AudioFeatureOptions): AudioFeatures {
    const { feature_size, hop_length, frame_length } = this.config;
    const mel = new LogMel(this.config);
    const frames = mel.frames(padded[0]!.samples.length);
    if (padded.some(({ samples }) => mel.frames(samples.length) !== frames)) {
      throw new InputError("feature extractor: sounds of several lengths in one call need padding", {
        option: "padding",
      });
    }
    if (frames === 0) {
      const { length } = padded[0]!.samples;
      throw new InputError(
        `feature extractor: ${length} samples are no frame, which takes ${frame_length + 1}`,
      );
    }
    const size = frames * feature_size;
    if (padded.length * size > MAX_ELEMENTS) {
      throw new InputError(
        `input_features: ${padded.length} sounds of ${frames} frames are over 2^29 elements`,
      );
    }
    const features = new Float32Array(padded.length * size);
    const mask = new Uint8Array(padded.length * frames);
    padded.forEach(({ samples, start, end }, i) => {
      options.signal?.throwIfAborted();
      const row = features.subarray(i * size, (i + 1) * size);
      mel.into(prepared(samples, this.config), row);
      checkFinite(row, i);
      for (let frame = 0; frame < frames; frame++) {
        const at = frame * hop_length;
        mask[i * frames + frame] = at >= start && at < end ? 1 : 0;
      }
    });
    const input_features = new Tensor("float32", features, [padded.length, frames, feature_size]);
    if (!(options.return_attention_mask ?? this.config.return_attention_mask)) return { input_features };
    return { input_features, input_features_mask: new Tensor("bool", mask, [padded.length, frames]) };
  }
}

async function loadAll(
  audio: AudioInputs,
  sampling_rate: number,
  signal: AbortSignal | undefined,
): Promise<Float32Array[]> {
  const isOne = !Array.isArray(audio) || typeof audio[0] === "number";
  const inputs = (isOne ? [audio] : audio) as readonly (AudioInput | readonly number[])[];
  if (inputs.length === 0) throw new InputError("feature extractor: at least one sound is needed");
  const sounds: Float32Array[] = [];
  for (const input of inputs) {
    const samples = Array.isArray(input)
      ? Float32Array.from(input as readonly number[])
      : await load_audio(input as AudioInput, { sampling_rate, ...(signal === undefined ? {} : { signal }) });
    if (samples.length === 0) throw new InputError("feature extractor: a sound without samples");
    sounds.push(samples);
  }
  return sounds;
}

function checkRate(given: number | null | undefined, expected: number): void {
  if (given === undefined || given === null || given === expected) return;
  throw new InputError(
    `feature extractor: samples at ${given} Hz, but ${expected} are expected; give a RawAudio, which is resampled`,
    { option: "sampling_rate" },
  );
}

/** Samples with the noise and the factor of the settings. */
function prepared(samples: Float32Array, { dither, input_scale_factor }: AudioFeatureSettings): Float32Array {
  if (dither === 0 && input_scale_factor === 1) return samples;
  return samples.map(
    (sample) => Math.fround(sample + (dither === 0 ? 0 : dither * gaussian())) * input_scale_factor,
  );
}

/** A normally distributed number (Box and Muller). */
function gaussian(): number {
  return Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
}

function checkFinite(features: Float32Array, index: number): void {
  if (features.every(Number.isFinite)) return;
  throw new InputError(
    `feature extractor: sound ${index} has samples that are no numbers, or beyond measure`,
  );
}
