/**
 * From a checkpoint's bytes to MatMulNBits weights: an exact re-layout of integers where the formats allow it,
 * for formats with minima an integer re-layout whose only error is a constant per group, else requantisation.
 */

import type { CheckpointDtype } from "../checkpoints/checkpoint.ts";
import { CheckpointError } from "../errors.ts";
import { type BlockFormat, blockFormat, type UnpackTarget } from "./block-codes.ts";
import { byteLength, dequantize } from "./gguf-blocks.ts";
import { type NBitsLayout, quantizeBlock8, quantizeRows, requireSizes } from "./matmul-nbits.ts";

/** A layout, and whether it holds a format's values bit for bit. */
export interface PreferredLayout extends NBitsLayout {
  readonly exact: boolean;
}

/** The smallest layout that keeps the values of `dtype` (nearly, if not `exact`); undefined for plain dtypes. */
export function layoutOf(dtype: CheckpointDtype): PreferredLayout | undefined {
  const format = blockFormat(dtype);
  if (format === undefined) return undefined;
  const block_size = format.group === 16 ? 16 : 32;
  const bits = !format.affine && format.top <= 15 ? 4 : 8;
  return { bits, block_size, exact: !format.affine };
}

/** Whether `repack` from `dtype` to `layout` keeps every value bit for bit. */
export function isExact(dtype: CheckpointDtype, layout: NBitsLayout): boolean {
  const format = blockFormat(dtype);
  return format !== undefined && !format.affine && holdsCodes(format, layout);
}

/** Converts N rows of K elements of any dtype; `data` and `scales` are views of exactly N rows. */
export function repack(
  dtype: CheckpointDtype,
  bytes: Uint8Array,
  N: number,
  K: number,
  layout: NBitsLayout,
  data: Uint8Array,
  scales: Float32Array,
): void {
  requireSizes(N, K, layout, data, scales);
  const expected = N * byteLength(dtype, K);
  if (bytes.length !== expected) {
    throw new CheckpointError(`${dtype} [${N}, ${K}]: expected ${expected} bytes, got ${bytes.length}`);
  }
  const format = blockFormat(dtype);
  if (format !== undefined && holdsCodes(format, layout))
    relayout(format, bytes, N * K, layout, data, scales);
  else requantize(dtype, bytes, N, K, layout, data, scales);
}

/** Whether the codes of `format` fit `layout` and no block of it spans two groups. */
function holdsCodes(format: BlockFormat, { bits, block_size }: NBitsLayout): boolean {
  if (block_size > format.group) return false;
  return bits === 8 || (!format.affine && format.zero <= 8 && format.top - format.zero <= 7);
}

/** Elements of a run: see RUN of gguf-blocks.ts. */
const RUN = 4096;
const runCodes = new Uint8Array(RUN);
const runScales = new Float32Array(RUN / 16);
const runMins = new Float32Array(RUN / 16);

/** Whole rows are whole source blocks and those whole target blocks, so that rows need no separate treatment. */
function relayout(
  format: BlockFormat,
  bytes: Uint8Array,
  elements: number,
  { bits, block_size }: NBitsLayout,
  data: Uint8Array,
  scales: Float32Array,
): void {
  const bias = format.affine ? 0 : 2 ** (bits - 1) - format.zero;
  const copies = format.group / block_size;
  for (let at = 0; at < elements; at += RUN) {
    const count = Math.min(RUN, elements - at);
    const blocks = count / format.blockElements;
    const start = (at / format.blockElements) * format.blockBytes;
    // 8-bit codes have their final place and, from symmetric formats, their final value.
    const target: UnpackTarget = {
      codes: bits === 8 ? data : runCodes,
      codesAt: bits === 8 ? at : 0,
      scales: runScales,
      mins: runMins,
    };
    format.unpack(bytes, start, blocks, bias, target);
    if (format.affine) recodeAffine(format, data, at, count);
    if (bits === 4) packNibbles(runCodes, count, data, at / 2);
    spreadScales(count / format.group, copies, scales, at / block_size);
  }
}

function packNibbles(codes: Uint8Array, count: number, data: Uint8Array, to: number): void {
  for (let i = 0, byte = to; i < count; i += 2, byte++) data[byte] = codes[i]! | (codes[i + 1]! << 4);
}

/** Gives each of the blocks that a group became the group's scale. */
function spreadScales(groups: number, copies: number, scales: Float32Array, to: number): void {
  let at = to;
  for (let group = 0; group < groups; group++) {
    const scale = runScales[group]!;
    if (!Number.isFinite(scale)) throw new CheckpointError(`a scale of the weights is ${scale}`);
    for (let copy = 0; copy < copies; copy++) scales[at++] = scale;
  }
}

const groupValues = new Float32Array(32);

/**
 * Makes codes q of `scale · q − min` symmetric. With a fraction p/k near min/scale,
 *
 *     scale · q − min ≈ (scale / k) · (k · q − p)
 *
 * which is one byte minus 128 as long as k is not too large. Among those k one nearly always brings the constant
 * error, |min − scale · p/k|, far under that of rounding each value to 8 bits; where none does, values are rounded.
 */
function recodeAffine({ group, top }: BlockFormat, data: Uint8Array, at: number, count: number): void {
  for (let from = at, g = 0; from < at + count; from += group, g++) {
    const scale = runScales[g]!;
    const min = runMins[g]!;
    const ratio = min / scale;
    const factor = nearestFraction(ratio, top);
    const offset = Math.round(ratio * factor);
    const step = Math.max(Math.abs(min), Math.abs(scale * top - min)) / 127;
    // The root mean square of a rounding error is step / √12.
    if (Math.abs(min - (scale * offset) / factor) <= step * 0.288) {
      const shifted = 128 - offset;
      for (let i = from; i < from + group; i++) data[i] = factor * data[i]! + shifted;
      runScales[g] = scale / factor;
    } else {
      for (let i = 0; i < group; i++) groupValues[i] = Math.fround(scale * data[from + i]!) - min;
      runScales[g] = quantizeBlock8(groupValues, 0, group, data, from);
    }
  }
}

/** The k with the least |ratio − p/k| for which all of k · q − p, q up to `top`, are 8-bit; 0 if there is none. */
function nearestFraction(ratio: number, top: number): number {
  let best = 0;
  let bestError = Number.POSITIVE_INFINITY;
  for (let k = 1; ; k++) {
    const p = Math.round(ratio * k);
    // Negated, because ratio is NaN or infinite where scale is 0.
    if (!(p <= 128 && k * top - p <= 127)) return best;
    const error = Math.abs(ratio - p / k);
    if (error < bestError) {
      best = k;
      bestError = error;
    }
  }
}

/** Rows go through float32 in runs, so that a large matrix needs no float32 copy of itself. */
function requantize(
  dtype: CheckpointDtype,
  bytes: Uint8Array,
  N: number,
  K: number,
  layout: NBitsLayout,
  data: Uint8Array,
  scales: Float32Array,
): void {
  if (N === 0) return;
  const rows = Math.max(1, Math.min(N, Math.floor((4 * RUN) / K)));
  const values = new Float32Array(rows * K);
  for (let row = 0; row < N; row += rows) {
    const count = Math.min(rows, N - row);
    const part = <T extends { length: number; subarray(a: number, b: number): T }>(array: T): T =>
      array.subarray((array.length / N) * row, (array.length / N) * (row + count));
    const run = values.subarray(0, count * K);
    dequantize(dtype, part(bytes), run);
    quantizeRows(run, count, K, layout, part(data), part(scales));
  }
}
