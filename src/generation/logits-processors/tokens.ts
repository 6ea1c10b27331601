import { InputError } from "../../errors.ts";
import type { Tensor } from "../../tensor.ts";
import { integerFrom, invalid, tokenIds } from "../checks.ts";
import { largest } from "../math.ts";
import { forEachRow, LogitsProcessor, namedArguments, scoreRows, type TokenRows, tokenRows } from "./base.ts";

/** Rules out tokens. */
export class SuppressTokensLogitsProcessor extends LogitsProcessor {
  readonly suppress_tokens: readonly number[];

  constructor(suppress_tokens: readonly number[] | { suppress_tokens: readonly number[] });
  constructor(...given: unknown[]) {
    super();
    const options = namedArguments("SuppressTokensLogitsProcessor", ["suppress_tokens"], given);
    this.suppress_tokens = tokenIds("suppress_tokens", options.suppress_tokens);
  }

  override _call(_input_ids: TokenRows, logits: Tensor): Tensor {
    for (const scores of scoreRows(logits)) ruleOut(scores, this.suppress_tokens);
    return logits;
  }
}

/** Rules out tokens while rows have `begin_index` tokens: for the first new one, usually. */
export class SuppressTokensAtBeginLogitsProcessor extends LogitsProcessor {
  readonly begin_suppress_tokens: readonly number[];
  begin_index: number;

  constructor(begin_suppress_tokens: readonly number[], begin_index: number);
  constructor(options: { begin_suppress_tokens: readonly number[]; begin_index: number });
  constructor(...given: unknown[]) {
    super();
    const names = ["begin_suppress_tokens", "begin_index"];
    const options = namedArguments("SuppressTokensAtBeginLogitsProcessor", names, given);
    this.begin_suppress_tokens = tokenIds("begin_suppress_tokens", options.begin_suppress_tokens);
    this.begin_index = integerFrom("begin_index", options.begin_index, 0);
  }

  set_begin_index(begin_index: number): void {
    this.begin_index = begin_index;
  }

  override _call(input_ids: TokenRows, logits: Tensor): Tensor {
    return forEachRow(input_ids, logits, (scores, ids) => {
      if (ids.length === this.begin_index) ruleOut(scores, this.begin_suppress_tokens);
    });
  }
}

/** Says which tokens may follow the ids of one row; `batch_id` is its prompt's number. */
export type PrefixAllowedTokensFn = (batch_id: number, input_ids: bigint[]) => ArrayLike<number | bigint>;

/** Leaves only the tokens that a function allows. */
export class PrefixConstrainedLogitsProcessor extends LogitsProcessor {
  readonly prefix_allowed_tokens_fn: PrefixAllowedTokensFn;
  /** Rows for each prompt. */
  readonly num_beams: number;

  constructor(prefix_allowed_tokens_fn: PrefixAllowedTokensFn, num_beams: number);
  constructor(options: { prefix_allowed_tokens_fn: PrefixAllowedTokensFn; num_beams: number });
  constructor(...given: unknown[]) {
    super();
    const names = ["prefix_allowed_tokens_fn", "num_beams"];
    const options = namedArguments("PrefixConstrainedLogitsProcessor", names, given);
    if (typeof options.prefix_allowed_tokens_fn !== "function") {
      throw invalid("prefix_allowed_tokens_fn", "a function", options.prefix_allowed_tokens_fn);
    }
    this.prefix_allowed_tokens_fn = options.prefix_allowed_tokens_fn as PrefixAllowedTokensFn;
    this.num_beams = integerFrom("num_beams", options.num_beams ?? 1, 1);
  }

  override _call(input_ids: TokenRows, logits: Tensor): Tensor {
    const ids = tokenRows(input_ids);
    const rows = scoreRows(logits);
    for (let first = 0; first < rows.length; first += this.num_beams) {
      const beams = rows.slice(first, first + this.num_beams);
      const allowed = beams.map((_, beam) => this.#allowed(first / this.num_beams, ids[first + beam]!));
      beams.forEach((scores, beam) => {
        keepAllowed(scores, allowed[beam]!);
      });
      // When other processors had ruled out all that is allowed, the constraint wins over them, as in HF.
      if (beams.every((scores) => largest(scores) === Number.NEGATIVE_INFINITY)) {
        beams.forEach((scores, beam) => {
          for (const id of allowed[beam]!) scores[id] = 0;
        });
      }
    }
    return logits;
  }

  #allowed(batch_id: number, ids: ArrayLike<number | bigint>): number[] {
    const allowed = Array.from(this.prefix_allowed_tokens_fn(batch_id, Array.from(ids, BigInt)), Number);
    if (allowed.length === 0) {
      throw new InputError(`prefix_allowed_tokens_fn allows no token for prompt ${batch_id}`, {
        option: "prefix_allowed_tokens_fn",
      });
    }
    return tokenIds("prefix_allowed_tokens_fn", allowed);
  }
}

function keepAllowed(scores: Float32Array, allowed: readonly number[]): void {
  const kept = allowed.map((id) => scores[id]);
  scores.fill(Number.NEGATIVE_INFINITY);
  allowed.forEach((id, i) => {
    if (id < scores.length) scores[id] = kept[i]!;
  });
}

/** Replaces NaN by 0 and infinities by the largest and smallest float32; generate's `remove_invalid_values`. */
export class InfNanRemoveLogitsProcessor extends LogitsProcessor {
  override _call(_input_ids: TokenRows, logits: Tensor): Tensor {
    const LIMIT = 3.4028234663852886e38;
    for (const scores of scoreRows(logits)) {
      for (let i = 0; i < scores.length; i++) {
        const score = scores[i]!;
        if (!Number.isFinite(score)) scores[i] = Number.isNaN(score) ? 0 : score > 0 ? LIMIT : -LIMIT;
      }
    }
    return logits;
  }
}

function ruleOut(scores: Float32Array, ids: readonly number[]): void {
  for (const id of ids) if (id < scores.length) scores[id] = Number.NEGATIVE_INFINITY;
}
