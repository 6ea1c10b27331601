/** The part of a frequency band's triangle that is above 0: weights of the spectrum's bins from `first` on. */
export interface MelFilter {
  readonly first: number;
  readonly weights: Float64Array;
}

export interface MelScale {
  readonly sampling_rate: number;
  readonly fft_length: number;
  /** Number of bands. */
  readonly feature_size: number;
  readonly min_frequency: number;
  readonly max_frequency: number;
}

/** Triangles at equal distances on HTK's mel scale, 2595 · log10(1 + f / 700), of height 1 (no area normalisation). */
export function melFilters(scale: MelScale): MelFilter[] {
  const { sampling_rate, fft_length, feature_size } = scale;
  const binWidth = Math.fround(sampling_rate / fft_length);
  const frequencies = Array.from({ length: fft_length / 2 + 1 }, (_, k) => Math.fround(k * binWidth));
  const corners = melCorners(scale);
  return Array.from({ length: feature_size }, (_, band) => {
    const [left, top, right] = corners.slice(band, band + 3) as [number, number, number];
    const weights = frequencies.map((f) =>
      Math.max(0, Math.min((f - left) / (top - left), (right - f) / (right - top))),
    );
    const first = weights.findIndex((weight) => weight > 0);
    const last = weights.findLastIndex((weight) => weight > 0);
    // A band narrower than a bin may lie between two of them.
    return {
      first: Math.max(first, 0),
      weights: Float64Array.from(weights.slice(Math.max(first, 0), last + 1)),
    };
  });
}

/** Where the triangles begin, peak and end, in Hz. */
function melCorners({ feature_size, min_frequency, max_frequency }: MelScale): number[] {
  const toMel = (f: number): number => 2595 * Math.log10(1 + f / 700);
  const low = toMel(min_frequency);
  const high = toMel(max_frequency);
  const step = (high - low) / (feature_size + 1);
  return Array.from({ length: feature_size + 2 }, (_, i) => {
    const mel = i === feature_size + 1 ? high : low + i * step;
    return 700 * (10 ** (mel / 2595) - 1);
  });
}
