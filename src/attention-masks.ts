/** What decides which keys a query sees, for one row of a batch. */
export interface AttentionMaskOptions {
  /** 1 (or anything but 0) at keys that hold a token, 0 at padding: past positions first, then those of the queries. */
  readonly keys: ArrayLike<number | bigint>;
  /** Positions before the first query, as a cache holds them; the other keys are the queries' own. Default: 0. */
  readonly past?: number;
  /** Distance from which on keys are out of sight, as `windowInUse` gives it; null on full layers. */
  readonly window?: number | null;
  /** Queries see later keys too, as in embedding models. */
  readonly bidirectional?: boolean;
  /**
   * Per query, the number of the block that it belongs to, -1 for none: the tokens of a block, which lie side by side,
   * see each other's later ones too, at any distance. Earlier keys stay those within the window.
   */
  readonly blocks?: ArrayLike<number> | undefined;
}

/**
 * 1 where a query sees a key, row-major [queries, keys]; queries = keys - past. A query sees key j from position i when
 * j <= i (any j if bidirectional), |i - j| < window, and key j is no padding; and the later keys of its own block. Positions are counted in the padded row.
 * A query at padding gets a row by the same rule, and sees nothing when all keys in its reach are padding.
 */
export function attentionMask({
  keys,
  past = 0,
  window = null,
  bidirectional = false,
  blocks,
}: AttentionMaskOptions): Uint8Array {
  const count = keys.length;
  if (!Number.isSafeInteger(past) || past < 0 || past > count)
    throw new RangeError(`attentionMask: ${past} past positions for ${count} keys`);
  const valid = Uint8Array.from({ length: count }, (_, j) => (Number(keys[j]) === 0 ? 0 : 1));
  const reach = window ?? count;
  const mask = new Uint8Array((count - past) * count);
  for (let i = past; i < count; i++) {
    const from = Math.max(0, i - reach + 1);
    let to = bidirectional ? Math.min(count, i + reach) : i + 1;
    const block = blocks?.[i - past] ?? -1;
    while (block >= 0 && to < count && blocks?.[to - past] === block) to++;
    mask.set(valid.subarray(from, to), (i - past) * count + from);
  }
  return mask;
}

/**
 * The window that sliding layers use, from `sliding_window` of config.json. Configurations of bidirectional models give
 * the whole span, to both sides; HF (Gemma3TextConfig) takes half of it and the position itself.
 */
export function windowInUse(sliding_window: number, bidirectional: boolean): number {
  return bidirectional ? Math.floor(sliding_window / 2) + 1 : sliding_window;
}
