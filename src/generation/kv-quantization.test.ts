import { describe, expect, it } from "vitest";
import { KeyValueCache } from "./kv-cache.ts";
import { decodeHead, encodeHead, keyScales, valueScales } from "./kv-quantization.ts";

describe("keys and values in 8 bits", () => {
  it("scales keys by the lengths of their rotated pairs, values by their size, with room to grow", () => {
    // Two positions of a head of 4: the pairs are (0, 2) and (1, 3).
    const data = Float32Array.of(3, 0, 4, 0, 0, -1, 1, 0);
    const rounded = (scales: Float32Array): number[] =>
      Array.from(scales, (scale) => Math.round(scale * 127 * 1000) / 1000);
    expect(rounded(keyScales([data], 4))).toEqual([6.25, 1.25, 6.25, 1.25]);
    expect(rounded(valueScales([data.subarray(0, 4), data.subarray(4)], 4))).toEqual([4.5, 1.5, 6, 127]);
  });

  it("rounds, and clips what is beyond the scales", () => {
    const scales = Float32Array.of(0.5, 1);
    const codes = new Int8Array(4);
    encodeHead(Float32Array.of(1.26, -3.4, 1000, -1000), scales, codes);
    expect([...codes]).toEqual([3, -3, 127, -127]);
    const back = new Float32Array(4);
    decodeHead(codes, scales, back);
    expect([...back]).toEqual([1.5, -3, 63.5, -127]);
  });

  it("takes a quarter of the memory, and goes on in copies, grown and appended to", () => {
    const layers = [{ kind: "full", kv_heads: 2, head_dim: 4, window: null }];
    const cache = new KeyValueCache(layers, 2, 8);
    const data = (count: number, shift: number): Float32Array =>
      Float32Array.from({ length: 2 * count * 4 }, (_, i) => Math.sin(i + shift));
    cache.reserve([6, 3]);
    cache.append(0, 0, data(6, 0), data(6, 1), 6);
    cache.append(0, 1, data(3, 2), data(3, 3), 3);
    cache.commit([6, 3]);
    const { byteLength, version } = cache;
    cache.quantize();
    expect([cache.quantized, cache.byteLength]).toEqual([true, byteLength / 4]);
    expect(cache.version).toBeGreaterThan(version);
    const copy = cache.select([1, 0], 1);
    copy.reserve([20, 0]);
    copy.append(0, 0, data(20, 4), data(20, 5), 20);
    copy.commit([20, 0]);
    const [keys, values] = [new Float32Array(2 * 20 * 4), new Float32Array(2 * 20 * 4)];
    copy.read(0, 0, keys, values, 20);
    expect(Math.max(...keys.map((key, i) => Math.abs(key - data(20, 4)[i]!)))).toBeLessThan(0.01);
    expect(Math.max(...values.map((value, i) => Math.abs(value - data(20, 5)[i]!)))).toBeLessThan(0.01);
    const old = new Float32Array(2 * 6 * 4);
    copy.read(0, 1, old, new Float32Array(old.length));
    expect(Math.max(...old.map((key, i) => Math.abs(key - data(6, 0)[i]!)))).toBeLessThan(0.01);
  });
});
