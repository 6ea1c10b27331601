import type { Tensor } from "../../tensor.ts";
import { integerFrom, invalid, tokenId, tokenIds } from "../checks.ts";
import { forEachRow, LogitsProcessor, namedArguments, type TokenRows } from "./base.ts";

/** Lengths count the whole row: the prompt with its padding and the new tokens. */
type TokenIds = number | readonly number[];

/** Rules out the end tokens until rows have `min_length` tokens. */
export class MinLengthLogitsProcessor extends LogitsProcessor {
  readonly min_length: number;
  readonly eos_token_id: readonly number[];

  constructor(min_length: number, eos_token_id: TokenIds);
  constructor(options: { min_length: number; eos_token_id: TokenIds });
  constructor(...given: unknown[]) {
    super();
    const options = namedArguments("MinLengthLogitsProcessor", ["min_length", "eos_token_id"], given);
    this.min_length = integerFrom("min_length", options.min_length, 0);
    this.eos_token_id = tokenIds("eos_token_id", options.eos_token_id);
  }

  override _call(input_ids: TokenRows, logits: Tensor): Tensor {
    return forEachRow(input_ids, logits, (scores, ids) => {
      if (ids.length < this.min_length) setAll(scores, this.eos_token_id, Number.NEGATIVE_INFINITY);
    });
  }
}

/** Rules out the end tokens until `min_new_tokens` tokens follow the first `prompt_length_to_skip`. */
export class MinNewTokensLengthLogitsProcessor extends LogitsProcessor {
  readonly prompt_length_to_skip: number;
  readonly min_new_tokens: number;
  readonly eos_token_id: readonly number[];

  constructor(prompt_length_to_skip: number, min_new_tokens: number, eos_token_id: TokenIds);
  constructor(options: { prompt_length_to_skip: number; min_new_tokens: number; eos_token_id: TokenIds });
  constructor(...given: unknown[]) {
    super();
    const names = ["prompt_length_to_skip", "min_new_tokens", "eos_token_id"];
    const options = namedArguments("MinNewTokensLengthLogitsProcessor", names, given);
    this.prompt_length_to_skip = integerFrom("prompt_length_to_skip", options.prompt_length_to_skip, 0);
    this.min_new_tokens = integerFrom("min_new_tokens", options.min_new_tokens, 0);
    this.eos_token_id = tokenIds("eos_token_id", options.eos_token_id);
  }

  override _call(input_ids: TokenRows, logits: Tensor): Tensor {
    return forEachRow(input_ids, logits, (scores, ids) => {
      if (ids.length - this.prompt_length_to_skip < this.min_new_tokens) {
        setAll(scores, this.eos_token_id, Number.NEGATIVE_INFINITY);
      }
    });
  }
}

/** Makes `bos_token_id` the only choice for the second token of a row. */
export class ForcedBOSTokenLogitsProcessor extends LogitsProcessor {
  readonly bos_token_id: number;

  constructor(bos_token_id: number | { bos_token_id: number });
  constructor(...given: unknown[]) {
    super();
    const options = namedArguments("ForcedBOSTokenLogitsProcessor", ["bos_token_id"], given);
    this.bos_token_id = tokenId("bos_token_id", options.bos_token_id);
  }

  override _call(input_ids: TokenRows, logits: Tensor): Tensor {
    return forEachRow(input_ids, logits, (scores, ids) => {
      if (ids.length === 1) force(scores, [this.bos_token_id]);
    });
  }
}

/** Makes the end tokens the only choice for the last token before `max_length`. */
export class ForcedEOSTokenLogitsProcessor extends LogitsProcessor {
  readonly max_length: number;
  readonly eos_token_id: readonly number[];

  constructor(max_length: number, eos_token_id: TokenIds);
  constructor(options: { max_length: number; eos_token_id: TokenIds });
  constructor(...given: unknown[]) {
    super();
    const options = namedArguments("ForcedEOSTokenLogitsProcessor", ["max_length", "eos_token_id"], given);
    this.max_length = integerFrom("max_length", options.max_length, 0);
    this.eos_token_id = tokenIds("eos_token_id", options.eos_token_id);
  }

  override _call(input_ids: TokenRows, logits: Tensor): Tensor {
    return forEachRow(input_ids, logits, (scores, ids) => {
      if (ids.length === this.max_length - 1) force(scores, this.eos_token_id);
    });
  }
}

/**
 * Raises the end tokens' scores more with every token after the first `start`: by |score| * (factor^n - 1), n tokens
 * later. `[start, factor]` is HF's exponential_decay_length_penalty, `start` counted from the end of the prompt.
 */
export class ExponentialDecayLengthPenalty extends LogitsProcessor {
  readonly regulation_start: number;
  readonly regulation_factor: number;
  readonly eos_token_id: readonly number[];

  constructor(
    exponential_decay_length_penalty: readonly [number, number],
    eos_token_id: TokenIds,
    input_ids_seq_length: number,
  );
  constructor(options: {
    exponential_decay_length_penalty: readonly [number, number];
    eos_token_id: TokenIds;
    input_ids_seq_length: number;
  });
  constructor(...given: unknown[]) {
    super();
    const names = ["exponential_decay_length_penalty", "eos_token_id", "input_ids_seq_length"];
    const options = namedArguments("ExponentialDecayLengthPenalty", names, given);
    const [start, factor] = decayPenalty(options.exponential_decay_length_penalty);
    this.regulation_start = start + integerFrom("input_ids_seq_length", options.input_ids_seq_length, 0);
    this.regulation_factor = factor;
    this.eos_token_id = tokenIds("eos_token_id", options.eos_token_id);
  }

  override _call(input_ids: TokenRows, logits: Tensor): Tensor {
    return forEachRow(input_ids, logits, (scores, ids) => {
      const steps = ids.length - this.regulation_start;
      if (steps <= 0) return;
      const raise = this.regulation_factor ** steps - 1;
      for (const id of this.eos_token_id) {
        const score = scores[id];
        if (score !== undefined) scores[id] = score + Math.abs(score) * raise;
      }
    });
  }
}

/** The pair [start, factor] of exponential_decay_length_penalty. */
export function decayPenalty(value: unknown): [number, number] {
  const [start, factor] = Array.isArray(value) && value.length === 2 ? (value as unknown[]) : [];
  if (!Number.isSafeInteger(start) || (start as number) < 0 || typeof factor !== "number" || !(factor > 0)) {
    throw invalid("exponential_decay_length_penalty", "[start index, decay factor]", value);
  }
  return [start as number, factor];
}

function setAll(scores: Float32Array, ids: readonly number[], value: number): void {
  for (const id of ids) if (id < scores.length) scores[id] = value;
}

function force(scores: Float32Array, ids: readonly number[]): void {
  scores.fill(Number.NEGATIVE_INFINITY);
  setAll(scores, ids, 0);
}
