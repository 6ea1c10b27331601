import { InputError } from "../errors.ts";
import { CacheRow, type NewPositions } from "./cache-row.ts";
import {
  type CacheBuffer,
  decodeHead,
  encodeHead,
  keyScales,
  quantizeBuffer,
  valueScales,
} from "./kv-quantization.ts";

/** What one layer keeps: [batch, kv_heads, capacity, head_dim] of keys and of values. */
export interface CacheLayer {
  /** Layers of one kind share their capacity and the count of positions held, e.g. "sliding_attention". */
  readonly kind: string;
  readonly kv_heads: number;
  /** As stored: rounded up to what the attention kernel takes. */
  readonly head_dim: number;
  /** The model's head size, where it is smaller. */
  readonly true_head_dim?: number;
  /** Positions that a query sees, itself included; null: all. */
  readonly window: number | null;
  /** Later layers of the model that read these keys and values in place of their own. */
  readonly readers?: readonly number[];
}

/** Positions that a sliding layer's buffer holds beyond its window: the most that one run appends. */
export const CHUNK = 512;

/**
 * Positions that can always be cropped away from a row, counted from the most that it ever held: sliding layers keep
 * so many beyond their window. Enough for speculative decoding, which takes back guesses of a few tokens.
 */
export const ROLLBACK = 64;

/**
 * A sliding buffer is moved together by multiples of so many positions: moving costs a copy of the window, and the
 * attention kernel sums in blocks of up to so many, whose borders must not depend on when the buffer was moved. Else
 * the last digits of a text would depend on how many tokens each run had.
 */
const STRIDE = 128;

/** Positions that a layer's buffer takes at most. */
function largest(window: number | null): number {
  return window === null ? Number.POSITIVE_INFINITY : window + ROLLBACK + STRIDE + CHUNK;
}

interface KindState {
  readonly window: number | null;
  capacity: number;
  /** Per row, positions in the buffer: all of them, or in sliding layers the last ones. */
  held: number[];
}

export interface KeyValueCacheOptions {
  /** Positions that a row may have at most; without it buffers grow as needed. */
  readonly limit?: number;
}

/** Keys and values of a batch in buffers that the engine writes in place. Rows are left-aligned; no padding is stored. */
export class KeyValueCache {
  readonly layers: readonly CacheLayer[];
  /** Two per layer: keys, then values. Replaced (see `version`) when the capacity or the batch changes. */
  buffers: readonly CacheBuffer[] = [];
  /** Changes whenever `buffers` are other arrays than before. */
  version = 0;
  readonly limit: number;
  /** Two per layer, [kv_heads, head_dim]: what the numbers in buffers of 8 bits are multiples of. */
  scales: readonly Float32Array[] | undefined;
  #rows: CacheRow[];
  readonly #kinds: Map<string, KindState> = new Map();
  readonly #onDispose: Map<object, () => void> = new Map();
  #disposed = false;

