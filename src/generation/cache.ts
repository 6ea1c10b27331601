import { InputError, rejectUnknownOptions } from "../errors.ts";
import { Tensor } from "../tensor.ts";
import { loadCache, saveCache } from "./cache-file.ts";
import { fromTensors, headDim, type LegacyCache, layerTensors, rehouse } from "./cache-tensors.ts";
import { integerFrom, invalid, isPlainObject, tokenIds } from "./checks.ts";
import type { DecoderCache } from "./decoder.ts";
import { type CacheLayer, KeyValueCache } from "./kv-cache.ts";

/** Transformers.js' form of a cache: "past_key_values.0.key", "past_key_values.0.value" and so on. */
export type CacheEntries = Readonly<Record<string, Tensor>>;

/** What a call takes as past_key_values: a cache, or HF's tuple form of one. */
export type PastKeyValues = Cache | LegacyCache | CacheEntries;

/** Numbers of rows, as an array or a tensor. */
export type RowIndices = Tensor | ArrayLike<number | bigint>;

/** One layer of a cache, under HF's names. */
export interface CacheLayerInfo {
  /** "full_attention", "sliding_attention". */
  readonly kind: string;
  readonly is_sliding: boolean;
  readonly sliding_window: number | null;
  readonly kv_heads: number;
  readonly head_dim: number;
  /** Copies, as `at` gives them. */
  readonly keys: Tensor;
  readonly values: Tensor;
}

/** Positions that a fork has room for before it must grow. */
const FORK_ROOM = 128;

/**
 * Keys and values of the tokens that a model has seen, one set of rows for a batch. A new cache is empty and belongs
 * to no model; the first call that it is given to as past_key_values makes it that model's. Rows may differ in length;
 * padding is not stored.
 */
export abstract class Cache implements DecoderCache, Iterable<[Tensor, Tensor]> {
  #store: KeyValueCache | undefined;
  /** The layers of the model that it belongs to. */
  #model: readonly CacheLayer[] | undefined;
  /** The contents come from tensors, which don't tell everything of a cache. */
  #lenient = false;
  #disposed = false;
  #held = false;

  /** Positions that a row may have at most; undefined: any number. */
  protected readonly limit: number | undefined = undefined;

  /** An empty cache of the same kind. */
  protected abstract empty(): Cache;

  protected checkBatch(_batch: number): void {}

  /** Called before every use of the buffers. */
  protected settle(_store: KeyValueCache): void {}

  /** Fills a new cache, which a model takes over later. */
  protected fill(store: KeyValueCache, lenient: boolean): void {
    this.#store = store;
    this.#lenient = lenient;
  }

  /** The cache that a caller gave as past_key_values. */
  static from(given: unknown): Cache {
    if (given instanceof Cache) return given;
    if (Array.isArray(given) || isPlainObject(given))
      return new DynamicCache(given as LegacyCache | CacheEntries);
    throw invalid(
      "past_key_values",
      "a cache (DynamicCache, StaticCache) or a list of [key, value] tensors",
      given,
    );
  }

