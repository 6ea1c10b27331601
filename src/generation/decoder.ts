import type { LegacyCache } from "./cache-tensors.ts";
import type { RowMedia } from "./media.ts";
import type { CandidateWish, ScoredTokens } from "./split-head.ts";

/** What generation needs from a model: append tokens to rows, get logits back. Padding never reaches a model. */

/** Keys and values of a batch. Row r holds `lengths[r]` positions, left-aligned. */
export interface DecoderCache {
  readonly batch: number;
  /** Positions held by each row. */
  readonly lengths: readonly number[];
  /** Row r becomes a copy of the former row `indices[r]` (beam search); the batch may grow or shrink. */
  reorder(indices: readonly number[]): void;
  /** Drops positions from `length` on in every row; negative: that many from the end; 0: none. Throws where it can't. */
  crop(length: number): void;
  /** Keeps other calls off until the function that it returns is called; throws where one is at work. */
  hold?(): () => void;
  /** Bytes held. */
  readonly byteLength: number;
  dispose(): void;
}

/** Which of a row's new tokens get logits: the last one, all, the last so many, or none. */
export type LogitsWanted = "last" | "all" | "none" | number;

/** What restricts or widens the sight of a row's new tokens beyond "all earlier ones within the window". */
export interface RowMask {
  /** Per new token, 0 where no other token may see it, now and later. */
  readonly visible?: readonly number[];
  /** Per new token, the number of the text that it belongs to: tokens of other texts are out of sight. */
  readonly segments?: readonly number[];
  /** Per new token, the number of the block whose tokens see each other in both directions; -1 at others. */
  readonly blocks?: readonly number[];
}

export interface StepOptions {
  /** "last" by default. */
  readonly logits?: LogitsWanted;
  readonly output_hidden_states?: boolean;
  /** The last, normed hidden state alone. */
  readonly last_hidden_state?: boolean;
  readonly output_attentions?: boolean;
  /** Rotary positions of each row's new tokens; they count on from the row's last position by default. */
  readonly position_ids?: readonly (readonly number[])[];
  /** Vectors in place of the tokens' own: [new tokens, hidden_size] for each row, whose ids then don't matter. */
  readonly inputs_embeds?: readonly Float32Array[];
  /** The ids beside `inputs_embeds` count after all: layers look up vectors of their own by them. */
  readonly ids_too?: boolean;
  readonly masks?: readonly RowMask[];
  /** What of each row's new tokens is not plain text. */
  readonly media?: readonly RowMedia[];
  /**
   * Every token of the only row gets the very numbers that it would get in a run of its own, also where the engine
   * rounds several at once otherwise.
   */
  readonly stepwise?: boolean;
  /** Of the only row the tokens alone that this names; the decoder may give all logits instead. */
  readonly candidates?: CandidateWish;
  readonly signal?: AbortSignal;
}

/** Attention weights of one row in one layer: [heads, new tokens, keys], the last keys being those of the new tokens. */
export interface RowAttention {
  readonly data: Float32Array;
  readonly keys: number;
}

export interface DecoderStep {
  /**
   * Float32 logits of the wanted tokens, [tokens, vocab_size], in row order: for "last" one for each row that has
   * new tokens. A view that the next step overwrites: copy what must last.
   */
  readonly logits: Float32Array;
  /** When asked for, and cheaper: then there are no logits. */
  readonly candidates?: ScoredTokens;
  /**
   * When asked for: one [all new tokens, hidden_size] per layer, the embeddings first, the normed output last. Of a
   * model with streams [all new tokens, streams, hidden_size], and the last layer's output last.
   */
  readonly hidden_states?: readonly Float32Array[];
  /** When asked for: [all new tokens, hidden_size]. */
  readonly last_hidden_state?: Float32Array;
  /** When asked for: for each layer, one per row that has new tokens. */
  readonly attentions?: readonly (readonly RowAttention[])[];
}

/** The cache that a call wants: HF's kind, and what the kind takes as cache_config. */
export interface CacheWish {
  readonly kind: "dynamic" | "static" | "quantized";
  readonly config?: object | undefined;
}

export interface Decoder {
  readonly vocab_size: number;
  /** Numbers of one token's vector, where the decoder takes vectors. */
  readonly hidden_size?: number;
  /** Vectors of a token's hidden state, where there are several. */
  readonly streams?: number;
  /** Whether ids count beside vectors. */
  readonly usesIds?: boolean;
  /** `capacity`: positions to reserve for each row; the cache grows beyond it when it must. */
  createCache(batch: number, capacity: number, wish?: CacheWish): DecoderCache;
  /**
   * What a caller gave as past_key_values as a cache of this decoder; an empty one is made ready for `batch` rows.
   * `mask` [batch, positions or more] says which positions of tensors given as a cache are padding.
   */
  openCache(
    given: DecoderCache | LegacyCache | object,
    batch: number,
    capacity: number,
    mask?: readonly (readonly (number | boolean)[])[],
  ): DecoderCache;
  /**
   * Appends `rows[r]` to row r of the cache. Rows may differ in length; an empty row (a finished one) is left as it
   * is. Rejects with the signal's reason when aborted: the cache then holds what it held before, and of a long prompt the
   * chunks that were finished (`lengths` tells).
   */
  step(
    rows: readonly (readonly number[])[],
    cache: DecoderCache,
    options?: StepOptions,
  ): Promise<DecoderStep>;
}
