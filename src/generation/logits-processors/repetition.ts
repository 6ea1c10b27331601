import type { Tensor } from "../../tensor.ts";
import { integerFrom, numberWhere } from "../checks.ts";
import { forEachRow, LogitsProcessor, namedArguments, type TokenRows, tokenRows } from "./base.ts";

/** Makes tokens that are already in a row less likely: positive scores are divided by `penalty`, negative multiplied. */
export class RepetitionPenaltyLogitsProcessor extends LogitsProcessor {
  readonly penalty: number;
  /** Tokens at the start of each row that do not count; 0. */
  readonly prompt_ignore_length: number;

  constructor(penalty: number, prompt_ignore_length?: number);
  constructor(options: { penalty: number; prompt_ignore_length?: number });
  constructor(...given: unknown[]) {
    super();
    const names = ["penalty", "prompt_ignore_length"];
    const options = namedArguments("RepetitionPenaltyLogitsProcessor", names, given);
    this.penalty = numberWhere("penalty", options.penalty, "a number greater than 0", (n) => n > 0);
    this.prompt_ignore_length = integerFrom("prompt_ignore_length", options.prompt_ignore_length ?? 0, 0);
  }

  override _call(input_ids: TokenRows, logits: Tensor): Tensor {
    return forEachRow(input_ids, logits, (scores, ids) => {
      penalise(scores, distinct(ids, this.prompt_ignore_length), this.penalty);
    });
  }
}

/** Makes tokens that are in the prompt more likely (`penalty` > 1); generate's `encoder_repetition_penalty`. */
export class EncoderRepetitionPenaltyLogitsProcessor extends LogitsProcessor {
  readonly penalty: number;
  readonly encoder_input_ids: readonly ArrayLike<number | bigint>[];

  constructor(penalty: number, encoder_input_ids: TokenRows);
  constructor(options: { penalty: number; encoder_input_ids: TokenRows });
  constructor(...given: unknown[]) {
    super();
    const names = ["penalty", "encoder_input_ids"];
    const options = namedArguments("EncoderRepetitionPenaltyLogitsProcessor", names, given);
    this.penalty = numberWhere("penalty", options.penalty, "a number greater than 0", (n) => n > 0);
    this.encoder_input_ids = tokenRows(options.encoder_input_ids as TokenRows);
  }

  override _call(input_ids: TokenRows, logits: Tensor): Tensor {
    const rows = tokenRows(input_ids).length;
    return forEachRow(input_ids, logits, (scores, _ids, row) => {
      const prompt = this.encoder_input_ids[Math.floor((row * this.encoder_input_ids.length) / rows)]!;
      penalise(scores, distinct(prompt, 0), 1 / this.penalty);
    });
  }
}

function distinct(ids: ArrayLike<number | bigint>, start: number): Set<number> {
  const tokens = new Set<number>();
  for (let i = start; i < ids.length; i++) tokens.add(Number(ids[i]));
  return tokens;
}

function penalise(scores: Float32Array, tokens: Iterable<number>, penalty: number): void {
  for (const token of tokens) {
    // Ids beyond the scores are placeholders of images and sounds: the model cannot choose them anyway.
    const score = scores[token];
    if (score !== undefined) scores[token] = score < 0 ? score * penalty : score / penalty;
  }
}

/** Rules out tokens that would complete a sequence of `ngram_size` tokens for the second time. */
export class NoRepeatNGramLogitsProcessor extends LogitsProcessor {
  readonly ngram_size: number;

  constructor(ngram_size: number | { ngram_size: number });
  constructor(...given: unknown[]) {
    super();
    const options = namedArguments("NoRepeatNGramLogitsProcessor", ["ngram_size"], given);
    this.ngram_size = integerFrom("ngram_size", options.ngram_size, 1);
  }

  override _call(input_ids: TokenRows, logits: Tensor): Tensor {
    return forEachRow(input_ids, logits, (scores, ids) => {
      if (ids.length >= this.ngram_size) banContinuations(scores, ids, ids, this.ngram_size);
    });
  }
}

/** Rules out tokens that would repeat a sequence of `encoder_ngram_size` tokens of the prompt. */
export class EncoderNoRepeatNGramLogitsProcessor extends LogitsProcessor {
  readonly encoder_ngram_size: number;
  readonly encoder_input_ids: readonly ArrayLike<number | bigint>[];

  constructor(encoder_ngram_size: number, encoder_input_ids: TokenRows);
  constructor(options: { encoder_ngram_size: number; encoder_input_ids: TokenRows });
  constructor(...given: unknown[]) {
    super();
    const names = ["encoder_ngram_size", "encoder_input_ids"];
    const options = namedArguments("EncoderNoRepeatNGramLogitsProcessor", names, given);
    this.encoder_ngram_size = integerFrom("encoder_ngram_size", options.encoder_ngram_size, 1);
    this.encoder_input_ids = tokenRows(options.encoder_input_ids as TokenRows);
  }

  override _call(input_ids: TokenRows, logits: Tensor): Tensor {
    const rows = tokenRows(input_ids).length;
    return forEachRow(input_ids, logits, (scores, ids, row) => {
      const prompt = this.encoder_input_ids[Math.floor((row * this.encoder_input_ids.length) / rows)]!;
      banContinuations(scores, prompt, ids, this.encoder_ngram_size);
    });
  }
}

/** Rules out every token that follows, anywhere in `text`, the last size - 1 tokens of `ids`. */
function banContinuations(
  scores: Float32Array,
  text: ArrayLike<number | bigint>,
  ids: ArrayLike<number | bigint>,
  size: number,
): void {
  const suffix = ids.length - (size - 1);
  if (suffix < 0) return;
  for (let start = 0; start + size <= text.length; start++) {
    let k = 0;
    while (k < size - 1 && Number(text[start + k]) === Number(ids[suffix + k])) k++;
    if (k < size - 1) continue;
    const token = Number(text[start + size - 1]);
    if (token < scores.length) scores[token] = Number.NEGATIVE_INFINITY;
  }
}
