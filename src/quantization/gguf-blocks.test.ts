import { describe, expect, it } from "vitest";
import type { CheckpointDtype } from "../checkpoints/checkpoint.ts";
import { CheckpointError } from "../errors.ts";
import { readFixture } from "./fixture.ts";
import { BLOCK_GEOMETRY, byteLength, dequantize, elementCount } from "./gguf-blocks.ts";

const bitsOf = (values: Float32Array) => new Uint32Array(values.buffer, values.byteOffset, values.length);

describe("dequantize", () => {
  for (const { dtype, bytes, values } of readFixture().blocks) {
    it(`reads ${dtype} bit for bit as the reference does`, () => {
      const out = new Float32Array(values.length);
      dequantize(dtype, bytes, out);
      expect(bitsOf(out)).toEqual(bitsOf(values));
    });

    it(`reads ${dtype} in runs longer than its scratch space, at any address and block by block`, () => {
      const copies = 9;
      const long = new Uint8Array(copies * bytes.length + 1).subarray(1);
      for (let i = 0; i < copies; i++) long.set(bytes, i * bytes.length);
      const out = new Float32Array(copies * values.length);
      dequantize(dtype, long, out);
      for (let i = 0; i < copies; i++) {
        expect(bitsOf(out.subarray(i * values.length, (i + 1) * values.length))).toEqual(bitsOf(values));
      }
      const { blockBytes, blockElements } = BLOCK_GEOMETRY[dtype];
      const third = out.subarray(0, blockElements);
      dequantize(dtype, bytes.subarray(2 * blockBytes, 3 * blockBytes), third);
      expect(bitsOf(third)).toEqual(bitsOf(values.subarray(2 * blockElements, 3 * blockElements)));
    });
  }

  const plain: [CheckpointDtype, ArrayBufferView, number[]][] = [
    ["F64", Float64Array.of(0.1, -1e300, 2), [Math.fround(0.1), Number.NEGATIVE_INFINITY, 2]],
    ["F32", Float32Array.of(0.1, -0, 1e-45), [Math.fround(0.1), -0, Math.fround(1e-45)]],
    ["F16", Uint16Array.of(0x3c00, 0xfc00, 0x0001), [1, Number.NEGATIVE_INFINITY, 2 ** -24]],
    ["BF16", Uint16Array.of(0x3f80, 0xff80, 0x0001), [1, Number.NEGATIVE_INFINITY, 2 ** -133]],
    ["I64", BigInt64Array.of(-1n, 2n ** 40n), [-1, 2 ** 40]],
    ["I32", Int32Array.of(-5, 16777217), [-5, 16777216]],
    ["I16", Int16Array.of(-32768, 7), [-32768, 7]],
    ["I8", Int8Array.of(-128, 127), [-128, 127]],
    ["U8", Uint8Array.of(255, 0), [255, 0]],
    ["BOOL", Uint8Array.of(1, 0), [1, 0]],
  ];
  it.each(plain)("reads %s at any address", (dtype, source, expected) => {
    const bytes = new Uint8Array(source.byteLength + 1).subarray(1);
    bytes.set(new Uint8Array(source.buffer, source.byteOffset, source.byteLength));
    const out = new Float32Array(expected.length);
    dequantize(dtype, bytes, out);
    expect([...out]).toEqual(expected);
  });

  it("refuses parts of blocks and targets of another size", () => {
    expect(() => dequantize("Q4_K", new Uint8Array(143), new Float32Array(256))).toThrow(CheckpointError);
    expect(() => dequantize("F32", new Uint8Array(7), new Float32Array(1))).toThrow(/4 bytes, got 7 bytes/);
    expect(() => dequantize("Q8_0", new Uint8Array(34), new Float32Array(31))).toThrow(/32 elements, got 31/);
  });
});

describe("byteLength and elementCount", () => {
  it("are inverse", () => {
    for (const dtype of Object.keys(BLOCK_GEOMETRY) as CheckpointDtype[]) {
      expect(elementCount(dtype, byteLength(dtype, 512))).toBe(512);
    }
    expect(byteLength("Q6_K", 512)).toBe(420);
  });

  it("refuse parts of blocks", () => {
    expect(() => byteLength("Q5_0", 40)).toThrow(CheckpointError);
    expect(() => byteLength("F32", 0.5)).toThrow(CheckpointError);
    expect(() => elementCount("Q6_K", 211)).toThrow(/blocks of 210 bytes, got 211 bytes/);
  });
});
