import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { CheckpointError } from "../errors.ts";
import { blocksPerRow, dequantizeRows, type NBitsLayout, quantizeRows, rowBytes } from "./matmul-nbits.ts";

const layouts: NBitsLayout[] = ([4, 8] as const).flatMap((bits) =>
  ([16, 32, 64, 128] as const).map((block_size) => ({ bits, block_size })),
);

function quantize(values: Float32Array, N: number, K: number, layout: NBitsLayout) {
  // Filled, so that a byte that nobody writes shows.
  const data = new Uint8Array(N * rowBytes(K, layout)).fill(0x5a);
  const scales = new Float32Array(N * blocksPerRow(K, layout)).fill(Number.NaN);
  quantizeRows(values, N, K, layout, data, scales);
  const back = new Float32Array(N * K);
  dequantizeRows(data, scales, N, K, layout, back);
  return { data, scales, back };
}

/** Weights as they come: mostly small, some far out, over many magnitudes, some blocks of zeros. */
const weights = fc
  .record({
    N: fc.integer({ min: 1, max: 3 }),
    K: fc.integer({ min: 1, max: 150 }),
    layout: fc.constantFrom(...layouts),
    seed: fc.infiniteStream(fc.float({ min: -1, max: 1, noNaN: true })),
    magnitude: fc.integer({ min: -145, max: 120 }),
  })
  .map(({ N, K, layout, seed, magnitude }) => {
    const values = Float32Array.from({ length: N * K }, () => seed.next().value! ** 3 * 2 ** magnitude);
    return { N, K, layout, values };
  });

describe("quantizeRows", () => {
  it("gives every value the nearest code of its block's scale", () => {
    fc.assert(
      fc.property(weights, ({ N, K, layout, values }) => {
        const { scales, back } = quantize(values, N, K, layout);
        const blocks = blocksPerRow(K, layout);
        const top = 2 ** (layout.bits - 1);
        for (let i = 0; i < values.length; i++) {
          const scale = scales[Math.floor(i / K) * blocks + Math.floor((i % K) / layout.block_size)]!;
          const steps = scale === 0 ? 0 : values[i]! / scale;
          const clipped = Math.max(-top, Math.min(top - 1, steps));
          const slack = 2 ** -20 * Math.abs(values[i]!) + 2 ** -149;
          const error = Math.abs(values[i]! - back[i]!);
          expect(error).toBeLessThanOrEqual(Math.abs(scale) * (Math.abs(steps - clipped) + 0.5) + slack);
          if (layout.bits === 8) expect(Math.abs(clipped)).toBeLessThanOrEqual(127.001);
        }
      }),
    );
  });

  it("finds 4-bit scales no worse than the plain rule's, whose extreme value becomes -8", () => {
    fc.assert(
      fc.property(
        fc.array(fc.float({ min: -1, max: 1, noNaN: true }), { minLength: 1, maxLength: 32 }),
        (row) => {
          const values = Float32Array.from(row, (value) => (Math.abs(value) < 1e-6 ? 0 : value));
          const { back } = quantize(values, 1, row.length, { bits: 4, block_size: 32 });
          const extreme = values.reduce((a, b) => (Math.abs(b) > Math.abs(a) ? b : a), 0);
          const scale = extreme / -8 || 1;
          const plain = values.map((value) => scale * Math.min(7, Math.round(value / scale)));
          const error = (a: Float32Array) => values.reduce((sum, value, i) => sum + (value - a[i]!) ** 2, 0);
          expect(error(back)).toBeLessThanOrEqual(error(plain) * (1 + 1e-4) + 1e-12);
        },
      ),
      { numRuns: 1000 },
    );
  });

  it("beats the plain 4-bit rule by a tenth of the squared error on normal weights", () => {
    const values = normals(64 * 1024);
    const { back } = quantize(values, 64, 1024, { bits: 4, block_size: 32 });
    const error = values.reduce((sum, value, i) => sum + (value - back[i]!) ** 2, 0);
    const power = values.reduce((sum, value) => sum + value ** 2, 0);
    expect(Math.sqrt(error / power)).toBeLessThan(0.082); // 0.086 with the plain rule
  });

  it("keeps rows apart: a part quantised alone equals that part of the whole", () => {
    const [N, K] = [5, 44];
    const values = normals(N * K);
    for (const layout of layouts) {
      const whole = quantize(values, N, K, layout);
      const part = quantize(values.subarray(2 * K, 4 * K), 2, K, layout);
      const bytes = rowBytes(K, layout);
      const blocks = blocksPerRow(K, layout);
      expect(part.data).toEqual(whole.data.subarray(2 * bytes, 4 * bytes));
      expect(part.scales).toEqual(whole.scales.subarray(2 * blocks, 4 * blocks));
    }
  });

  it("pads the last block with codes that stand for 0", () => {
    for (const layout of layouts) {
      const K = layout.block_size + 5;
      const { data } = quantize(normals(2 * K), 2, K, layout);
      for (const row of [0, 1]) {
        const used = ((layout.block_size + 5) * layout.bits) / 8;
        const rest = data.subarray(row * rowBytes(K, layout), (row + 1) * rowBytes(K, layout));
        if (layout.bits === 4) expect(rest[Math.floor(used)]! >>> 4).toBe(8);
        expect(
          [...rest.subarray(Math.ceil(used))].every((byte) => byte === (layout.bits === 4 ? 0x88 : 0x80)),
        ).toBe(true);
      }
    }
  });

  it("puts even elements in the low nibble", () => {
    const codes = Float32Array.from({ length: 16 }, (_, i) => i - 8);
    const { data, scales } = quantize(codes, 1, 16, { bits: 4, block_size: 16 });
    expect([...data]).toEqual([0x10, 0x32, 0x54, 0x76, 0x98, 0xba, 0xdc, 0xfe]);
    expect(scales[0]).toBe(1);
  });

  it("gives a block of zeros the scale 0", () => {
    for (const layout of layouts) {
      const { scales, back } = quantize(new Float32Array(40), 1, 40, layout);
      expect([...scales]).toEqual(new Array(blocksPerRow(40, layout)).fill(0));
      expect(back).toEqual(new Float32Array(40));
    }
  });

  it("refuses values that are not finite and views of another size", () => {
    for (const layout of layouts) {
      for (const bad of [Number.NaN, Number.NEGATIVE_INFINITY]) {
        const values = normals(40);
        values[20] = bad;
        expect(() => quantize(values, 1, 40, layout)).toThrow(CheckpointError);
      }
    }
    const layout: NBitsLayout = { bits: 8, block_size: 32 };
    const [values, data, scales] = [new Float32Array(40), new Uint8Array(64), new Float32Array(2)];
    expect(() => quantizeRows(values, 1, 41, layout, data, scales)).toThrow(/41 elements of values, got 40/);
    expect(() => quantizeRows(values, 1, 40, layout, data.subarray(1), scales)).toThrow(
      /64 elements of data/,
    );
    expect(() => dequantizeRows(data, scales.subarray(1), 1, 40, layout, values)).toThrow(
      /2 elements of scales/,
    );
  });
});

/** Normal deviates from a fixed seed. */
function normals(length: number): Float32Array {
  let state = 1;
  const uniform = () => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    return ((state >>> 8) + 0.5) / 2 ** 24;
  };
  return Float32Array.from(
    { length },
    () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform()),
  );
}
