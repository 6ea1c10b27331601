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

/** Weights that are kept: 32 MiB. */
const MOST_WEIGHTS = 2 ** 22;

let table: Float64Array | undefined;

/** Number of samples that `length` ones become. */
export function resampledLength(length: number, from: number, to: number): number {
  return Math.ceil((length * to) / from);
}

/** Samples at rate `to` of a sound given at rate `from`; silence lies on both sides. */
export function resample(samples: Float32Array, from: number, to: number): Float32Array {
  if (from === to) return samples;
  const kernels = new Kernels(from, to);
  const out = new Float32Array(resampledLength(samples.length, from, to));
  for (let n = 0; n < out.length; n++) {
    const first = Math.floor((n * from) / to) - kernels.reach;
    const kernel = kernels.at((n * from) % to);
    const end = Math.min(kernel.length, samples.length - first);
    let sum = 0;
    for (let k = Math.max(0, -first); k < end; k++) sum += kernel[k]! * samples[first + k]!;
    out[n] = sum;
  }
  return out;
}

/** Weights of old samples by where a new one lies between two of them; common rates have few such places. */
class Kernels {
  /** Old samples before the new one that count. */
  readonly reach: number;
  readonly #to: number;
  /** In zero crossings of the filter per old sample. */
  readonly #scale: number;
  readonly #kept: Map<number, Float64Array> = new Map();
  readonly #mostKept: number;

  constructor(from: number, to: number) {
    this.#to = to;
    this.#scale = Math.min(1, to / from) * ROLLOFF;
    this.reach = Math.ceil(ZERO_CROSSINGS / this.#scale);
    this.#mostKept = MOST_WEIGHTS / (2 * this.reach + 2);
  }

  /** For a new sample that lies `phase` / `to` old samples behind an old one. */
  at(phase: number): Float64Array {
    const kept = this.#kept.get(phase);
    if (kept !== undefined) return kept;
    const kernel = new Float64Array(2 * this.reach + 2);
    table ??= filterTable();
    for (let k = 0; k < kernel.length; k++) {
      const at = Math.abs(phase / this.#to + this.reach - k) * this.#scale * POINTS_PER_CROSSING;
      const point = Math.floor(at);
      const before = table[point] ?? 0;
      kernel[k] = (before + ((table[point + 1] ?? 0) - before) * (at - point)) * this.#scale;
    }
    if (this.#kept.size < this.#mostKept) this.#kept.set(phase, kernel);
    return kernel;
  }
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
