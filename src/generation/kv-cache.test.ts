import { describe, expect, it } from "vitest";
import { type CacheLayer, CHUNK, KeyValueCache, ROLLBACK } from "./kv-cache.ts";

const WINDOW = 8;
const layers: readonly CacheLayer[] = [
  { kind: "sliding", kv_heads: 2, head_dim: 4, window: WINDOW },
  { kind: "full", kv_heads: 2, head_dim: 4, window: null },
];

/** Appends positions as the engine would: element (row, head, position) holds 1000·row + 100·head + position. */
function append(cache: KeyValueCache, counts: readonly number[]): void {
  cache.reserve(counts);
  for (const [i, layer] of layers.entries()) {
    const held = cache.held(layer.kind);
    for (const [row, count] of counts.entries()) {
      for (let head = 0; head < layer.kv_heads; head++) {
        for (let n = 0; n < count; n++) {
          const slot =
            ((row * layer.kv_heads + head) * cache.capacity(layer.kind) + held[row]! + n) * layer.head_dim;
          const value = 1000 * row + 100 * head + cache.lengths[row]! + n;
          for (const buffer of cache.buffers.slice(2 * i, 2 * i + 2))
            buffer.fill(value, slot, slot + layer.head_dim);
        }
      }
    }
  }
  cache.commit(counts);
}

/** The positions that a row's head holds, in order. */
function positions(cache: KeyValueCache, layer: number, row: number, head: number): number[] {
  const { kind, head_dim, kv_heads } = layers[layer]!;
  const start = (row * kv_heads + head) * cache.capacity(kind) * head_dim;
  return Array.from(
    { length: cache.held(kind)[row]! },
    (_, i) => cache.buffers[2 * layer]![start + i * head_dim]! - 100 * head,
  ) as number[];
}

