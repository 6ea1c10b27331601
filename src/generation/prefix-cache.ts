import { InputError } from "../errors.ts";
import type { DecoderCache } from "./decoder.ts";

/**
 * The cache of one text that changes mostly at its end, and the tokens in it: what the next prompt has in common with
 * the last one and its answer is not computed again.
 */
export class PrefixCache {
  readonly #create: () => DecoderCache;
  #cache: DecoderCache | undefined;
  /** The tokens whose keys and values the cache holds. */
  #tokens: readonly number[] = [];

  /** `create` makes an empty cache, which is given back when it is no longer needed. */
  constructor(create: () => DecoderCache) {
    this.#create = create;
  }

  /** Bytes held. */
  get byteLength(): number {
    return this.#cache?.byteLength ?? 0;
  }

  /**
   * The cache for a prompt, cut back to what it has in common with it; its length says how much that is. The prompt's
   * last token is never part of it, since logits come from somewhere. A cache that can't go back so far is replaced.
   */
  open(prompt: readonly number[]): DecoderCache {
    this.#cut(commonLength(this.#tokens, prompt.slice(0, -1)));
    this.#cache ??= this.#create();
    return this.#cache;
  }

  /**
   * Takes note of a run, also one that was broken off: `tokens` are those that the cache may hold now, as far as it
   * got. Anything beyond them is cut off.
   */
  settle(tokens: readonly number[]): void {
    const cache = this.#cache;
    if (cache === undefined) return;
    // Beam search has made several rows of it; they have the prompt in common.
    if (cache.batch > 1) cache.reorder([0]);
    this.#tokens = tokens;
    this.#cut(Math.min(lengthOf(cache), tokens.length));
  }

  dispose(): void {
    this.#cache?.dispose();
    this.#cache = undefined;
    this.#tokens = [];
  }

  #cut(length: number): void {
    this.#tokens = this.#tokens.slice(0, length);
    if (this.#cache === undefined || lengthOf(this.#cache) === length) return;
    try {
      if (length > 0) this.#cache.crop(length);
      else this.dispose();
    } catch (error) {
      // Sliding layers go back a little only.
      if (!(error instanceof InputError)) throw error;
      this.dispose();
    }
  }
}

function commonLength(a: readonly number[], b: readonly number[]): number {
  const longest = Math.min(a.length, b.length);
  let length = 0;
  while (length < longest && a[length] === b[length]) length++;
  return length;
}

/** Positions that the cache of one row holds; a new one has no row yet. */
function lengthOf(cache: DecoderCache): number {
  return cache.lengths[0] ?? 0;
}
