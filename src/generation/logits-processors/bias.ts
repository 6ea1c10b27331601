import { InputError } from "../../errors.ts";
import type { Tensor } from "../../tensor.ts";
import { invalid, sequenceBiases, tokenIds, tokenSequences } from "../checks.ts";
import { forEachRow, LogitsProcessor, namedArguments, type TokenRows } from "./base.ts";

/** Biases of token sequences, in HF's list form or as a Map. */
export type SequenceBias = readonly (readonly [readonly number[], number])[] | Map<readonly number[], number>;

/** Adds a bias to the last token of each sequence wherever a row ends with the tokens before it. */
export class SequenceBiasLogitsProcessor extends LogitsProcessor {
  readonly sequence_bias: readonly (readonly [readonly number[], number])[];

  constructor(sequence_bias: SequenceBias | { sequence_bias: SequenceBias });
  constructor(...given: unknown[]) {
    super();
    const options = namedArguments("SequenceBiasLogitsProcessor", ["sequence_bias"], given);
    const pairs = sequenceBiases("sequence_bias", options.sequence_bias);
    // As in HF's dict, the last bias of a sequence given twice holds.
    this.sequence_bias = [...new Map(pairs.map((pair) => [pair[0].join(), pair])).values()];
  }

  override _call(input_ids: TokenRows, logits: Tensor): Tensor {
    const vocab_size = logits.dims.at(-1)!;
    const beyond = this.sequence_bias.flatMap(([ids]) => ids).find((id) => id >= vocab_size);
    if (beyond !== undefined) {
      throw new InputError(`sequence_bias names token ${beyond}, the vocabulary has ${vocab_size}`, {
        option: "sequence_bias",
      });
    }
    return forEachRow(input_ids, logits, (scores, ids) => {
      addBiases(scores, ids, this.sequence_bias);
    });
  }
}

/** Rules out tokens that would complete one of `bad_words_ids`. */
export class NoBadWordsLogitsProcessor extends LogitsProcessor {
  readonly bad_words_ids: readonly (readonly number[])[];

  constructor(
    bad_words_ids: readonly (readonly number[])[],
    eos_token_id?: number | readonly number[] | null,
  );
  constructor(options: {
    bad_words_ids: readonly (readonly number[])[];
    eos_token_id?: number | readonly number[] | null;
  });
  constructor(...given: unknown[]) {
    super();
    const options = namedArguments("NoBadWordsLogitsProcessor", ["bad_words_ids", "eos_token_id"], given);
    const words = tokenSequences("bad_words_ids", options.bad_words_ids);
    if (words.length === 0) throw invalid("bad_words_ids", "a non-empty list", words);
    const eos = tokenIds("eos_token_id", options.eos_token_id ?? []);
    // A lone end token may not be banned, as in HF: generation could never stop.
    this.bad_words_ids = words.filter((word) => word.length > 1 || !eos.includes(word[0]!));
  }

  override _call(input_ids: TokenRows, logits: Tensor): Tensor {
    const biases = this.bad_words_ids.map((word) => [word, Number.NEGATIVE_INFINITY] as const);
    return forEachRow(input_ids, logits, (scores, ids) => {
      addBiases(scores, ids, biases);
    });
  }
}

function addBiases(
  scores: Float32Array,
  ids: ArrayLike<number | bigint>,
  biases: readonly (readonly [readonly number[], number])[],
): void {
  for (const [sequence, bias] of biases) {
    const prefix = sequence.length - 1;
    const start = ids.length - prefix;
    const last = sequence[prefix]!;
    if (start < 0 || last >= scores.length) continue;
    let k = 0;
    while (k < prefix && Number(ids[start + k]) === sequence[k]) k++;
    if (k === prefix) scores[last] = scores[last]! + bias;
  }
}
