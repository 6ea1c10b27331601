import type { Candidates } from "../logits-processors/candidates.ts";
import { exponentials, largest } from "../math.ts";
import { checkScore, type Random } from "../sampling.ts";

/** Probabilities of the tokens that can be drawn, apart from the model's memory. */
export class Distribution {
  /** Ascending, or null: entry i is token i. */
  readonly #ids: Int32Array | null;
  readonly #probabilities: Float32Array;

  constructor(candidates: Candidates) {
    const { logits, count, ids } = candidates;
    const max = largest(logits, count);
    checkScore(max);
    const weights = new Float32Array(count);
    const total = exponentials(logits, max, weights, count);
    for (let i = 0; i < count; i++) weights[i] = weights[i]! / total;
    this.#ids = ids === null ? null : ids.slice(0, count);
    this.#probabilities = weights;
  }

  /** The probability of a token. */
  of(token: number): number {
    if (this.#ids === null) return this.#probabilities[token] ?? 0;
    let [low, high] = [0, this.#ids.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#ids[middle]! < token) low = middle + 1;
      else high = middle;
    }
    return this.#ids[low] === token ? this.#probabilities[low]! : 0;
  }

  /**
   * Whether a token that was drawn from `draft` stands, or another in its place, so that the outcome has the
   * probabilities of this distribution: Leviathan, Kalman and Matias, "Fast inference from transformers via
   * speculative decoding", 2023, algorithm 1, which is HF's rule too.
   */
  settle(guess: number, draft: Distribution, random: Random): number {
    if (random.next() * draft.of(guess) < this.of(guess)) return guess;
    // Only what this distribution has more of is missing from the guesses that stand.
    const missing = this.#probabilities.map((p, i) => Math.max(0, p - draft.of(this.#ids?.[i] ?? i)));
    const total = missing.reduce((sum, p) => sum + p, 0);
    // Nothing is missing where the two differ by rounding alone.
    return total > 0 ? this.#draw(missing, total, random) : this.#draw(this.#probabilities, 1, random);
  }

  #draw(weights: Float32Array, total: number, random: Random): number {
    let rest = random.next() * total;
    let last = -1;
    for (let i = 0; i < weights.length; i++) {
      if (weights[i] === 0) continue;
      rest -= weights[i]!;
      last = i;
      if (rest < 0) break;
    }
    return this.#ids?.[last] ?? last;
  }
}
