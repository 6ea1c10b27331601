import { InputError } from "../errors.ts";
import type { DecoderCache } from "./decoder.ts";

/** What one layer keeps: [batch, kv_heads, capacity, head_dim] of keys and of values. */
export interface CacheLayer {
  /** Layers of one kind share their capacity and the count of positions held, e.g. "sliding_attention". */
  readonly kind: string;
  readonly kv_heads: number;
  readonly head_dim: number;
  /** Positions that a query sees, itself included; null: all. */
  readonly window: number | null;
}

/** Positions that a sliding layer's buffer holds beyond its window: the most that one run appends. */
export const CHUNK = 512;

/**
 * Positions that can always be cropped away from a row, counted from the most that it ever held: sliding layers keep
 * so many beyond their window. Enough for speculative decoding, which takes back guesses of a few tokens.
 */
export const ROLLBACK = 64;

/**
 * A sliding buffer is moved together once it holds this many positions more than it has to: the attention kernel
 * computes over all it holds, while moving costs a copy of the window.
 */
const SLACK = 64;

/** Positions that a layer's buffer takes at most. */
function largest(window: number | null): number {
  return window === null ? Number.POSITIVE_INFINITY : window + ROLLBACK + CHUNK;
}

interface KindState {
  readonly window: number | null;
  capacity: number;
  /** Per row, positions in the buffer: all of them, or in sliding layers the last ones. */
  held: number[];
}

/** Keys and values of a batch in buffers that the engine writes in place. Rows are left-aligned; no padding is stored. */
export class KeyValueCache implements DecoderCache {
  readonly layers: readonly CacheLayer[];
  /** Two per layer: keys, then values. Replaced (see `version`) when the capacity or the batch changes. */
  buffers: readonly Float32Array[] = [];
  /** Changes whenever `buffers` are other arrays than before. */
  version = 0;
  #lengths: number[];
  readonly #kinds: Map<string, KindState> = new Map();
  readonly #onDispose: Map<object, () => void> = new Map();
  #disposed = false;

  constructor(layers: readonly CacheLayer[], batch: number, capacity: number) {
    this.layers = layers;
    this.#lengths = new Array<number>(batch).fill(0);
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
    return this.#lengths.length;
  }

  get lengths(): readonly number[] {
    return this.#lengths;
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

  /** Makes room for `counts[r]` (at most CHUNK) more positions in row r. */
  reserve(counts: readonly number[]): void {
    if (this.#disposed) throw new InputError("the cache was disposed");
    for (const [kind, state] of this.#kinds) {
      for (const [row, count] of counts.entries()) this.#compact(kind, state, row, count);
      const needed = Math.max(...counts.map((count, row) => state.held[row]! + count));
      if (needed > state.capacity) this.#grow(kind, state, needed);
    }
  }

  /** Tells that `counts[r]` positions were written behind those that row r held. */
  commit(counts: readonly number[]): void {
    for (const [row, count] of counts.entries()) {
      this.#lengths[row]! += count;
      for (const state of this.#kinds.values()) state.held[row]! += count;
    }
  }

  reorder(indices: readonly number[]): void {
    for (const index of indices) {
      if (this.#lengths[index] === undefined)
        throw new InputError(`reorder: no row ${index} in a cache of ${this.batch} rows`);
    }
    if (indices.length === this.batch && indices.every((index, row) => index === row)) return;
    this.#replaceBuffers((layer, buffer) => {
      const size = this.rowElements(layer);
      const result = new Float32Array(indices.length * size);
      for (const [row, index] of indices.entries())
        this.#copyRow(layer, buffer, index * size, result, row * size, index);
      return result;
    });
    this.#lengths = indices.map((index) => this.#lengths[index]!);
    for (const state of this.#kinds.values()) state.held = indices.map((index) => state.held[index]!);
  }

  crop(length: number): void {
    const targets = this.#lengths.map((held) =>
      Math.min(held, length < 0 ? Math.max(0, held + length) : length),
    );
    for (const [kind, { window, held }] of this.#kinds) {
      for (const [row, target] of targets.entries()) {
        const left = held[row]! - (this.#lengths[row]! - target);
        if (window !== null && left < Math.min(target, window - 1)) {
          throw new InputError(
            `crop: row ${row} cannot go back to ${target} of ${this.#lengths[row]} positions: its ${kind} layers have dropped what lies before their window of ${window}`,
          );
        }
      }
    }
    for (const state of this.#kinds.values()) {
      state.held = state.held.map((held, row) => held - (this.#lengths[row]! - targets[row]!));
    }
    this.#lengths = targets;
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

  /**
   * Keeps only what the next query of a sliding layer can see, and could after a rollback, where the buffer is full or
   * attention would pay for more.
   */
  #compact(kind: string, state: KindState, row: number, count: number): void {
    const { window, capacity } = state;
    const held = state.held[row]!;
    if (window === null) return;
    const keep = window - 1 + ROLLBACK;
    if (held <= keep || held + count <= keep + SLACK) return;
    for (const [i, layer] of this.layers.entries()) {
      if (layer.kind !== kind) continue;
      const { head_dim, kv_heads } = layer;
      for (const buffer of [this.buffers[2 * i]!, this.buffers[2 * i + 1]!]) {
        for (let head = 0; head < kv_heads; head++) {
          const start = row * this.rowElements(layer) + head * capacity * head_dim;
          buffer.copyWithin(start, start + (held - keep) * head_dim, start + held * head_dim);
        }
      }
    }
    state.held[row] = keep;
  }

  #grow(kind: string, state: KindState, needed: number): void {
    const before = state.capacity;
    const capacity = Math.max(needed, Math.min(2 * before, largest(state.window)));
    this.#replaceBuffers((layer, buffer) => {
      if (layer.kind !== kind) return buffer;
      const { head_dim, kv_heads } = layer;
      const result = new Float32Array(this.batch * kv_heads * capacity * head_dim);
      for (let row = 0; row < this.batch; row++) {
        for (let head = 0; head < kv_heads; head++) {
          const block = row * kv_heads + head;
          const from = block * before * head_dim;
          result.set(buffer.subarray(from, from + state.held[row]! * head_dim), block * capacity * head_dim);
        }
      }
      return result;
    });
    state.capacity = capacity;
  }

  /** Copies what a row holds, not its empty rest. */
  #copyRow(
    layer: CacheLayer,
    from: Float32Array,
    fromStart: number,
    to: Float32Array,
    toStart: number,
    row: number,
  ): void {
    const stride = this.capacity(layer.kind) * layer.head_dim;
    const length = this.#kind(layer.kind).held[row]! * layer.head_dim;
    for (let head = 0; head < layer.kv_heads; head++) {
      const start = fromStart + head * stride;
      to.set(from.subarray(start, start + length), toStart + head * stride);
    }
  }

  #replaceBuffers(make: (layer: CacheLayer, buffer: Float32Array) => Float32Array): void {
    this.buffers = this.layers.flatMap((layer, i) => {
      const empty = new Float32Array(0);
      return [make(layer, this.buffers[2 * i] ?? empty), make(layer, this.buffers[2 * i + 1] ?? empty)];
    });
    this.version++;
  }
}