describe("KeyValueCache", () => {
  it("grows by doubling and keeps what it holds", () => {
    const cache = new KeyValueCache(layers, 2, 2);
    append(cache, [2, 1]);
    append(cache, [0, 3]);
    expect(cache.lengths).toEqual([2, 4]);
    expect(cache.capacity("full")).toBe(4);
    expect(positions(cache, 1, 0, 1)).toEqual([0, 1]);
    expect(positions(cache, 1, 1, 0)).toEqual([1000, 1001, 1002, 1003]);
  });

  it("keeps of sliding layers the window and little more, in order", () => {
    const cache = new KeyValueCache(layers, 1, 4);
    for (let i = 0; i < 300; i++) append(cache, [1]);
    const held = positions(cache, 0, 0, 1);
    expect(held.length).toBeGreaterThanOrEqual(WINDOW - 1);
    expect(held.length).toBeLessThanOrEqual(WINDOW + ROLLBACK + 128);
    expect(held).toEqual(Array.from({ length: held.length }, (_, i) => 300 - held.length + i));
    expect(positions(cache, 1, 0, 0)).toHaveLength(300);
    expect(cache.capacity("sliding")).toBeLessThanOrEqual(WINDOW + ROLLBACK + 128 + CHUNK);
  });

  it("takes a whole chunk at any time", () => {
    const cache = new KeyValueCache(layers, 1, 4096);
    for (let i = 0; i < 3; i++) append(cache, [CHUNK]);
    expect(positions(cache, 0, 0, 0).at(-1)).toBe(3 * CHUNK - 1);
    expect(KeyValueCache.bytes(layers, 1, 4096)).toBe(cache.byteLength);
  });

  it("crops both kinds, and says where sliding layers can't follow", () => {
    const cache = new KeyValueCache(layers, 1, 100);
    for (let i = 0; i < 30; i++) append(cache, [1]);
    cache.crop([25]);
    expect(cache.lengths).toEqual([25]);
    expect(positions(cache, 0, 0, 0).at(-1)).toBe(24);
    append(cache, [1]);
    expect(positions(cache, 1, 0, 0).slice(-2)).toEqual([24, 25]);
    for (let i = 0; i < 300; i++) append(cache, [1]);
    expect(() => cache.crop([20])).toThrow(/cannot go back to 20 of 326/);
    expect(cache.lengths).toEqual([326]);
  });

  it.each([1, 3, 70, CHUNK])("can always take back the last positions, appended %i at a time", (count) => {
    const cache = new KeyValueCache(layers, 1, 4);
    for (let step = 0; step < 40; step++) {
      append(cache, [count]);
      const length = cache.lengths[0]!;
      const back = Math.min(step % 2 === 0 ? ROLLBACK : 5, length);
      cache.crop([length - back]);
      const held = positions(cache, 0, 0, 1);
      const visible = Math.min(WINDOW - 1, length - back);
      expect(held.slice(held.length - visible)).toEqual(
        Array.from({ length: visible }, (_, i) => length - back - visible + i),
      );
      append(cache, [back]);
    }
  });

  it("reorders, repeats and drops rows", () => {
    const cache = new KeyValueCache(layers, 2, 4);
    append(cache, [3, 1]);
    cache.reorder([1, 0, 0]);
    expect(cache.lengths).toEqual([1, 3, 3]);
    expect(positions(cache, 0, 0, 0)).toEqual([1000]);
    expect(positions(cache, 1, 2, 1)).toEqual([0, 1, 2]);
    expect(() => cache.reorder([3])).toThrow(/no row 3/);
  });

  it("takes keys and values of single rows, and gives them back", () => {
    const cache = new KeyValueCache(layers, 2, 4);
    append(cache, [1, 2]);
    const keys = Float32Array.from({ length: 2 * 3 * 4 }, (_, i) => i);
    const values = keys.map((value) => -value);
    cache.reserve([0, 3]);
    for (const i of layers.keys()) cache.append(i, 1, keys, values, 3);
    cache.commit([0, 3]);
    const [k, v] = [new Float32Array(24), new Float32Array(24)];
    cache.read(1, 1, k, v, 3);
    expect([k, v]).toEqual([keys, values]);
    const wide = new Float32Array(2 * 6 * 4).fill(9);
    cache.read(0, 1, wide, wide, undefined, 6);
    const element = (head: number, position: number): number => wide[(head * 6 + position) * 4]!;
    expect([0, 1, 2, 5].map((position) => element(1, position))).toEqual([1100, 1101, -12, 9]);
    expect(positions(cache, 0, 0, 0)).toEqual([0]);
  });

  it("selects rows into a cache of its own", () => {
    const cache = new KeyValueCache(layers, 2, 400);
    append(cache, [3, 2]);
    const copy = cache.select([1, 1], 1);
    expect([copy.capacity("full"), copy.lengths]).toEqual([3, [2, 2]]);
    append(copy, [0, 1]);
    expect(positions(copy, 1, 0, 1)).toEqual([1000, 1001]);
    expect(positions(copy, 0, 1, 0)).toEqual([1000, 1001, 1002]);
    expect(cache.lengths).toEqual([3, 2]);
  });

  it("keeps positions and hidden tokens with their rows", () => {
    const cache = new KeyValueCache(layers, 2, 4);
    cache.reserve([4, 2]);
    cache.commit([4, 2], [[0, 1, 7, 8], 12]);
    cache.hide(0, [1, 3]);
    expect(cache.nextPositions).toEqual([9, 12]);
    cache.reorder([1, 0, 0]);
    expect(cache.nextPositions).toEqual([12, 9, 9]);
    cache.crop([1, 3, 2]);
    expect(cache.nextPositions).toEqual([11, 8, 2]);
    expect([0, 1, 2].map((row) => [...cache.hidden(row)])).toEqual([[], [1], [1]]);
    expect(() => cache.hide(2, [2])).toThrow("a token to hide must be an integer from 0 to 1");
  });

  it("refuses use after dispose", () => {
    const cache = new KeyValueCache(layers, 1, 4);
    cache.dispose();
    expect(() => cache.reserve([1])).toThrow(/disposed/);
  });
});
