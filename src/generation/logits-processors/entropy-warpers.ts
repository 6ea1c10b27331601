import { numberWhere } from "../checks.ts";
import { exponentials, largest, logSumExp } from "../math.ts";
import { CandidateWarper, namedArguments } from "./base.ts";
import type { Candidates } from "./candidates.ts";
import { kthLargest, massCrossing } from "./selection.ts";
import { type FilterOptions, filterValue, leastKept, minTokens } from "./warpers.ts";

/**
 * Locally typical sampling: keeps the tokens whose information is nearest to the expected one until they reach the
 * probability `mass` (https://huggingface.co/papers/2202.00666). generate's `typical_p`.
 */
export class TypicalLogitsWarper extends CandidateWarper {
  readonly mass: number;
  readonly min_tokens_to_keep: number;

  constructor(mass?: number, options?: FilterOptions);
  constructor(options: { mass: number } & FilterOptions);
  constructor(...given: unknown[]) {
    super();
    const names = ["mass", "filter_value", "min_tokens_to_keep"];
    const options = namedArguments("TypicalLogitsWarper", names, given);
    this.filter_value = filterValue(options);
    this.min_tokens_to_keep = minTokens(options);
    this.mass = numberWhere("mass", options.mass ?? 0.9, "a number in (0, 1)", (n) => n > 0 && n < 1);
  }

  override warp(candidates: Candidates): void {
    const { logits, count } = candidates;
    const { weights, total, shift, entropy } = distribution(logits, count);
    // The nearest first: keys descend with the distance from the entropy.
    const keys = new Float32Array(count);
    for (let i = 0; i < count; i++) keys[i] = -Math.abs(shift - logits[i]! - entropy);
    const { key } = massCrossing(keys, weights, count, this.mass * total);
    const least = kthLargest(keys, count, Math.min(this.min_tokens_to_keep, count));
    candidates.keepFrom(Math.min(key, least), keys);
  }
}

/** Keeps tokens of at least the probability `epsilon` (https://huggingface.co/papers/2210.15191). */
export class EpsilonLogitsWarper extends CandidateWarper {
  readonly epsilon: number;
  readonly min_tokens_to_keep: number;

  constructor(epsilon: number, options?: FilterOptions);
  constructor(options: { epsilon: number } & FilterOptions);
  constructor(...given: unknown[]) {
    super();
    const names = ["epsilon", "filter_value", "min_tokens_to_keep"];
    const options = namedArguments("EpsilonLogitsWarper", names, given);
    this.filter_value = filterValue(options);
    this.min_tokens_to_keep = minTokens(options);
    this.epsilon = numberWhere("epsilon", options.epsilon, "a number in (0, 1)", (n) => n > 0 && n < 1);
  }

  override warp(candidates: Candidates): void {
    const bound = logSumExp(candidates.logits, candidates.count) + Math.log(this.epsilon);
    candidates.keepFrom(Math.min(bound, leastKept(candidates, this.min_tokens_to_keep)));
  }
}

/**
 * Keeps tokens of at least the probability `epsilon`, or less where the distribution is flat: the bound is the
 * smaller of epsilon and sqrt(epsilon) * e^-entropy (https://huggingface.co/papers/2210.15191).
 */
export class EtaLogitsWarper extends CandidateWarper {
  readonly epsilon: number;
  readonly min_tokens_to_keep: number;

  constructor(epsilon: number, options?: FilterOptions);
  constructor(options: { epsilon: number } & FilterOptions);
  constructor(...given: unknown[]) {
    super();
    const names = ["epsilon", "filter_value", "min_tokens_to_keep"];
    const options = namedArguments("EtaLogitsWarper", names, given);
    this.filter_value = filterValue(options);
    this.min_tokens_to_keep = minTokens(options);
    this.epsilon = numberWhere("epsilon", options.epsilon, "a number in (0, 1)", (n) => n > 0 && n < 1);
  }

  override warp(candidates: Candidates): void {
    const { logits, count } = candidates;
    const { shift, entropy } = distribution(logits, count);
    const eta = Math.min(this.epsilon, Math.sqrt(this.epsilon) * Math.exp(-entropy));
    const bound = shift + Math.log(eta);
    candidates.keepFrom(Math.min(bound, leastKept(candidates, this.min_tokens_to_keep)));
  }
}

interface Distribution {
  /** Probabilities times `total`. */
  readonly weights: Float32Array;
  readonly total: number;
  /** A logit minus this is the logarithm of its probability. */
  readonly shift: number;
  /** In nats. */
  readonly entropy: number;
}

function distribution(logits: Float32Array, count: number): Distribution {
  const max = largest(logits, count);
  const weights = new Float32Array(count);
  const total = exponentials(logits, max, weights, count);
  let distance = 0;
  for (let i = 0; i < count; i++) if (weights[i]! > 0) distance += weights[i]! * (max - logits[i]!);
  return { weights, total, shift: max + Math.log(total), entropy: Math.log(total) + distance / total };
}

/** Turns scores into log-probabilities. Last in every chain (`renormalize_logits`). */
export class LogitNormalization extends CandidateWarper {
  override warp(candidates: Candidates): void {
    const shift = logSumExp(candidates.logits, candidates.count);
    if (Number.isFinite(shift)) candidates.subtract(shift);
  }
}
