import { InputError, RuntimeError } from "../errors.ts";
import type { Candidates } from "./logits-processors/candidates.ts";
import { exponentials, largest } from "./math.ts";

/**
 * Random numbers that a seed fixes: xoshiro128** 1.1 (Blackman and Vigna, https://prng.di.unimi.it), its state filled
 * by splitmix32 from the seed and the stream's number. Streams of one seed are independent: generate gives every row
 * its own, so that a row's text does not depend on which rows stand beside it.
 */
export class Random {
  readonly #state = new Uint32Array(4);

  /** Without a seed (an integer from 0 to 2^64 - 1) the numbers differ every time. */
  constructor(seed: number | bigint = randomSeed(), stream = 0) {
    const bits = BigInt(seed);
    let mixed = splitmix32(Number(bits & 0xffff_ffffn));
    mixed = splitmix32(mixed ^ Number((bits >> 32n) & 0xffff_ffffn));
    mixed = splitmix32(mixed ^ stream);
    for (let i = 0; i < 4; i++) this.#state[i] = mixed = splitmix32(mixed + i);
    // The one state that never leaves zero.
    if (this.#state.every((word) => word === 0)) this.#state[0] = 1;
  }

  /** Uniform in [0, 1), of 53 random bits. */
  next(): number {
    return ((this.#word() >>> 5) * 0x400_0000 + (this.#word() >>> 6)) / 0x20_0000_0000_0000;
  }

  /** A standard Gumbel variable: adding one to each log-probability and taking the largest is a draw. */
  gumbel(): number {
    return -Math.log(-Math.log(this.next() || Number.MIN_VALUE));
  }

  #word(): number {
    const s = this.#state;
    const result = Math.imul(rotate(Math.imul(s[1]!, 5), 7), 9) >>> 0;
    const shifted = s[1]! << 9;
    s[2] = s[2]! ^ s[0]!;
    s[3] = s[3]! ^ s[1]!;
    s[1] = s[1]! ^ s[2]!;
    s[0] = s[0]! ^ s[3]!;
    s[2] = s[2]! ^ shifted;
    s[3] = rotate(s[3]!, 11);
    return result;
  }
}

function rotate(word: number, by: number): number {
  return ((word << by) | (word >>> (32 - by))) >>> 0;
}

function splitmix32(seed: number): number {
  let z = (seed + 0x9e37_79b9) >>> 0;
  z = Math.imul(z ^ (z >>> 16), 0x85eb_ca6b);
  z = Math.imul(z ^ (z >>> 13), 0xc2b2_ae35);
  return (z ^ (z >>> 16)) >>> 0;
}

/** A seed from the system. */
export function randomSeed(): bigint {
  return globalThis.crypto.getRandomValues(new BigUint64Array(1))[0]!;
}

/** Draws a token with the probabilities that the candidates' logits give. */
export function drawToken(candidates: Candidates, random: Random): number {
  const { logits, count } = candidates;
  const max = largest(logits, count);
  checkScore(max);
  const weights = new Float32Array(count);
  const total = exponentials(logits, max, weights, count);
  if (!(total > 0)) throw new RuntimeError("the scores of a row contain NaN");
  let rest = random.next() * total;
  let last = -1;
  for (let i = 0; i < count; i++) {
    if (weights[i] === 0) continue;
    rest -= weights[i]!;
    last = i;
    if (rest < 0) break;
  }
  // Rounding may leave a rest at the end: then the last possible token it is.
  return candidates.idAt(last);
}

/** Throws when the best score of a row shows that there is no choice: NaN, or every token ruled out. */
export function checkScore(best: number): void {
  if (Number.isNaN(best)) throw new RuntimeError("the scores of a row contain NaN");
  if (best === Number.NEGATIVE_INFINITY) {
    throw new InputError("the generation options rule out every token of a row");
  }
}
