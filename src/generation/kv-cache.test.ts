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
    expect(held.length).toBeLessThanOrEqual(WINDOW + ROLLBACK + 64);
    expect(held).toEqual(Array.from({ length: held.length }, (_, i) => 300 - held.length + i));
    expect(positions(cache, 1, 0, 0)).toHaveLength(300);
    expect(cache.capacity("sliding")).toBeLessThanOrEqual(WINDOW + ROLLBACK + CHUNK);
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

  it("refuses use after dispose", () => {
    const cache = new KeyValueCache(layers, 1, 4);
    cache.dispose();
    expect(() => cache.reserve([1])).toThrow(/disposed/);
  });
});
