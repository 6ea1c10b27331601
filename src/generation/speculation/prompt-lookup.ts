import { type Draft, type Drafter, MAX_GUESSES, NO_DRAFT, type TextSoFar } from "./draft.ts";

/** HF's default of max_matching_ngram_size. */
const NGRAM_SIZE = 2;
/** Of several places where the last tokens stood before, the one alike the furthest back is taken, up to so far. */
const CONTEXT = 16;

export interface PromptLookupOptions {
  readonly prompt_lookup_num_tokens: number;
  readonly max_matching_ngram_size: number | null;
  readonly eos: readonly number[];
}

/**
 * Guesses that a text goes on as it did where its last tokens stood before: for texts that repeat parts of their
 * prompt, at next to no cost. Guesses that turn out wrong make the next ones shorter.
 */
export class PromptLookup implements Drafter {
  readonly #most: number;
  readonly #ngram: number;
  readonly #eos: readonly number[];
  #count: number;

  constructor({ prompt_lookup_num_tokens, max_matching_ngram_size, eos }: PromptLookupOptions) {
    this.#most = Math.min(prompt_lookup_num_tokens, MAX_GUESSES);
    this.#ngram = max_matching_ngram_size ?? NGRAM_SIZE;
    this.#eos = eos;
    this.#count = this.#most;
  }

  draft({ tokens }: TextSoFar, limit: number): Draft {
    const end = findRepeat(tokens, this.#ngram);
    if (end === undefined) return NO_DRAFT;
    const found = tokens.slice(end, end + Math.min(limit, this.#count));
    const stop = found.findIndex((token) => this.#eos.includes(token));
    // Nothing follows an end token.
    return { tokens: stop < 0 ? found : found.slice(0, stop + 1) };
  }

  learn(right: number, guessed: number): void {
    if (right < guessed) this.#count = right + 1;
    else this.#count = Math.min(this.#most, Math.max(this.#count, 2 * guessed));
  }

  dispose(): void {}
}

/**
 * The position behind an earlier occurrence of the last tokens, of as many of them (`ngram` at most) as can be found;
 * of several the one whose context is alike the furthest back, and of those the first, which has the most to follow.
 */
function findRepeat(tokens: readonly number[], ngram: number): number | undefined {
  const { length } = tokens;
  const last = tokens[length - 1];
  let best: number | undefined;
  let bestSize = 0;
  let bestContext = 0;
  for (let end = 1; end < length; end++) {
    if (tokens[end - 1] !== last) continue;
    let context = 1;
    while (
      context < CONTEXT + ngram &&
      context < end &&
      tokens[end - 1 - context] === tokens[length - 1 - context]
    )
      context++;
    const size = Math.min(context, ngram);
    if (size < bestSize || (size === bestSize && context <= bestContext)) continue;
    [best, bestSize, bestContext] = [end, size, context];
  }
  return best;
}
