/** What generation needs from a model: append tokens to rows, get logits back. Padding never reaches a model. */

/** Keys and values of a batch. Row r holds `lengths[r]` positions, left-aligned. */
export interface DecoderCache {
  readonly batch: number;
  /** Positions held by each row. */
  readonly lengths: readonly number[];
  /** Row r becomes a copy of the former row `indices[r]` (beam search); the batch may grow or shrink. */
  reorder(indices: readonly number[]): void;
  /** Drops positions from `length` on in every row; negative: that many from the end. Throws where it can't. */
  crop(length: number): void;
  /** Bytes held. */
  readonly byteLength: number;
  dispose(): void;
}

/** Which of a row's new tokens get logits: the last one, all, or the last so many. */
export type LogitsWanted = "last" | "all" | number;

export interface DecoderStep {
  /**
   * Float32 logits of the wanted tokens, [tokens, vocab_size], in row order: for "last" one for each row that has
   * new tokens. A view that the next step overwrites: copy what must last.
   */
  readonly logits: Float32Array;
  /** When asked for: one [all new tokens, hidden_size] per layer, the embeddings first, the normed output last. */
  readonly hidden_states?: readonly Float32Array[];
}

export interface Decoder {
  readonly vocab_size: number;
  /** `capacity`: positions to reserve for each row; the cache grows beyond it when it must. */
  createCache(batch: number, capacity: number): DecoderCache;
  /**
   * Appends `rows[r]` to row r of the cache. Rows may differ in length; an empty row (a finished one) is left as it
   * is. Rejects with the signal's reason when aborted: the cache then holds what it held before, and of a long prompt the
   * chunks that were finished (`lengths` tells).
   */
  step(
    rows: readonly (readonly number[])[],
    cache: DecoderCache,
    options?: { logits?: LogitsWanted; output_hidden_states?: boolean; signal?: AbortSignal },
  ): Promise<DecoderStep>;
}
