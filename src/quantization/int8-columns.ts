/**
 * 8-bit weights for many rows of inputs, as MatMulIntegerToFloat takes them:
 *
 *     codes   int8    [K, N]   the transpose of PyTorch's weight
 *     scales  float32 [N]
 *     value = scale · code
 */
import { CheckpointError } from "../errors.ts";

/**
 * The largest code. Processors without dot-product instructions add two products, of an input's byte and a weight's, in
 * 16 bits: up to here that is exact unless two neighbouring inputs are both extreme. On EmbeddingGemma (AVX2) vectors
 * came nearer to float32's than with 127, whose sums overflow, and with 63, which is always exact.
 */
export const LARGEST_CODE = 85;

/** Scales stay normal numbers. */
const SMALLEST_SCALE = 2 ** -126;

/** Quantises rows first, first + 1, .. of N, `values` [rows, K], into their columns of `codes` [K, N] and `scales` [N]. */
export function quantizeColumns(
  values: Float32Array,
  first: number,
  [N, K]: readonly [number, number],
  codes: Int8Array,
  scales: Float32Array,
): void {
  const rows = values.length / K;
  for (let row = 0; row < rows; row++) {
    let largest = 0;
    for (let i = row * K; i < (row + 1) * K; i++) largest = Math.max(largest, Math.abs(values[i]!));
    if (!(largest < Number.POSITIVE_INFINITY))
      throw new CheckpointError(`row ${first + row} of a weight holds ${largest}: cannot be quantised`);
    const scale = Math.max(Math.fround(largest / LARGEST_CODE), SMALLEST_SCALE);
    scales[first + row] = scale;
    for (let k = 0; k < K; k++) codes[k * N + first + row] = Math.round(values[row * K + k]! / scale);
  }
}