  constructor(
    layers: readonly CacheLayer[],
    batch: number,
    capacity: number,
    options: KeyValueCacheOptions = {},
  ) {
    this.layers = layers;
    this.limit = options.limit ?? Number.POSITIVE_INFINITY;
    this.#rows = Array.from({ length: batch }, () => new CacheRow());
    for (const { kind, window } of layers) {
      if (this.#kinds.has(kind)) continue;
      this.#kinds.set(kind, {
        window,
        capacity: Math.min(Math.max(capacity, 1), largest(window)),
        held: new Array<number>(batch).fill(0),
      });
    }
    this.#replaceBuffers((layer) => new Float32Array(batch * this.rowElements(layer)));
  }

  /** Bytes that a cache of this size takes. */
  static bytes(layers: readonly CacheLayer[], batch: number, positions: number): number {
    const elements = layers.map(
      ({ kv_heads, head_dim, window }) => kv_heads * head_dim * Math.min(positions, largest(window)),
    );
    return 2 * 4 * batch * elements.reduce((sum, count) => sum + count, 0);
  }

  get batch(): number {
    return this.#rows.length;
  }

  get rows(): readonly CacheRow[] {
    return this.#rows;
  }

  /** Positions held by each row. */
  get lengths(): readonly number[] {
    return this.#rows.map((row) => row.length);
  }

  /** The rope position of each row's next token: its length, unless positions were given that jumped. */
  get nextPositions(): readonly number[] {
    return this.#rows.map((row) => row.nextPosition);
  }

  /** Tokens of a row, counted from its first, that later queries must not see. */
  hidden(row: number): ReadonlySet<number> {
    return this.#row(row).hidden;
  }

  hide(row: number, tokens: Iterable<number>): void {
    this.#row(row).hide(tokens);
  }

  get byteLength(): number {
    return this.buffers.reduce((sum, buffer) => sum + buffer.byteLength, 0);
  }

  /** Positions in the buffers of a kind of layer, per row. */
  held(kind: string): readonly number[] {
    return this.#kind(kind).held;
  }

  capacity(kind: string): number {
    return this.#kind(kind).capacity;
  }

  /** Elements of one row of one buffer: kv_heads * capacity * head_dim. */
  rowElements(layer: CacheLayer): number {
    return layer.kv_heads * this.capacity(layer.kind) * layer.head_dim;
  }

  /** Throws where `counts[r]` more positions in row r were beyond the limit of a static cache. */
  checkRoom(counts: readonly number[]): void {
    for (const [row, count] of counts.entries()) {
      const needed = this.#rows[row]!.length + count;
      if (needed > this.limit) {
        throw new InputError(
          `the static cache holds at most max_cache_len = ${this.limit} positions, row ${row} needs ${needed}`,
          { option: "past_key_values" },
        );
      }
    }
  }

  /** Makes room for `counts[r]` (at most CHUNK) more positions in row r. */
  reserve(counts: readonly number[]): void {
    if (this.#disposed) throw new InputError("the cache was disposed");
    for (const [kind, state] of this.#kinds) {
      for (const row of counts.keys()) this.#compact(kind, state, row);
      const needed = Math.max(...counts.map((count, row) => state.held[row]! + count));
      if (needed > state.capacity) this.#grow(kind, state, needed);
    }
  }

  /**
   * Writes keys and values [kv_heads, count, head_dim] behind those that a row holds. Room must have been reserved;
   * `commit` follows once all layers are written.
   */
  append(layerIndex: number, row: number, keys: Float32Array, values: Float32Array, count: number): void {
    const { layer, offset, stride } = this.#place(layerIndex, row);
    const size = count * layer.head_dim;
    const start = offset + this.held(layer.kind)[row]! * layer.head_dim;
    for (const [j, source] of [keys, values].entries()) {
      for (let head = 0; head < layer.kv_heads; head++) {
        const { buffer, scales } = this.#head(layerIndex, j, head);
        const target = buffer.subarray(start + head * stride, start + head * stride + size);
        encodeHead(source.subarray(head * size, (head + 1) * size), scales, target);
      }
    }
  }

  /**
   * Copies the last `count` positions that a row holds (all of them without it) into [kv_heads, count, head_dim];
   * `stride`: positions that the arrays have for each head, when more than `count`.
   */
  read(
    layerIndex: number,
    row: number,
    keys: Float32Array,
    values: Float32Array,
    count: number = this.held(this.layers[layerIndex]!.kind)[row]!,
    stride: number = count,
  ): void {
    const place = this.#place(layerIndex, row);
    const { head_dim, kind, kv_heads } = place.layer;
    const end = place.offset + this.held(kind)[row]! * head_dim;
    for (const [j, target] of [keys, values].entries()) {
      for (let head = 0; head < kv_heads; head++) {
        const { buffer, scales } = this.#head(layerIndex, j, head);
        const stop = end + head * place.stride;
        const source = buffer.subarray(stop - count * head_dim, stop);
        decodeHead(source, scales, target.subarray(head * stride * head_dim));
      }
    }
  }

  /** Whether buffers hold 8 bits. */
  get quantized(): boolean {
    return this.scales !== undefined;
  }

  /** Turns the buffers into 8 bits, with scales from what the rows hold. Later keys and values are clipped to them. */
  quantize(): void {
    const made = this.layers.flatMap((layer, i) =>
      [keyScales, valueScales].map((scalesOf, j) =>
        quantizeBuffer(
          this.buffers[2 * i + j] as Float32Array,
          { ...layer, ...this.#kind(layer.kind) },
          scalesOf,
        ),
      ),
    );
    this.buffers = made.map(({ buffer }) => buffer);
    this.scales = made.map(({ scales }) => scales);
    this.version++;
  }

  /** Tells that `counts[r]` positions were written behind those that row r held. `positions` says where they jump. */
  commit(counts: readonly number[], positions: readonly (NewPositions | undefined)[] = []): void {
    for (const [r, row] of this.#rows.entries()) {
      row.advance(counts[r]!, positions[r]);
      for (const state of this.#kinds.values()) state.held[r]! += counts[r]!;
    }
  }

  /** Tells what an empty cache was filled with: its rows, and the last positions of each that a kind of layer holds. */
  restore(rows: readonly CacheRow[], held: (kind: string, row: number) => number): void {
    this.#rows = [...rows];
    for (const [kind, state] of this.#kinds) state.held = rows.map((_, row) => held(kind, row));
  }

  /** Row r becomes a copy of the former row `indices[r]`; the batch may grow or shrink. */
  reorder(indices: readonly number[]): void {
    this.#checkRows(indices);
    if (indices.length === this.batch && indices.every((index, row) => index === row)) return;
    this.#replaceBuffers((layer, buffer) => {
      const { capacity } = this.#kind(layer.kind);
      return this.#copyRows(layer, buffer, indices, capacity);
    });
    this.#rows = indices.map((index) => this.#rows[index]!.clone());
    for (const state of this.#kinds.values()) state.held = indices.map((index) => state.held[index]!);
  }

  /** A cache with copies of the rows `indices`, and room for `room` more positions. */
  select(indices: readonly number[], room: number): KeyValueCache {
    this.#checkRows(indices);
    const copy = new KeyValueCache(this.layers, 0, 1, { limit: this.limit });
    copy.scales = this.scales;
    for (const [kind, state] of this.#kinds) {
      const own = copy.#kind(kind);
      own.held = indices.map((index) => state.held[index]!);
      own.capacity = Math.min(Math.max(...own.held, 0) + Math.max(room, 1), largest(state.window));
    }
    copy.#rows = indices.map((index) => this.#rows[index]!.clone());
    copy.buffers = this.layers.flatMap((layer, i) =>
      [2 * i, 2 * i + 1].map((b) =>
        this.#copyRows(layer, this.buffers[b]!, indices, copy.capacity(layer.kind)),
      ),
    );
    return copy;
  }

  /** Drops the positions of row r from `targets[r]` on. Throws where a sliding layer no longer has what lies before. */
  crop(targets: readonly number[]): void {
    const dropped = this.#rows.map((row, r) => Math.max(0, row.length - targets[r]!));
    for (const [kind, { window, held }] of this.#kinds) {
      for (const [r, count] of dropped.entries()) {
        const { length } = this.#rows[r]!;
        if (window !== null && held[r]! - count < Math.min(length - count, window - 1)) {
          throw new InputError(
            `crop: row ${r} cannot go back to ${length - count} of ${length} positions: its ${kind} layers have dropped what lies before their window of ${window}`,
          );
        }
      }
    }
    for (const state of this.#kinds.values()) state.held = state.held.map((held, r) => held - dropped[r]!);
    for (const [r, row] of this.#rows.entries()) row.crop(targets[r]!);
  }

  /** Calls `release` when the cache is disposed, instead of what was given for `owner` before. */
  onDispose(owner: object, release: () => void): void {
    this.#onDispose.set(owner, release);
  }

  dispose(): void {
    this.#disposed = true;
    for (const release of this.#onDispose.values()) release();
    this.#onDispose.clear();
    this.buffers = [];
  }

  #kind(kind: string): KindState {
    const state = this.#kinds.get(kind);
    if (state === undefined) throw new InputError(`the cache has no layers of kind ${kind}`);
    return state;
  }

  #row(row: number): CacheRow {
    this.#checkRows([row]);
    return this.#rows[row]!;
  }

  #checkRows(indices: readonly number[]): void {
    for (const index of indices) {
      if (this.#rows[index] === undefined)
        throw new InputError(`there is no row ${index} in a cache of ${this.batch} rows`);
    }
  }

  /** Where a row begins in a layer's buffers, and the distance from head to head, in elements. */
  #place(layerIndex: number, row: number): { layer: CacheLayer; offset: number; stride: number } {
    const layer = this.layers[layerIndex]!;
    const stride = this.capacity(layer.kind) * layer.head_dim;
    return { layer, offset: row * layer.kv_heads * stride, stride };
  }

  /**
   * Keeps only what the next query of a sliding layer can see, and could after a rollback, where the buffer is full or
   * attention would pay for more.
   */
  #compact(kind: string, state: KindState, row: number): void {
    const { window, capacity } = state;
    const held = state.held[row]!;
    if (window === null) return;
    const dropped = Math.floor((held - (window - 1 + ROLLBACK)) / STRIDE) * STRIDE;
    if (dropped <= 0) return;
    for (const [i, layer] of this.layers.entries()) {
      if (layer.kind !== kind) continue;
      const { head_dim, kv_heads } = layer;
      for (const buffer of [this.buffers[2 * i]!, this.buffers[2 * i + 1]!]) {
        for (let head = 0; head < kv_heads; head++) {
          const start = row * this.rowElements(layer) + head * capacity * head_dim;
          buffer.copyWithin(start, start + dropped * head_dim, start + held * head_dim);
        }
      }
    }
    state.held[row] = held - dropped;
  }

  #grow(kind: string, state: KindState, needed: number): void {
    const capacity = Math.max(needed, Math.min(2 * state.capacity, largest(state.window)));
    const rows = this.#rows.map((_, row) => row);
    this.#replaceBuffers((layer, buffer) =>
      layer.kind === kind ? this.#copyRows(layer, buffer, rows, capacity) : buffer,
    );
    state.capacity = capacity;
  }

  /** A buffer of another capacity with copies of the rows `indices`: of what they hold, not of the empty rest. */
  #copyRows(layer: CacheLayer, from: CacheBuffer, indices: readonly number[], capacity: number): CacheBuffer {
    const { head_dim, kind, kv_heads } = layer;
    const state = this.#kind(kind);
    const size = indices.length * kv_heads * capacity * head_dim;
    const to = from instanceof Int8Array ? new Int8Array(size) : new Float32Array(size);
    for (const [row, index] of indices.entries()) {
      for (let head = 0; head < kv_heads; head++) {
        const start = (index * kv_heads + head) * state.capacity * head_dim;
        const held = from.subarray(start, start + state.held[index]! * head_dim);
        to.set(held, (row * kv_heads + head) * capacity * head_dim);
      }
    }
    return to;
  }

  #head(
    layerIndex: number,
    part: number,
    head: number,
  ): { buffer: CacheBuffer; scales: Float32Array | undefined } {
    const { head_dim } = this.layers[layerIndex]!;
    return {
      buffer: this.buffers[2 * layerIndex + part]!,
      scales: this.scales?.[2 * layerIndex + part]?.subarray(head * head_dim, (head + 1) * head_dim),
    };
  }

  #replaceBuffers(make: (layer: CacheLayer, buffer: CacheBuffer) => CacheBuffer): void {
    this.buffers = this.layers.flatMap((layer, i) => {
      const empty = new Float32Array(0);
      return [make(layer, this.buffers[2 * i] ?? empty), make(layer, this.buffers[2 * i + 1] ?? empty)];
    });
    this.version++;
  }
}
