/**
 * The layout of MatMulNBits (and GatherBlockQuantized) weights, symmetric:
 *
 *     data    uint8   [N, ceil(K / block_size), block_size · bits / 8]   element 2i of a block in the low nibble
 *     scales  float32 [N, ceil(K / block_size)]
 *     value = scale · (code − 2^(bits − 1))                              no zero_points tensor
 *
 * A last block that K does not fill is padded with codes that stand for 0.
 */

import { CheckpointError } from "../errors.ts";

/** Bits of a code and elements that share a scale. */
export interface NBitsLayout {
  readonly bits: 4 | 8;
  readonly block_size: 16 | 32 | 64 | 128;
}

/** Blocks of a row of K elements; a matrix has N times as many scales. */
export function blocksPerRow(K: number, layout: NBitsLayout): number {
  return Math.ceil(K / layout.block_size);
}

/** Bytes of a row's codes. */
export function rowBytes(K: number, layout: NBitsLayout): number {
  return blocksPerRow(K, layout) * ((layout.block_size * layout.bits) / 8);
}

/** Quantises N rows of K values, row-major. Nearest codes; for 4 bits the scale with the least squared error. */
export function quantizeRows(
  values: Float32Array,
  N: number,
  K: number,
  layout: NBitsLayout,
  data: Uint8Array,
  scales: Float32Array,
): void {
  requireSizes(N, K, layout, data, scales);
  requireLength("values", values.length, N * K);
  const { block_size, bits } = layout;
  const blocks = blocksPerRow(K, layout);
  const bytes = (block_size * bits) / 8;
  const quantizeBlock = bits === 8 ? quantizeBlock8 : quantizeBlock4;
  for (let row = 0; row < N; row++) {
    for (let block = 0; block < blocks; block++) {
      const from = row * K + block * block_size;
      const count = Math.min(block_size, K - block * block_size);
      const at = row * blocks + block;
      scales[at] = quantizeBlock(values, from, count, data, at * bytes);
      if (count < block_size) padBlock(data, at * bytes, count, layout);
    }
  }
}

/** Writes the float32 values of N quantised rows to `out` [N, K]. */
export function dequantizeRows(
  data: Uint8Array,
  scales: Float32Array,
  N: number,
  K: number,
  layout: NBitsLayout,
  out: Float32Array,
): void {
  requireSizes(N, K, layout, data, scales);
  requireLength("out", out.length, N * K);
  const { block_size, bits } = layout;
  const blocks = blocksPerRow(K, layout);
  const bytes = (block_size * bits) / 8;
  for (let row = 0; row < N; row++) {
    for (let block = 0; block < blocks; block++) {
      const to = row * K + block * block_size;
      const count = Math.min(block_size, K - block * block_size);
      const at = row * blocks + block;
      const scale = scales[at]!;
      const from = at * bytes;
      if (bits === 8) {
        for (let i = 0; i < count; i++) out[to + i] = scale * (data[from + i]! - 128);
      } else {
        for (let i = 0; i < count; i++) {
          out[to + i] = scale * (((data[from + (i >> 1)]! >>> (4 * (i & 1))) & 15) - 8);
        }
      }
    }
  }
}

/** Writes `count` 8-bit codes at `data[at]` and returns their scale: the largest magnitude becomes 127. */
export function quantizeBlock8(
  values: Float32Array,
  from: number,
  count: number,
  data: Uint8Array,
  at: number,
): number {
  let largest = 0;
  for (let i = 0; i < count; i++) largest = Math.max(largest, Math.abs(values[from + i]!));
  if (largest === 0) {
    data.fill(128, at, at + count);
    return 0;
  }
  requireFinite(largest, from);
  const scale = Math.max(Math.fround(largest / 127), SMALLEST_SCALE);
  const inverse = 1 / scale;
  for (let i = 0; i < count; i++) data[at + i] = values[from + i]! * inverse + 128.5;
  return scale;
}

/** Scales stay normal numbers: subnormal ones are coarse, and engines may take them for 0. */
const SMALLEST_SCALE = 2 ** -126;

