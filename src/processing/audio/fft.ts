/** Magnitudes of real signals' spectra, by a radix-2 FFT in float64. */
export class SpectrumMagnitude {
  /** A power of two, at least 2. */
  readonly size: number;
  readonly #cos: Float64Array;
  readonly #sin: Float64Array;
  readonly #order: Uint32Array;
  readonly #real: Float64Array;
  readonly #imaginary: Float64Array;

  constructor(size: number) {
    this.size = size;
    const half = size / 2;
    this.#cos = Float64Array.from({ length: half }, (_, i) => Math.cos((2 * Math.PI * i) / size));
    this.#sin = Float64Array.from({ length: half }, (_, i) => -Math.sin((2 * Math.PI * i) / size));
    this.#order = bitReversal(half);
    this.#real = new Float64Array(half);
    this.#imaginary = new Float64Array(half);
  }

  /** |X_k| for k = 0 … size / 2 of `signal`, which may be shorter than `size`: zeros follow. */
  into(signal: Float32Array, magnitudes: Float64Array): void {
    const half = this.size / 2;
    const re = this.#real;
    const im = this.#imaginary;
    // Even samples as real and odd ones as imaginary parts: one transform of half the size does for both.
    for (let i = 0; i < half; i++) {
      const from = 2 * this.#order[i]!;
      re[i] = signal[from] ?? 0;
      im[i] = signal[from + 1] ?? 0;
    }
    this.#transform();
    for (let k = 0; k <= half; k++) {
      const a = k % half;
      const b = (half - k) % half;
      const evenRe = (re[a]! + re[b]!) / 2;
      const evenIm = (im[a]! - im[b]!) / 2;
      const oddRe = (im[a]! + im[b]!) / 2;
      const oddIm = (re[b]! - re[a]!) / 2;
      const cos = k === half ? -1 : this.#cos[k]!;
      const sin = k === half ? 0 : this.#sin[k]!;
      const real = evenRe + oddRe * cos - oddIm * sin;
      const imaginary = evenIm + oddRe * sin + oddIm * cos;
      magnitudes[k] = Math.sqrt(real * real + imaginary * imaginary);
    }
  }

  #transform(): void {
    const re = this.#real;
    const im = this.#imaginary;
    const size = re.length;
    for (let span = 1; span < size; span *= 2) {
      // Angles of this stage among those of the whole signal.
      const stride = size / span;
      for (let start = 0; start < size; start += 2 * span) {
        for (let i = 0; i < span; i++) {
          const cos = this.#cos[i * stride]!;
          const sin = this.#sin[i * stride]!;
          const low = start + i;
          const high = low + span;
          const turnedRe = re[high]! * cos - im[high]! * sin;
          const turnedIm = re[high]! * sin + im[high]! * cos;
          re[high] = re[low]! - turnedRe;
          im[high] = im[low]! - turnedIm;
          re[low]! += turnedRe;
          im[low]! += turnedIm;
        }
      }
    }
  }
}

function bitReversal(size: number): Uint32Array {
  const order = new Uint32Array(size);
  for (let i = 1; i < size; i++) order[i] = (order[i >> 1]! >> 1) | (i & 1 ? size >> 1 : 0);
  return order;
}
