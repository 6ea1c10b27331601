import type { ScoredTokens } from "../split-head.ts";
import { kthLargest } from "./selection.ts";

/**
 * The tokens of one row that can still be chosen, with their logits. At first these are all tokens, read from the
 * model's own memory; once a warper has narrowed them down, the next ones touch only the survivors.
 */
export class Candidates {
  /** Token ids in ascending order, or null: entry i is token i. */
  ids: Int32Array | null = null;
  /** How many of the entries count. */
  count: number;
  #logits: Float32Array;
  /** Whether `#logits` may be written: not while it is the model's memory. */
  #owned = false;
  /** A temperature not yet applied: order does not depend on it, so it can wait until few tokens are left. */
  #divisor = 1;

  /** `row` is read, never written. */
  constructor(row: Float32Array) {
    this.#logits = row;
    this.count = row.length;
  }

  /** Of some tokens alone: all others have been ruled out. */
  static among({ ids, logits }: ScoredTokens): Candidates {
    const candidates = new Candidates(logits);
    candidates.ids = ids;
    return candidates;
  }

  /** The logits of the entries; only the first `count` hold. */
  get logits(): Float32Array {
    if (this.#divisor !== 1) {
      const out = this.#owned ? this.#logits : new Float32Array(this.count);
      for (let i = 0; i < this.count; i++) out[i] = this.#logits[i]! / this.#divisor;
      this.#logits = out;
      this.#owned = true;
      this.#divisor = 1;
    }
    return this.#logits;
  }

  /** The token of entry i. */
  idAt(i: number): number {
    return this.ids === null ? i : this.ids[i]!;
  }

  divideBy(temperature: number): void {
    this.#divisor *= temperature;
  }

  subtract(shift: number): void {
    const logits = this.logits;
    const out = this.#owned ? logits : new Float32Array(this.count);
    for (let i = 0; i < this.count; i++) out[i] = logits[i]! - shift;
    this.#logits = out;
    this.#owned = true;
  }

  /** Keeps the k largest, and all that equal the smallest of them. */
  keepLargest(k: number): void {
    if (k < this.count) this.keepFrom(kthLargest(this.#logits, this.count, k), this.#logits);
  }

  /**
   * Keeps the entries whose key (the logit, unless `keys` has others) is at least `threshold`; of those equal to it
   * only the last `ties`.
   */
  keepFrom(threshold: number, keys: Float32Array = this.logits, ties: number = this.count): void {
    let skip = 0;
    if (ties < this.count) {
      for (let i = 0; i < this.count; i++) if (keys[i] === threshold) skip++;
      skip = Math.max(0, skip - ties);
    }
    let ids = new Int32Array(Math.min(this.count, 1024));
    let kept = 0;
    const { count } = this;
    for (let i = 0; i < count; i++) {
      // After a cut hardly any are left: most are passed over four at a time.
      while (
        i + 3 < count &&
        keys[i]! < threshold &&
        keys[i + 1]! < threshold &&
        keys[i + 2]! < threshold &&
        keys[i + 3]! < threshold
      ) {
        i += 4;
      }
      if (i === count || !(keys[i]! >= threshold)) continue;
      if (skip > 0 && keys[i] === threshold) {
        skip--;
        continue;
      }
      if (kept === ids.length) ids = grown(ids, count);
      ids[kept++] = i;
    }
    this.keepOnly(ids.subarray(0, kept));
  }

  /** Keeps the entries at these positions, which ascend. The array becomes part of this object. */
  keepOnly(positions: Int32Array): void {
    if (positions.length === this.count) return;
    const logits = new Float32Array(positions.length);
    for (let n = 0; n < positions.length; n++) logits[n] = this.#logits[positions[n]!]!;
    if (this.ids !== null) for (let n = 0; n < positions.length; n++) positions[n] = this.ids[positions[n]!]!;
    this.ids = positions;
    this.#logits = logits;
    this.#owned = true;
    this.count = positions.length;
  }

  /** Writes the logits to a whole row; tokens that are no longer candidates get `filter_value`. */
  writeTo(row: Float32Array, filter_value: number): void {
    const logits = this.logits;
    if (this.ids === null) {
      if (logits !== row) row.set(logits);
      return;
    }
    row.fill(filter_value);
    for (let n = 0; n < this.count; n++) row[this.ids[n]!] = logits[n]!;
  }
}

function grown(ids: Int32Array, limit: number): Int32Array<ArrayBuffer> {
  const larger = new Int32Array(Math.min(limit, ids.length * 2));
  larger.set(ids);
  return larger;
}