/**
 * What the element of largest magnitude becomes, in steps of the scale and before rounding, while the scale is
 * searched: from clipping nothing to clipping that element for the sake of the others. Chosen on real and random
 * weights: for blocks of 32 the squared error is 1 % over that of a hundred candidates, and 11 % under that of the
 * plain rule, scale = -extreme / 8.
 */
const CANDIDATES: readonly number[] = [7, 7.5, 8, 8.5, 9, 9.8];

/** Adding and subtracting 1.5 · 2^52 rounds a float64 to a whole number, faster than Math.round. */
const ROUNDER = 1.5 * 2 ** 52;

/** The code nearest to `steps`, as a number from -8 to 7. */
function nearestCode4(steps: number): number {
  const code = steps + ROUNDER - ROUNDER;
  if (code > 7) return 7;
  if (code < -8) return -8;
  return code;
}

const block4 = { values: new Float64Array(128), codes: new Uint8Array(128) };

/** Writes `count` 4-bit codes at `data[at]` and returns the scale, of those tried, with the least squared error. */
function quantizeBlock4(
  values: Float32Array,
  from: number,
  count: number,
  data: Uint8Array,
  at: number,
): number {
  const { values: block, codes } = block4;
  let extreme = 0;
  let largest = 0;
  for (let i = 0; i < count; i++) {
    const value = values[from + i]!;
    block[i] = value;
    const magnitude = Math.abs(value);
    if (magnitude > Math.abs(extreme)) extreme = value;
    largest = Math.max(largest, magnitude);
  }
  codes.fill(8, 0, count + 1);
  let scale = 0;
  if (largest !== 0) {
    requireFinite(largest, from);
    scale = searchScale(block, count, extreme);
    const inverse = 1 / scale;
    for (let i = 0; i < count; i++) codes[i] = nearestCode4(block[i]! * inverse) + 8;
  }
  for (let i = 0; i < count; i += 2) data[at + (i >> 1)] = codes[i]! | (codes[i + 1]! << 4);
  return scale;
}

/** For each candidate the codes are fixed first, then the scale that suits them best: Σvc / Σc². */
function searchScale(block: Float64Array, count: number, extreme: number): number {
  let best = 0;
  let bestGain = -1;
  for (const candidate of CANDIDATES) {
    const inverse = -candidate / extreme;
    let dot = 0;
    let square = 0;
    for (let i = 0; i < count; i++) {
      const value = block[i]!;
      const code = nearestCode4(value * inverse);
      dot += value * code;
      square += code * code;
    }
    // The squared error is Σv² − (Σvc)² / Σc².
    const gain = (dot * dot) / square;
    if (gain > bestGain) {
      bestGain = gain;
      best = dot / square;
    }
  }
  const scale = Math.fround(best);
  return Math.abs(scale) < SMALLEST_SCALE ? SMALLEST_SCALE : scale;
}

function padBlock(data: Uint8Array, at: number, count: number, { bits, block_size }: NBitsLayout): void {
  if (bits === 8) data.fill(128, at + count, at + block_size);
  else data.fill(0x88, at + ((count + 1) >> 1), at + block_size / 2);
}

/** Throws where `data` or `scales` have not the size of N rows of K elements. */
export function requireSizes(
  N: number,
  K: number,
  layout: NBitsLayout,
  data: Uint8Array,
  scales: Float32Array,
): void {
  requireLength("data", data.length, N * rowBytes(K, layout));
  requireLength("scales", scales.length, N * blocksPerRow(K, layout));
}

function requireLength(name: string, found: number, expected: number): void {
  if (found === expected) return;
  throw new CheckpointError(`MatMulNBits layout: expected ${expected} elements of ${name}, got ${found}`);
}

function requireFinite(largest: number, from: number): void {
  if (largest < Number.POSITIVE_INFINITY) return;
  throw new CheckpointError(
    `a block of weights from element ${from} on holds ${largest}: cannot be quantised`,
  );
}
