/**
 * A screen: a 4-bit copy of an 8-bit output layer, with a bound for each row on how far a score by the copy can be
 * from the layer's own. It is read in a third of the time and tells which few rows can matter.
 */
import { blocksPerRow, dequantizeRows, type NBitsLayout, quantizeRows, rowBytes } from "./matmul-nbits.ts";

/** The layout of the layer that is screened. */
export const SCREENED_LAYOUT: NBitsLayout = { bits: 8, block_size: 32 };
/** The layout of the screen. */
export const SCREEN_LAYOUT: NBitsLayout = { bits: 4, block_size: 32 };

/**
 * Weights of the parts of the error in its bound, by the inequality of Cauchy and Schwarz: inputs of refined columns
 * are large and their errors small, so that the former count little and the latter much; chosen on the 270M.
 */
const REFINED_WEIGHT = 0.04;
/** The same for inputs that two blocks round in two ways. */
const ROUNDING_WEIGHT = 10;

/** Roundings to float32 that a kernel may add up, beyond one for each block. */
const EXTRA_ROUNDINGS = 16;
/** Half a unit in the last place of 1. */
const EPSILON = 2 ** -24;
/** Codes up to 255 and the zero point's 128: what the terms of a kernel's sum are at most, in steps of the scale. */
const LARGEST_TERM = 384;

/** How many columns a screen of rows of K elements refines: whole blocks, about a tenth. */
export function refinedCount(K: number): number {
  return SCREEN_LAYOUT.block_size * Math.max(1, Math.round(K / (10 * SCREEN_LAYOUT.block_size)));
}

/** Elements of a row of the screen: all columns, then what is missing of the refined ones. */
export function screenWidth(K: number, refined: { readonly length: number }): number {
  return K + refined.length;
}

/** Where the rows of a screen are written: codes and scales in SCREEN_LAYOUT, and a bound for each row. */
export interface ScreenRows {
  readonly codes: Uint8Array;
  readonly scales: Float32Array;
  readonly bounds: Float32Array;
}

/** Makes the screen of N rows of K elements. `refined` names the columns that count most. */
export function screenRows(
  codes: Uint8Array,
  scales: Float32Array,
  N: number,
  K: number,
  refined: Int32Array,
  out: ScreenRows,
): void {
  const values = new Float32Array(N * K);
  dequantizeRows(codes, scales, N, K, SCREENED_LAYOUT, values);
  const coarse = encode(values, N, K);
  const rest = new Float32Array(N * refined.length);
  for (let row = 0; row < N; row++) {
    for (const [j, column] of refined.entries()) {
      const at = row * K + column;
      rest[row * refined.length + j] = values[at]! - coarse.values[at]!;
    }
  }
  const fine = encode(rest, N, refined.length);
  const isRefined = new Uint8Array(K);
  for (const column of refined) isRefined[column] = 1;
  const blocks = blocksPerRow(K, SCREENED_LAYOUT);
  for (let row = 0; row < N; row++) {
    putRow(out, row, coarse, fine);
    let squares = 0;
    for (let i = 0; i < K; i++) {
      const at = row * K + i;
      if (isRefined[i] === 0) squares += (values[at]! - coarse.values[at]!) ** 2;
    }
    for (let j = 0; j < refined.length; j++) {
      const at = row * refined.length + j;
      squares += (rest[at]! - fine.values[at]!) ** 2 / REFINED_WEIGHT;
      squares += fine.values[at]! ** 2 / ROUNDING_WEIGHT;
    }
    const largest = scales.subarray(row * blocks, (row + 1) * blocks).reduce((a, b) => Math.max(a, b), 0);
    // Sums in double precision and the float32 that is stored round by less than this.
    out.bounds[row] = (Math.sqrt(squares) + roundingBound(K, largest)) * (1 + 2 ** -20);
  }
}

/**
 * What a score's error is at most, as a multiple of its row's bound. `input` [K] is what the layer's kernel makes of
 * the hidden state, `fineInput` what the screen's makes of its refined elements.
 */
export function boundFactor(input: Float64Array, fineInput: Float64Array, refined: Int32Array): number {
  let squares = 0;
  for (let i = 0; i < input.length; i++) squares += input[i]! ** 2;
  let large = 0;
  let rounded = 0;
  for (let j = 0; j < refined.length; j++) {
    const value = input[refined[j]!]!;
    large += value ** 2;
    rounded += (value - fineInput[j]!) ** 2;
  }
  // Without the large ones; a difference that rounding made negative is none.
  const others = Math.max(0, squares - large) + squares * 2 ** -40;
  return Math.sqrt(others + REFINED_WEIGHT * large + ROUNDING_WEIGHT * rounded) * (1 + 2 ** -20);
}

/** Rounding of both kernels over |input|, which is at most the factor / √REFINED_WEIGHT. */
function roundingBound(K: number, largestScale: number): number {
  const width = screenWidth(K, { length: refinedCount(K) });
  const roundings = 2 * (blocksPerRow(width, SCREEN_LAYOUT) + EXTRA_ROUNDINGS) * EPSILON;
  return (roundings * LARGEST_TERM * largestScale * Math.sqrt(width)) / Math.sqrt(REFINED_WEIGHT);
}

interface Encoded {
  readonly codes: Uint8Array;
  readonly scales: Float32Array;
  /** What they stand for. */
  readonly values: Float32Array;
}

function encode(values: Float32Array, N: number, K: number): Encoded {
  const codes = new Uint8Array(N * rowBytes(K, SCREEN_LAYOUT));
  const scales = new Float32Array(N * blocksPerRow(K, SCREEN_LAYOUT));
  quantizeRows(values, N, K, SCREEN_LAYOUT, codes, scales);
  const decoded = new Float32Array(N * K);
  dequantizeRows(codes, scales, N, K, SCREEN_LAYOUT, decoded);
  return { codes, scales, values: decoded };
}

/** Both parts of a row side by side. */
function putRow(out: ScreenRows, row: number, coarse: Encoded, fine: Encoded): void {
  const N = out.bounds.length;
  for (const key of ["codes", "scales"] as const) {
    const [a, b] = [coarse[key].length / N, fine[key].length / N];
    out[key].set(coarse[key].subarray(row * a, (row + 1) * a), row * (a + b));
    out[key].set(fine[key].subarray(row * b, (row + 1) * b), row * (a + b) + a);
  }
}
