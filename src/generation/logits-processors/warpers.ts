import { InputError } from "../../errors.ts";
import { integerFrom, invalid, numberWhere } from "../checks.ts";
import { exponentials, largest, logSumExp } from "../math.ts";
import { CandidateWarper, namedArguments } from "./base.ts";
import type { Candidates } from "./candidates.ts";
import { kthLargest, massCrossing } from "./selection.ts";

/** What warpers that remove tokens have in common. */
export interface FilterOptions {
  /** What removed tokens get; -Infinity. */
  filter_value?: number;
  /** Tokens kept whatever the rule says; 1. */
  min_tokens_to_keep?: number;
}

/** Divides scores by a temperature: under 1 sharper, over 1 flatter. */
export class TemperatureLogitsWarper extends CandidateWarper {
  readonly temperature: number;

  constructor(temperature: number | { temperature: number });
  constructor(...given: unknown[]) {
    super();
    const { temperature } = namedArguments("TemperatureLogitsWarper", ["temperature"], given);
    this.temperature = checkedTemperature(temperature);
  }

  override warp(candidates: Candidates): void {
    candidates.divideBy(this.temperature);
  }
}

/** The temperature, if it is one. */
export function checkedTemperature(value: unknown): number {
  if (value === 0) {
    throw new InputError("temperature must be greater than 0; for greedy decoding set do_sample: false", {
      option: "temperature",
    });
  }
  return numberWhere("temperature", value, "a number greater than 0", (n) => n > 0);
}

/** Keeps the `top_k` largest scores, and those equal to the smallest of them. */
export class TopKLogitsWarper extends CandidateWarper {
  readonly top_k: number;

  constructor(top_k: number, options?: FilterOptions);
  constructor(options: { top_k: number } & FilterOptions);
  constructor(...given: unknown[]) {
    super();
    const names = ["top_k", "filter_value", "min_tokens_to_keep"];
    const options = namedArguments("TopKLogitsWarper", names, given);
    this.filter_value = filterValue(options);
    this.top_k = Math.max(integerFrom("top_k", options.top_k, 1), minTokens(options));
  }

  override warp(candidates: Candidates): void {
    candidates.keepLargest(this.top_k);
  }
}

/** Keeps the most probable tokens that together reach the probability `top_p`. */
export class TopPLogitsWarper extends CandidateWarper {
  readonly top_p: number;
  readonly min_tokens_to_keep: number;

  constructor(top_p: number, options?: FilterOptions);
  constructor(options: { top_p: number } & FilterOptions);
  constructor(...given: unknown[]) {
    super();
    const names = ["top_p", "filter_value", "min_tokens_to_keep"];
    const options = namedArguments("TopPLogitsWarper", names, given);
    this.filter_value = filterValue(options);
    this.min_tokens_to_keep = minTokens(options);
    this.top_p = numberWhere("top_p", options.top_p, "a number in [0, 1]", (n) => n >= 0 && n <= 1);
  }

  override warp(candidates: Candidates): void {
    const { logits, count } = candidates;
    const weights = new Float32Array(count);
    const total = exponentials(logits, largest(logits, count), weights, count);
    const mass = this.top_p * total;
    // All tokens under this together have less than the rest, so none of them can belong to the mass.
    const floor = (total - mass) / count;
    const { key, ties } = massCrossing(logits, weights, count, mass, floor);
    const least = leastKept(candidates, this.min_tokens_to_keep);
    if (least < key) candidates.keepFrom(least);
    else candidates.keepFrom(key, logits, Math.max(ties, this.min_tokens_to_keep > 1 ? count : 1));
  }
}

/** Keeps tokens at least `min_p` times as probable as the most probable one. */
export class MinPLogitsWarper extends CandidateWarper {
  readonly min_p: number;
  readonly min_tokens_to_keep: number;

  constructor(min_p: number, options?: FilterOptions);
  constructor(options: { min_p: number } & FilterOptions);
  constructor(...given: unknown[]) {
    super();
    const options = namedArguments(
      "MinPLogitsWarper",
      ["min_p", "filter_value", "min_tokens_to_keep"],
      given,
    );
    this.filter_value = filterValue(options);
    this.min_tokens_to_keep = minTokens(options);
    this.min_p = numberWhere("min_p", options.min_p, "a number in [0, 1]", (n) => n >= 0 && n <= 1);
  }

  override warp(candidates: Candidates): void {
    const bound = largest(candidates.logits, candidates.count) + Math.log(this.min_p);
    candidates.keepFrom(Math.min(bound, leastKept(candidates, this.min_tokens_to_keep)));
  }
}

/** The score that the rule must not go above, so that `min_tokens_to_keep` tokens stay. */
export function leastKept(candidates: Candidates, min_tokens_to_keep: number): number {
  const { logits, count } = candidates;
  if (min_tokens_to_keep === 1) return largest(logits, count);
  return kthLargest(logits, count, Math.min(min_tokens_to_keep, count));
}

/** How many of the largest scores TopHLogitsWarper looks at, as in HF. */
const TOP_H_TOKENS = 100;

/**
 * Keeps the most probable tokens whose entropies together stay within `top_h` times the entropy of the 100 most
 * probable (https://huggingface.co/papers/2509.02510).
 */
export class TopHLogitsWarper extends CandidateWarper {
  readonly top_h: number;

  constructor(top_h: number, options?: { filter_value?: number });
  constructor(options: { top_h: number; filter_value?: number });
  constructor(...given: unknown[]) {
    super();
    const options = namedArguments("TopHLogitsWarper", ["top_h", "filter_value"], given);
    this.filter_value = filterValue(options);
    this.top_h = numberWhere("top_h", options.top_h, "a number in (0, 1]", (n) => n > 0 && n <= 1);
  }

  override warp(candidates: Candidates): void {
    candidates.keepLargest(TOP_H_TOKENS);
    const { logits, count } = candidates;
    const order = Array.from({ length: count }, (_, i) => i)
      .sort((a, b) => logits[b]! - logits[a]! || a - b)
      .slice(0, TOP_H_TOKENS);
    const sorted = Float32Array.from(order, (i) => logits[i]!);
    const shift = logSumExp(sorted);
    const entropies = Array.from(sorted, (logit) => {
      const logp = logit - shift;
      return logp === Number.NEGATIVE_INFINITY ? 0 : -Math.exp(logp) * logp;
    });
    const budget = this.top_h * entropies.reduce((sum, entropy) => sum + entropy, 0);
    let kept = 0;
    let spent = 0;
    while (kept < order.length && sorted[kept]! > Number.NEGATIVE_INFINITY) {
      spent += entropies[kept]!;
      if (kept > 0 && spent > budget) break;
      kept++;
    }
    candidates.keepOnly(Int32Array.from(order.slice(0, Math.max(kept, 1))).sort());
  }
}

/** `filter_value` of constructor options. */
export function filterValue(options: Record<string, unknown>): number {
  const value = options.filter_value ?? Number.NEGATIVE_INFINITY;
  if (typeof value !== "number" || Number.isNaN(value)) throw invalid("filter_value", "a number", value);
  return value;
}

/** `min_tokens_to_keep` of constructor options. */
export function minTokens(options: Record<string, unknown>): number {
  return integerFrom("min_tokens_to_keep", options.min_tokens_to_keep ?? 1, 1);
}
