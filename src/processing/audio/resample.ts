/**
 * Band-limited interpolation (J. O. Smith, "Digital Audio Resampling"): each new sample is the old ones weighted by a
 * sinc under a Kaiser window, cut off below the lower of the two Nyquist frequencies. The numbers are the "kaiser_best"
 * ones of resampy and torchaudio; HF's loaders call libsoxr, which filters alike (stop band beyond 140 dB).
 */
const ZERO_CROSSINGS = 64;
const ROLLOFF = 0.9475937167399596;
const BETA = 14.769656459379492;
/** Between the table's points the filter is taken to be straight, which is wrong by at most 6e-9. */
const POINTS_PER_CROSSING = 8192;

let table: Float64Array | undefined;

/** Number of samples that `length` ones become. */
export function resampledLength(length: number, from: number, to: number): number {
  return Math.ceil((length * to) / from);
}

/** Samples at rate `to` of a sound given at rate `from`; silence lies on both sides. */
export function resample(samples: Float32Array, from: number, to: number): Float32Array {
  if (from === to) return samples;
  table ??= filterTable();
  const out = new Float32Array(resampledLength(samples.length, from, to));
  // In units of the filter's zero crossings per old sample.
  const scale = Math.min(1, to / from) * ROLLOFF;
  const step = scale * POINTS_PER_CROSSING;
  const reach = ZERO_CROSSINGS / scale;
  for (let n = 0; n < out.length; n++) {
    const center = (n * from) / to;
    const first = Math.max(0, Math.ceil(center - reach));
    const last = Math.min(samples.length - 1, Math.floor(center + reach));
    let sum = 0;
    for (let i = first; i <= last; i++) {
      const at = Math.abs(center - i) * step;
      const point = Math.floor(at);
      const before = table[point]!;
      sum += samples[i]! * (before + (table[point + 1]! - before) * (at - point));
    }
    out[n] = sum * scale;
  }
  return out;
}

/** One half of the filter, which is symmetric, up to one point beyond its end. */
function filterTable(): Float64Array {
  const length = ZERO_CROSSINGS * POINTS_PER_CROSSING;
  const filter = new Float64Array(length + 2);
  const top = besselI0(BETA);
  for (let i = 0; i <= length; i++) {
    const t = i / POINTS_PER_CROSSING;
    const sinc = i === 0 ? 1 : Math.sin(Math.PI * t) / (Math.PI * t);
    filter[i] = (sinc * besselI0(BETA * Math.sqrt(1 - (t / ZERO_CROSSINGS) ** 2))) / top;
  }
  return filter;
}

/** The modified Bessel function of order 0 by its power series. */
function besselI0(x: number): number {
  let sum = 1;
  let term = 1;
  for (let k = 1; term > sum * 1e-17; k++) {
    term *= (x / (2 * k)) ** 2;
    sum += term;
  }
  return sum;
}
