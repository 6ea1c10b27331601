import { describe, expect, it } from "vitest";
import type { CheckpointDtype } from "../checkpoints/checkpoint.ts";
import { CheckpointError } from "../errors.ts";
import { BLOCK_FORMATS } from "./block-codes.ts";
import { readFixture } from "./fixture.ts";
import { dequantize } from "./gguf-blocks.ts";
import { float32ToBfloat16, float32ToFloat16 } from "./half.ts";
import { blocksPerRow, dequantizeRows, type NBitsLayout, quantizeRows, rowBytes } from "./matmul-nbits.ts";
import { isExact, layoutOf, repack } from "./repack.ts";

const { blocks } = readFixture();
const layouts: NBitsLayout[] = ([4, 8] as const).flatMap((bits) =>
  ([16, 32, 64, 128] as const).map((block_size) => ({ bits, block_size })),
);
const bitsOf = (values: Float32Array) => new Uint32Array(values.buffer, values.byteOffset, values.length);
const label = ({ bits, block_size }: NBitsLayout) => `${bits} bits, blocks of ${block_size}`;

function repacked(dtype: CheckpointDtype, bytes: Uint8Array, N: number, K: number, layout: NBitsLayout) {
  const data = new Uint8Array(N * rowBytes(K, layout)).fill(0x5a);
  const scales = new Float32Array(N * blocksPerRow(K, layout)).fill(Number.NaN);
  repack(dtype, bytes, N, K, layout, data, scales);
  const back = new Float32Array(N * K);
  dequantizeRows(data, scales, N, K, layout, back);
  return { data, scales, back };
}

describe("layoutOf", () => {
  it("names the smallest layout that keeps a format", () => {
    const name = (dtype: CheckpointDtype) => {
      const layout = layoutOf(dtype);
      return layout && `${layout.exact ? "exact" : "near"} ${layout.bits}x${layout.block_size}`;
    };
    const dtypes: CheckpointDtype[] = ["Q4_0", "Q5_0", "Q8_0", "Q3_K", "Q6_K"];
    expect(dtypes.map(name)).toEqual(["exact 4x32", "exact 8x32", "exact 8x32", "exact 4x16", "exact 8x16"]);
    const affine: CheckpointDtype[] = ["Q4_1", "Q5_1", "Q2_K", "Q4_K", "Q5_K"];
    expect(affine.map(name)).toEqual(["near 8x32", "near 8x32", "near 8x16", "near 8x32", "near 8x32"]);
    expect(name("BF16")).toBeUndefined();
    for (const { dtype } of blocks) expect(isExact(dtype, layoutOf(dtype)!)).toBe(layoutOf(dtype)!.exact);
  });
});

describe("repack of formats without minima", () => {
  for (const { dtype, bytes, values } of blocks) {
    for (const layout of layouts.filter((layout) => isExact(dtype, layout))) {
      it(`keeps ${dtype} bit for bit in ${label(layout)}`, () => {
        const N = 4;
        const { back } = repacked(dtype, bytes, N, values.length / N, layout);
        expect(bitsOf(back)).toEqual(bitsOf(values));
      });
    }
  }

  it("is exact into smaller blocks and wider codes, not into larger blocks or narrower codes", () => {
    const exact = (dtype: CheckpointDtype) => layouts.filter((layout) => isExact(dtype, layout)).map(label);
    expect(exact("Q8_0")).toEqual(["8 bits, blocks of 16", "8 bits, blocks of 32"]);
    expect(exact("Q4_0")).toEqual(["4 bits, blocks of 16", "4 bits, blocks of 32", ...exact("Q8_0")]);
    expect(exact("Q3_K")).toEqual(["4 bits, blocks of 16", "8 bits, blocks of 16"]);
    expect(exact("Q4_K")).toEqual([]);
  });
});

