import type { AudioFeatureSettings } from "./feature-settings.ts";
import { SpectrumMagnitude } from "./fft.ts";
import { type MelFilter, melFilters } from "./mel-filters.ts";

/**
 * Log-mel frames as HF's Gemma3nAudioFeatureExtractor computes them: what is float32 there is rounded to float32 here
 * as well, except the spectrum, which is float64.
 */
export class LogMel {
  readonly #settings: AudioFeatureSettings;
  readonly #window: Float32Array;
  readonly #filters: readonly MelFilter[];
  readonly #spectrum: SpectrumMagnitude;
  readonly #frame: Float32Array;
  readonly #magnitudes: Float64Array;

  constructor(settings: AudioFeatureSettings) {
    this.#settings = settings;
    this.#window = periodicHann(settings.frame_length);
    this.#filters = melFilters(settings);
    this.#spectrum = new SpectrumMagnitude(settings.fft_length);
    this.#frame = new Float32Array(settings.frame_length);
    this.#magnitudes = new Float64Array(settings.fft_length / 2 + 1);
  }

  /** Frames that `length` samples give: each reads one sample more than it is long. */
  frames(length: number): number {
    const { frame_length, hop_length } = this.#settings;
    return Math.max(0, Math.floor((length - frame_length - 1) / hop_length) + 1);
  }

  /** Writes `frames(samples.length)` rows of `feature_size` numbers. */
  into(samples: Float32Array, out: Float32Array): void {
    const { hop_length, feature_size } = this.#settings;
    const frames = this.frames(samples.length);
    for (let i = 0; i < frames; i++) {
      this.#windowed(samples, i * hop_length);
      this.#spectrum.into(this.#frame, this.#magnitudes);
      this.#bands(out.subarray(i * feature_size, (i + 1) * feature_size));
    }
  }

  /** One frame from sample `start` on, with its high notes raised (pre-emphasis), under the window. */
  #windowed(samples: Float32Array, start: number): void {
    const { preemphasis, preemphasis_htk_flavor, frame_length } = this.#settings;
    const frame = this.#frame;
    const window = this.#window;
    const factor = Math.fround(preemphasis);
    // HTK's flavour starts each frame from its own first sample; the other one reads one sample further instead.
    const shift = preemphasis > 0 && !preemphasis_htk_flavor ? 1 : 0;
    for (let i = 0; i < frame_length; i++) {
      const at = start + i + shift;
      let sample = samples[at]!;
      if (preemphasis > 0) {
        if (i + shift === 0) sample = Math.fround(sample * Math.fround(1 - preemphasis));
        else sample = Math.fround(sample - Math.fround(factor * samples[at - 1]!));
      }
      frame[i] = sample * window[i]!;
    }
  }

  #bands(out: Float32Array): void {
    const { mel_floor, per_bin_mean, per_bin_stddev } = this.#settings;
    const magnitudes = this.#magnitudes;
    for (let band = 0; band < out.length; band++) {
      const { first, weights } = this.#filters[band]!;
      let sum = 0;
      for (let k = 0; k < weights.length; k++) sum += magnitudes[first + k]! * weights[k]!;
      const level = Math.log(Math.max(sum, mel_floor)) - (per_bin_mean?.[band] ?? 0);
      out[band] = level / (per_bin_stddev?.[band] ?? 1);
    }
  }
}

/** The Hann window whose period, not length, is the frame. */
function periodicHann(length: number): Float32Array {
  const turn = Math.fround(2 * Math.PI);
  return Float32Array.from({ length }, (_, i) => {
    const angle = Math.fround(Math.fround(turn * i) / length);
    return 0.5 * Math.fround(1 - Math.fround(Math.cos(angle)));
  });
}
