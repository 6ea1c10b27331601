/**
 * torchao's weight-only formats, rounded where torch rounds. Both lie in MatMulNBits' layout (matmul-nbits.ts):
 *
 *     int4   value = (code − 8) · scale + zero    codes 0..15, scale and zero per group of a row
 *     int8   value = code · scale                 codes -128..127, scale per row
 */
import { CheckpointError } from "../errors.ts";
import { float16ToNumber, numberToFloat16 } from "../half.ts";
import { blocksPerRow, type NBitsLayout, rowBytes } from "./matmul-nbits.ts";

/** The arithmetic in which scales and codes are computed: that of the weights. */
export type Precision = "float32" | "float16" | "bfloat16";

/** Adding and subtracting it rounds a float64 to a whole number, ties to even. */
const ROUNDER = 1.5 * 2 ** 52;

/** The least scale of a group: torchao's `eps` for this layout, and of a row: float32's machine epsilon. */
const SMALLEST_GROUP_SCALE = 1e-6;
const SMALLEST_ROW_SCALE = 2 ** -23;

/** Codes and scales of groups fill the layout exactly: groups must divide rows. */
export const INT4_GROUPS: readonly number[] = [32, 64, 128, 256];

/** Rows of 8-bit codes, their scale repeated for every block of the layout. */
export const INT8_LAYOUT: NBitsLayout = { bits: 8, block_size: 32 };

const scratch = new Float32Array(1);
const scratchBits = new Uint32Array(scratch.buffer);

/** The nearest number of a format, as torch's arithmetic in that format gives it: by way of float32. */
const ROUND: Readonly<Record<Precision, (value: number) => number>> = {
  float32: Math.fround,
  float16: (value) => float16ToNumber(numberToFloat16(Math.fround(value))),
  bfloat16: (value) => {
    scratch[0] = value;
    const bits = scratchBits[0]!;
    scratchBits[0] = (bits + 0x7fff + ((bits >>> 16) & 1)) & 0xffff0000;
    return scratch[0]!;
  },
};

/** Quantises N rows of K values that are numbers of `precision`, in whose arithmetic torchao computes. */
export function quantizeInt4(
  values: Float32Array,
  N: number,
  K: number,
  group_size: number,
  precision: Precision,
  data: Uint8Array,
  scales: Float32Array,
  zeros: Float32Array,
): void {
  const groups = int4Groups(N, K, group_size);
  requireLength("values", values.length, N * K);
  requireLength("data", data.length, (N * K) / 2);
  requireLength("scales", scales.length, groups);
  requireLength("zeros", zeros.length, groups);
  const round = ROUND[precision];
  for (let group = 0; group < groups; group++) {
    const from = group * group_size;
    const [least, most] = range(values, from, group_size);
    const span = round(round(most - least) / 15);
    const scale = Math.max(span, round(SMALLEST_GROUP_SCALE));
    const zero = round(least + round(scale * 8));
    const origin = round(zero - round(scale * 8));
    scales[group] = scale;
    zeros[group] = zero;
    const code = (value: number): number =>
      Math.min(15, Math.max(0, round(round(value - origin) / scale) + ROUNDER - ROUNDER));
    for (let i = from; i < from + group_size; i += 2)
      data[i >> 1] = code(values[i]!) | (code(values[i + 1]!) << 4);
  }
}

/** Writes the values of N rows to `out` [N, K], rounded as torchao does in `precision`. */
export function dequantizeInt4(
  data: Uint8Array,
  scales: Float32Array,
  zeros: Float32Array,
  N: number,
  K: number,
  group_size: number,
  precision: Precision,
  out: Float32Array,
): void {
  requireLength("scales", scales.length, int4Groups(N, K, group_size));
  requireLength("zeros", zeros.length, scales.length);
  requireLength("data", data.length, (N * K) / 2);
  requireLength("out", out.length, N * K);
  const round = ROUND[precision];
  for (let i = 0; i < out.length; i++) {
    const group = Math.floor(i / group_size);
    const code = (data[i >> 1]! >>> (4 * (i & 1))) & 15;
    out[i] = round(round((code - 8) * scales[group]!) + zeros[group]!);
  }
}

/** Groups of N rows; throws where they do not fill the rows. */
function int4Groups(N: number, K: number, group_size: number): number {
  if (K % group_size === 0) return (N * K) / group_size;
  throw new CheckpointError(`int4: rows of ${K} are no whole number of groups of ${group_size}`);
}

function range(values: Float32Array, from: number, count: number): [number, number] {
  let [least, most] = [values[from]!, values[from]!];
  for (let i = from; i < from + count; i++) {
    least = Math.min(least, values[i]!);
    most = Math.max(most, values[i]!);
  }
  if (most - least < Number.POSITIVE_INFINITY) return [least, most];
  throw new CheckpointError(
    `a group of weights from element ${from} on reaches from ${least} to ${most}: cannot be quantised`,
  );
}

/** Quantises N rows of K values to INT8_LAYOUT. */
export function quantizeInt8Rows(
  values: Float32Array,
  N: number,
  K: number,
  precision: Precision,
  data: Uint8Array,
  scales: Float32Array,
): void {
  requireLength("values", values.length, N * K);
  const codes = new Int8Array(N * K);
  const rowScales = new Float32Array(N);
  for (let row = 0; row < N; row++) {
    const [least, most] = range(values, row * K, K);
    const largest = Math.max(-least, most, 0);
    const scale = Math.max(ROUND[precision](largest / 127.5), SMALLEST_ROW_SCALE);
    const inverse = Math.fround(1 / scale);
    rowScales[row] = scale;
    for (let i = row * K; i < (row + 1) * K; i++) {
      const code = Math.fround(values[i]! * inverse) + ROUNDER - ROUNDER;
      codes[i] = Math.min(127, Math.max(-128, code));
    }
  }
  layInt8Rows(codes, rowScales, N, K, data, scales);
}

/** Lays N rows of K signed codes out in INT8_LAYOUT, exactly. */
export function layInt8Rows(
  codes: Int8Array,
  rowScales: Float32Array,
  N: number,
  K: number,
  data: Uint8Array,
  scales: Float32Array,
): void {
  const [bytes, blocks] = [rowBytes(K, INT8_LAYOUT), blocksPerRow(K, INT8_LAYOUT)];
  requireLength("data", data.length, N * bytes);
  requireLength("scales", scales.length, N * blocks);
  data.fill(128);
  for (let row = 0; row < N; row++) {
    for (let i = 0; i < K; i++) data[row * bytes + i] = codes[row * K + i]! + 128;
    scales.fill(rowScales[row]!, row * blocks, (row + 1) * blocks);
  }
}

function requireLength(name: string, found: number, expected: number): void {
  if (found === expected) return;
  throw new CheckpointError(`torchao layout: expected ${expected} elements of ${name}, got ${found}`);
}
