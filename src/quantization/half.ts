/**
 * The two 16-bit float formats of checkpoints. Sources may be raw bytes at any address (a tensor in a file
 * need not start at an even offset); every host that ONNX Runtime supports is little-endian, as the files are.
 */

import { CheckpointError } from "../errors.ts";

let halfBits: Uint32Array | undefined;
let halfValues: Float32Array | undefined;

/** float32 bit patterns of all 65,536 float16 values. Built on first use. */
function halfBitsTable(): Uint32Array {
  if (halfBits !== undefined) return halfBits;
  const bits = new Uint32Array(65536);
  const subnormal = new Float32Array(1);
  const subnormalBits = new Uint32Array(subnormal.buffer);
  for (let magnitude = 0; magnitude < 0x8000; magnitude++) {
    const exponent = magnitude >>> 10;
    const mantissa = magnitude & 0x3ff;
    let pattern = ((exponent + 112) << 23) | (mantissa << 13);
    if (exponent === 31) pattern = 0x7f800000 | (mantissa << 13);
    if (exponent === 0) {
      subnormal[0] = mantissa * 2 ** -24;
      pattern = subnormalBits[0]!;
    }
    bits[magnitude] = pattern;
    bits[magnitude | 0x8000] = pattern | 0x80000000;
  }
  halfBits = bits;
  return bits;
}

/** The value of every float16 bit pattern: `halfTable()[bits]`. */
export function halfTable(): Float32Array {
  halfValues ??= new Float32Array(halfBitsTable().buffer);
  return halfValues;
}

/** Writes float16 `source` (bit patterns, or their bytes) to `out` as float32. Exact. */
export function float16ToFloat32(source: Uint16Array | Uint8Array, out: Float32Array): void {
  const halves = words(source, out.length);
  // Copied as bits, because a float load may turn a signalling NaN into a quiet one.
  const target = bitsOf(out);
  const table = halfBitsTable();
  for (let i = 0; i < target.length; i++) target[i] = table[halves[i]!]!;
}

/** Writes bfloat16 `source` (bit patterns, or their bytes) to `out` as float32. Exact. */
export function bfloat16ToFloat32(source: Uint16Array | Uint8Array, out: Float32Array): void {
  const halves = words(source, out.length);
  const target = bitsOf(out);
  for (let i = 0; i < target.length; i++) target[i] = halves[i]! << 16;
}

/** Rounds `source` to float16 bit patterns: nearest, ties to even, infinity from 65,520 up. */
export function float32ToFloat16(source: Float32Array, out: Uint16Array): void {
  requireLength(source.length, out.length);
  const bits = bitsOf(source);
  for (let i = 0; i < bits.length; i++) {
    const pattern = bits[i]!;
    const sign = (pattern >>> 16) & 0x8000;
    const magnitude = pattern & 0x7fffffff;
    if (magnitude >= 0x47800000) {
      const nan = magnitude > 0x7f800000;
      out[i] = sign | 0x7c00 | (nan ? 0x200 | ((magnitude >>> 13) & 0x3ff) : 0);
    } else if (magnitude >= 0x38800000) {
      const rebased = magnitude - 0x38000000;
      // A carry out of the mantissa moves to the next exponent, and from the last one to infinity: both right.
      out[i] = sign | ((rebased + 0xfff + ((rebased >>> 13) & 1)) >>> 13);
    } else {
      out[i] = sign | subnormalHalf(magnitude);
    }
  }
}

/** Rounds `source` to bfloat16 bit patterns: nearest, ties to even. A NaN becomes quiet and keeps its upper bits. */
export function float32ToBfloat16(source: Float32Array, out: Uint16Array): void {
  requireLength(source.length, out.length);
  const bits = bitsOf(source);
  for (let i = 0; i < bits.length; i++) {
    const pattern = bits[i]!;
    const nan = (pattern & 0x7fffffff) > 0x7f800000;
    out[i] = nan ? (pattern >>> 16) | 0x40 : (pattern + 0x7fff + ((pattern >>> 16) & 1)) >>> 16;
  }
}

/** The float16 of a float32 magnitude under 2^-14, whose unit is 2^-24. */
function subnormalHalf(magnitude: number): number {
  if (magnitude <= 0x33000000) return 0; // up to 2^-25, which is a tie with 0
  const shift = 126 - (magnitude >>> 23);
  const mantissa = (magnitude & 0x7fffff) | 0x800000;
  const quotient = mantissa >>> shift;
  const rest = mantissa & ((1 << shift) - 1);
  const half = 1 << (shift - 1);
  return rest > half || (rest === half && (quotient & 1) === 1) ? quotient + 1 : quotient;
}

function bitsOf(values: Float32Array): Uint32Array {
  return new Uint32Array(values.buffer, values.byteOffset, values.length);
}

function words(source: Uint16Array | Uint8Array, length: number): Uint16Array {
  if (source instanceof Uint16Array) {
    requireLength(source.length, length);
    return source;
  }
  requireLength(source.length, 2 * length);
  const aligned = source.byteOffset % 2 === 0 ? source : new Uint8Array(source);
  return new Uint16Array(aligned.buffer, aligned.byteOffset, length);
}

function requireLength(found: number, expected: number): void {
  if (found === expected) return;
  throw new CheckpointError(
    `half conversion: source and target differ in length: expected ${expected}, got ${found}`,
  );
}