  /**
   * For decoders: the buffers of a model with these layers, made at the first use with `batch` rows and room for
   * `capacity` positions. `mask` [batch, positions or more] says which positions of tensors given as a cache are padding.
   */
  open(
    layers: readonly CacheLayer[],
    batch: number,
    capacity: number,
    mask?: readonly (readonly (number | boolean)[])[],
  ): KeyValueCache {
    this.#checkUsable();
    const isEmpty = this.#store?.lengths.every((length) => length === 0) ?? true;
    if (isEmpty && (this.#model !== layers || this.#store?.batch !== batch)) {
      this.checkBatch(batch);
      const limit = this.limit === undefined ? {} : { limit: this.limit };
      this.#store?.dispose();
      this.#store = new KeyValueCache(layers, batch, this.limit ?? capacity, limit);
    } else if (this.#model === undefined) {
      const skip = this.#lenient && mask !== undefined ? paddingOf(mask, this.#store!) : undefined;
      const { limit } = this;
      const exact = !this.#lenient;
      this.#store = rehouse(this.#store!, layers, { capacity: limit ?? capacity, limit, skip, exact });
      if (skip !== undefined) hideMasked(mask!, this.#store, skip);
    } else if (this.#model !== layers) {
      throw new InputError("past_key_values was filled by another model", { option: "past_key_values" });
    }
    this.#model = layers;
    this.settle(this.#store!);
    return this.#store!;
  }

  /**
   * For calls: nobody else may use the cache until the function that this returns is called. Two calls at once would
   * write into each other's text.
   */
  hold(): () => void {
    if (this.#held)
      throw new InputError("past_key_values is in use by another call; wait for it, or fork the cache", {
        option: "past_key_values",
      });
    this.#held = true;
    return () => {
      this.#held = false;
    };
  }

  /** Whether there is anything in it yet. */
  get is_initialized(): boolean {
    return this.#store !== undefined;
  }

  /** Rows; 0 before the first use. */
  get batch(): number {
    return this.#store?.batch ?? 0;
  }

  /** HF's name of `batch`. */
  get batch_size(): number {
    return this.batch;
  }

  /** Positions held by each row, padding not counted. */
  get lengths(): readonly number[] {
    return this.#store?.lengths ?? [];
  }

  /** The position of each row's next token: its length, unless position_ids were given that jumped. */
  get nextPositions(): readonly number[] {
    return this.#store?.nextPositions ?? [];
  }

  /** Positions of each row that no later token sees. */
  get hiddenCounts(): readonly number[] {
    return this.#store?.rows.map(({ hidden }) => hidden.size) ?? [];
  }

  get byteLength(): number {
    return this.#store?.byteLength ?? 0;
  }

  get layers(): readonly CacheLayerInfo[] {
    const store = this.#store;
    return (store?.layers ?? []).map((layer, i) => ({
      kind: layer.kind,
      is_sliding: layer.window !== null,
      sliding_window: layer.window,
      kv_heads: layer.kv_heads,
      head_dim: headDim(layer),
      get keys() {
        return layerTensors(store!, i)[0];
      },
      get values() {
        return layerTensors(store!, i)[1];
      },
    }));
  }

  /** Positions of the longest row. */
  get_seq_length(layer_idx = 0): number {
    return layer_idx < (this.#store?.layers.length ?? 1) ? Math.max(0, ...this.lengths) : 0;
  }

  /** Positions that the cache, or one of its layers, can see at most; -1: any number. */
  get_max_length(layer_idx?: number): number {
    const most = this.limit ?? -1;
    const window = layer_idx === undefined ? null : (this.#store?.layers[layer_idx]?.window ?? null);
    if (window === null) return most;
    return most === -1 ? window : Math.min(window, most);
  }

  /** HF's earlier name of `get_max_length`. */
  get_max_cache_shape(layer_idx = 0): number {
    return this.get_max_length(layer_idx);
  }

  /** HF's earlier name of `get_max_length()`. */
  get max_cache_len(): number {
    return this.get_max_length();
  }

  /**
   * Drops what follows the first `max_length` positions of every row; negative: the last so many; an array: the length
   * of each row. 0 changes nothing, as in HF: `reset` empties a cache. Sliding layers can go back by 64 positions at
   * least (ROLLBACK); where they can't, an InputError says so and nothing changes.
   */
  crop(max_length: number | readonly number[]): void {
    const { lengths } = this;
    const each = typeof max_length === "number" ? lengths.map(() => max_length) : max_length;
    if (each.length !== lengths.length || !each.every(Number.isSafeInteger))
      throw invalid("crop", `an integer, or one for each of ${lengths.length} rows`, max_length);
    if (max_length === 0) return;
    this.#store?.crop(
      each.map((length, row) =>
        length < 0 ? Math.max(0, lengths[row]! + length) : Math.min(length, lengths[row]!),
      ),
    );
  }

  /** Row r becomes a copy of the former row `indices[r]`; the batch may grow or shrink. */
  reorder(indices: RowIndices): void {
    const rows = tokenIds("reorder", indices instanceof Tensor ? indices.data : indices);
    this.checkBatch(rows.length);
    this.#store?.reorder(rows);
  }

  /** HF's name of `reorder`. */
  reorder_cache(beam_idx: RowIndices): void {
    this.reorder(beam_idx);
  }

  /** Each row `repeats` times, copies side by side. */
  batch_repeat_interleave(repeats: number): void {
    this.reorder(repeated(this.batch, integerFrom("repeats", repeats, 1)));
  }

  /** Keeps only some of the rows. */
  batch_select_indices(indices: RowIndices): void {
    this.reorder(indices);
  }

  /** Empties the cache; any model can fill it again. */
  reset(): void {
    this.#store?.dispose();
    this.#store = undefined;
    this.#model = undefined;
    this.#lenient = false;
  }

  /**
   * An independent cache with each row `copies` times, side by side: what was computed once goes on in several ways.
   * Only what is held is copied.
   */
  fork(copies = 1): this {
    this.#checkUsable();
    const rows = repeated(this.batch, integerFrom("copies", copies, 1));
    const fork = this.empty() as this;
    fork.checkBatch(rows.length);
    const room = this.limit === undefined ? FORK_ROOM : this.limit - Math.max(0, ...this.lengths);
    fork.#store = this.#store?.select(rows, room);
    fork.#model = this.#model;
    fork.#lenient = this.#lenient;
    return fork;
  }

  /** An independent copy. */
  clone(): this {
    return this.fork();
  }

  /**
   * Copies of one layer's keys and values, [batch, kv_heads, positions, head_dim], or undefined beyond the layers.
   * Sliding layers give their last window - 1 positions; rows that are shorter than others have zeros on the left.
   */
  at(layer_idx: number): [key: Tensor, value: Tensor] | undefined {
    const store = this.#store;
    const index = layer_idx < 0 ? layer_idx + (store?.layers.length ?? 0) : layer_idx;
    return store?.layers[index] === undefined ? undefined : layerTensors(store, index);
  }

  *[Symbol.iterator](): IterableIterator<[key: Tensor, value: Tensor]> {
    for (let i = 0; i < (this.#store?.layers.length ?? 0); i++) yield this.at(i)!;
  }

  /** HF's tuple form: [key, value] of each layer. */
  to_legacy_cache(): [key: Tensor, value: Tensor][] {
    return [...this];
  }

  /** Writes the cache to a safetensors file, whole or not at all. `DynamicCache.load` reads it. */
  async save(path: string): Promise<void> {
    this.#checkUsable();
    if (this.#store === undefined) throw new InputError("an empty cache can't be saved");
    await saveCache(path, this.#store);
  }

  /** Releases the buffers. The cache can't be used afterwards. */
  dispose(): void {
    this.#disposed = true;
    this.#store?.dispose();
    this.#store = undefined;
  }

  #checkUsable(): void {
    if (this.#disposed) throw new InputError("the cache was disposed", { option: "past_key_values" });
  }
}

/** A cache that grows with its rows: what models make themselves, and return as past_key_values. */
export class DynamicCache extends Cache {
  /** Empty, or with HF's tuple form or Transformers.js' entries in it. A config is accepted as in HF, and not needed. */
  constructor(
    data?: LegacyCache | CacheEntries | { readonly config: object } | null,
    _config?: object | null,
  ) {
    super();
    if (data === undefined || data === null) return;
    if (isPlainObject(data) && "config" in data) rejectUnknownOptions(data, ["config"], "DynamicCache");
    else this.fill(fromTensors(Array.isArray(data) ? data : pairsOf(data)), true);
  }

  /** HF's tuple form as a cache. Its padding on the left is told by the attention_mask of the first call. */
  static from_legacy_cache(past_key_values?: LegacyCache | null): DynamicCache {
    return new DynamicCache(past_key_values);
  }

  /** Reads a cache that `save` wrote. That it fits a model is checked when a model first gets it. */
  static async load(path: string): Promise<DynamicCache> {
    const cache = new DynamicCache();
    cache.fill(await loadCache(path), false);
    return cache;
  }

  protected override empty(): DynamicCache {
    return new DynamicCache();
  }
}

function repeated(rows: number, copies: number): number[] {
  return Array.from({ length: rows * copies }, (_, i) => Math.floor(i / copies));
}

/** Leading positions of each row that a mask says are padding. */
function paddingOf(mask: readonly (readonly (number | boolean)[])[], store: KeyValueCache): number[] {
  const option = "attention_mask";
  if (mask.length !== store.batch)
    throw new InputError(`attention_mask has ${mask.length} rows, past_key_values ${store.batch}`, {
      option,
    });
  return mask.map((row, r) => {
    const length = store.lengths[r]!;
    if (row.length < length) {
      throw new InputError(
        `attention_mask has ${row.length} columns for the ${length} positions of past_key_values`,
        { option },
      );
    }
    const first = row.slice(0, length).findIndex(Boolean);
    return first === -1 ? length : first;
  });
}

/** Positions between a row's tokens that its mask leaves out keep their place, and are not seen. */
function hideMasked(
  mask: readonly (readonly (number | boolean)[])[],
  store: KeyValueCache,
  skip: readonly number[],
): void {
  for (const [r, row] of mask.entries()) {
    const tokens = row.slice(skip[r]!, skip[r]! + store.lengths[r]!);
    store.hide(
      r,
      tokens.flatMap((seen, i) => (seen ? [] : [i])),
    );
  }
}

/** Transformers.js' entries as HF's tuple form. */
function pairsOf(entries: object): LegacyCache {
  const pairs: [Tensor, Tensor][] = [];
  for (const [name, tensor] of Object.entries(entries)) {
    const [, layer, part] = /^past_key_values\.(\d{1,4})\.(key|value)$/.exec(name) ?? [];
    if (layer === undefined)
      throw invalid("DynamicCache", 'entries "past_key_values.0.key", "past_key_values.0.value" …', name);
    pairs[Number(layer)] ??= [] as unknown as [Tensor, Tensor];
    pairs[Number(layer)]![part === "key" ? 0 : 1] = tensor as Tensor;
  }
  return Array.from(pairs, (pair) => pair ?? []) as unknown as LegacyCache;
}
