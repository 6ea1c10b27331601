import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { CheckpointError } from "../errors.ts";
import { readFixture } from "./fixture.ts";
import {
  bfloat16ToFloat32,
  float16ToFloat32,
  float32ToBfloat16,
  float32ToFloat16,
  halfTable,
} from "./half.ts";

/** IEEE 754 read literally. */
function halfValue(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >>> 10) & 31;
  const mantissa = bits & 0x3ff;
  if (exponent === 31) return mantissa === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  return exponent === 0 ? sign * mantissa * 2 ** -24 : sign * (1024 + mantissa) * 2 ** (exponent - 25);
}

const everyPattern = Uint16Array.from({ length: 65536 }, (_, bits) => bits);
const { halves } = readFixture();

describe("float16", () => {
  it("has the value that IEEE 754 gives each of its 65,536 patterns", () => {
    const values = new Float32Array(65536);
    float16ToFloat32(everyPattern, values);
    expect(everyPattern.findIndex((bits) => !Object.is(values[bits], halfValue(bits)))).toBe(-1);
    expect(Object.is(halfTable()[0x8000], -0)).toBe(true);
  });

  it("rounds as numpy does, ties, subnormals and overflow included", () => {
    const rounded = new Uint16Array(halves.float16.length);
    float32ToFloat16(halves.float32, rounded);
    const isNan = (bits: number) => (bits & 0x7fff) > 0x7c00;
    const wrong = rounded.findIndex((bits, i) => bits !== halves.float16[i] && !isNan(halves.float16[i]!));
    expect(wrong).toBe(-1);
    expect(rounded.every((bits, i) => isNan(bits) === isNan(halves.float16[i]!))).toBe(true);
  });

  it("comes back unchanged from float32", () => {
    const values = new Float32Array(65536);
    const back = new Uint16Array(65536);
    float16ToFloat32(everyPattern, values);
    float32ToFloat16(values, back);
    // Signalling NaNs may come back quiet.
    const wrong = back.findIndex((bits, i) => bits !== i && !Number.isNaN(halfValue(i)));
    expect(wrong).toBe(-1);
    expect(back.every((bits, i) => Number.isNaN(halfValue(bits)) === Number.isNaN(halfValue(i)))).toBe(true);
  });
});

describe("bfloat16", () => {
  it("comes back unchanged from float32", () => {
    const values = new Float32Array(65536);
    const back = new Uint16Array(65536);
    bfloat16ToFloat32(everyPattern, values);
    float32ToBfloat16(values, back);
    const isNan = (bits: number) => (bits & 0x7fff) > 0x7f80;
    expect(back.findIndex((bits, i) => bits !== (isNan(i) ? i | 0x40 : i))).toBe(-1);
  });

  it("rounds as ggml does, NaN included", () => {
    const rounded = new Uint16Array(halves.bfloat16.length);
    float32ToBfloat16(halves.float32, rounded);
    expect(rounded).toEqual(halves.bfloat16);
  });
});

describe("sources", () => {
  it("may be bytes at odd addresses", () => {
    fc.assert(
      fc.property(fc.uint16Array({ maxLength: 40 }), fc.integer({ min: 0, max: 3 }), (patterns, shift) => {
        const bytes = new Uint8Array(patterns.byteLength + shift).subarray(shift);
        bytes.set(new Uint8Array(patterns.buffer, patterns.byteOffset, patterns.byteLength));
        for (const convert of [float16ToFloat32, bfloat16ToFloat32]) {
          const [a, b] = [new Float32Array(patterns.length), new Float32Array(patterns.length)];
          convert(patterns, a);
          convert(bytes, b);
          expect(new Uint32Array(b.buffer)).toEqual(new Uint32Array(a.buffer));
        }
      }),
    );
  });

  it("must have the target's length", () => {
    expect(() => float16ToFloat32(new Uint8Array(5), new Float32Array(2))).toThrow(CheckpointError);
    expect(() => float32ToFloat16(new Float32Array(3), new Uint16Array(2))).toThrow(/expected 2, got 3/);
  });
});