describe("repack of formats with minima", () => {
  for (const { dtype, bytes, values } of blocks.filter(({ dtype }) => BLOCK_FORMATS[dtype].affine)) {
    for (const block_size of [16, 32] as const) {
      if (block_size > BLOCK_FORMATS[dtype].group) continue;
      it(`keeps ${dtype} within half an 8-bit step in blocks of ${block_size}`, () => {
        const { back } = repacked(dtype, bytes, 1, values.length, { bits: 8, block_size });
        const { group, top } = BLOCK_FORMATS[dtype];
        const { scales, mins } = groupsOf(dtype, bytes);
        for (let i = 0; i < values.length; i++) {
          const g = Math.floor(i / group);
          // The largest value that the group's codes could stand for.
          const extent = Math.max(Math.abs(mins[g]!), Math.abs(top * scales[g]! - mins[g]!));
          expect(Math.abs(back[i]! - values[i]!)).toBeLessThanOrEqual((extent / 127) * 0.50001);
        }
      });
    }
  }

  it("brings a fifth of the squared error that requantising does into groups such as quantisers make", () => {
    const groups = 512;
    const scaleAndMin = new Float32Array(2 * groups);
    for (let g = 0; g < groups; g++) {
      scaleAndMin[2 * g] = 0.01 * (1 + Math.sin(g) / 2);
      scaleAndMin[2 * g + 1] = -scaleAndMin[2 * g]! * (7.5 + 3 * Math.sin(7 * g)); // zero lies within the codes
    }
    const halves = new Uint16Array(2 * groups);
    float32ToFloat16(scaleAndMin, halves);
    const bytes = Uint8Array.from({ length: 20 * groups }, (_, i) => (Math.imul(i, 0x9e3779b1) >>> 24) & 255);
    for (let g = 0; g < groups; g++) bytes.set(new Uint8Array(halves.buffer, 4 * g, 4), 20 * g);
    const values = new Float32Array(32 * groups);
    dequantize("Q4_1", bytes, values);

    const layout: NBitsLayout = { bits: 8, block_size: 32 };
    const { data, scales, back } = repacked("Q4_1", bytes, groups, 32, layout);
    const requantised = new Float32Array(values.length);
    quantizeRows(values, groups, 32, layout, data, scales);
    dequantizeRows(data, scales, groups, 32, layout, requantised);
    const error = (a: Float32Array) => values.reduce((sum, value, i) => sum + (value - a[i]!) ** 2, 0);
    expect(error(back)).toBeLessThan(0.2 * error(requantised));
  });

  it("keeps a group of equal values, whose scale is 0", () => {
    const bytes = new Uint8Array(20).fill(0x7b);
    bytes.set([0, 0, 0x00, 0xbe]); // d = 0, m = -1.5
    const { back } = repacked("Q4_1", bytes, 1, 32, { bits: 8, block_size: 32 });
    for (const value of back) expect(value).toBeCloseTo(-1.5, 6);
  });
});

describe("repack by way of float32", () => {
  it("equals quantising the dequantised values, row by row", () => {
    for (const { dtype, bytes, values } of blocks) {
      for (const layout of layouts.filter((layout) => layout.block_size >= 64)) {
        const N = 2;
        const K = values.length / N;
        const { data, scales } = repacked(dtype, bytes, N, K, layout);
        const expected = new Uint8Array(data.length);
        const expectedScales = new Float32Array(scales.length);
        quantizeRows(values, N, K, layout, expected, expectedScales);
        expect(data).toEqual(expected);
        expect(scales).toEqual(expectedScales);
      }
    }
  });

  it("takes plain dtypes, any K, and more rows than fit its scratch space", () => {
    const [N, K] = [1000, 20];
    const values = Float32Array.from({ length: N * K }, (_, i) => Math.sin(i) * (1 + (i % 7)));
    const halves = new Uint16Array(N * K);
    float32ToBfloat16(values, halves);
    const bytes = new Uint8Array(halves.buffer);
    dequantize("BF16", bytes, values);
    for (const layout of layouts) {
      const { data, scales } = repacked("BF16", bytes, N, K, layout);
      const expected = new Uint8Array(data.length);
      const expectedScales = new Float32Array(scales.length);
      quantizeRows(values, N, K, layout, expected, expectedScales);
      expect(data).toEqual(expected);
      expect(scales).toEqual(expectedScales);
    }
  });
});

describe("repack refuses", () => {
  const layout: NBitsLayout = { bits: 8, block_size: 32 };

  it("rows that are not whole blocks, and other sizes than it was told", () => {
    expect(() => repacked("Q8_0", new Uint8Array(68), 2, 16, layout)).toThrow(CheckpointError);
    expect(() => repacked("Q8_0", new Uint8Array(68), 1, 32, layout)).toThrow(/expected 34 bytes, got 68/);
    expect(() =>
      repack("Q8_0", new Uint8Array(34), 1, 32, layout, new Uint8Array(33), new Float32Array(1)),
    ).toThrow(/expected 32 elements of data, got 33/);
  });

  it("scales that are not finite", () => {
    for (const dtype of ["Q8_0", "Q4_1"] as const) {
      const bytes = new Uint8Array(BLOCK_FORMATS[dtype].blockBytes).fill(1);
      bytes.set([0x00, 0x7c]); // infinity
      expect(() => repacked(dtype, bytes, 1, 32, layout)).toThrow(CheckpointError);
    }
  });
});

function groupsOf(dtype: keyof typeof BLOCK_FORMATS, bytes: Uint8Array) {
  const format = BLOCK_FORMATS[dtype];
  const count = bytes.length / format.blockBytes;
  const groups = (count * format.blockElements) / format.group;
  const target = {
    codes: new Uint8Array(count * format.blockElements),
    codesAt: 0,
    scales: new Float32Array(groups),
    mins: new Float32Array(groups),
  };
  format.unpack(bytes, 0, count, 0, target);
  return target;
}
