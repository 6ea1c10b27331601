/** Tensors as they lie in checkpoints, made float32: geometry of every dtype, and dequantisation. */

import type { CheckpointDtype } from "../checkpoints/checkpoint.ts";
import { CheckpointError } from "../errors.ts";
import { BLOCK_FORMATS, type BlockFormat, blockFormat } from "./block-codes.ts";
import { bfloat16ToFloat32, float16ToFloat32 } from "./half.ts";

/** Elements and bytes of the smallest unit of a dtype that can be read alone. */
export interface BlockGeometry {
  readonly blockElements: number;
  readonly blockBytes: number;
}

/** Geometry of every checkpoint dtype; one element is its own block in the plain formats. */
export const BLOCK_GEOMETRY: Readonly<Record<CheckpointDtype, BlockGeometry>> = {
  F64: { blockElements: 1, blockBytes: 8 },
  F32: { blockElements: 1, blockBytes: 4 },
  F16: { blockElements: 1, blockBytes: 2 },
  BF16: { blockElements: 1, blockBytes: 2 },
  I64: { blockElements: 1, blockBytes: 8 },
  I32: { blockElements: 1, blockBytes: 4 },
  I16: { blockElements: 1, blockBytes: 2 },
  I8: { blockElements: 1, blockBytes: 1 },
  U8: { blockElements: 1, blockBytes: 1 },
  BOOL: { blockElements: 1, blockBytes: 1 },
  ...BLOCK_FORMATS,
};

/** Bytes that `elements` elements of `dtype` take. Throws where that is no whole number of blocks. */
export function byteLength(dtype: CheckpointDtype, elements: number): number {
  const { blockElements, blockBytes } = BLOCK_GEOMETRY[dtype];
  if (!Number.isInteger(elements / blockElements) || elements < 0) {
    throw new CheckpointError(
      `${dtype}: expected a whole number of blocks of ${blockElements} elements, got ${elements} elements`,
    );
  }
  return (elements / blockElements) * blockBytes;
}

/** Elements that `bytes` bytes of `dtype` hold. Throws where that is no whole number of blocks. */
export function elementCount(dtype: CheckpointDtype, bytes: number): number {
  const { blockElements, blockBytes } = BLOCK_GEOMETRY[dtype];
  if (!Number.isInteger(bytes / blockBytes)) {
    throw new CheckpointError(
      `${dtype}: expected a whole number of blocks of ${blockBytes} bytes, got ${bytes} bytes`,
    );
  }
  return (bytes / blockBytes) * blockElements;
}

/** Writes the float32 values of `bytes` to `out`, rounded in the places where GGML's reference rounds. */
export function dequantize(dtype: CheckpointDtype, bytes: Uint8Array, out: Float32Array): void {
  const elements = elementCount(dtype, bytes.length);
  if (elements !== out.length) {
    throw new CheckpointError(`${dtype}: expected room for ${elements} elements, got ${out.length}`);
  }
  const format = blockFormat(dtype);
  if (format !== undefined) dequantizeBlocks(format, bytes, out);
  else if (dtype === "F16") float16ToFloat32(bytes, out);
  else if (dtype === "BF16") bfloat16ToFloat32(bytes, out);
  // Byte for byte, so that NaN payloads survive.
  else if (dtype === "F32") new Uint8Array(out.buffer, out.byteOffset, out.byteLength).set(bytes);
  else if (dtype === "I64") widenBigInts(bytes, out);
  else out.set(plainView(dtype, bytes));
}

/** Blocks are taken apart in runs of this many elements: the codes of a run stay in the first-level cache. */
const RUN = 4096;
const run = {
  codes: new Uint8Array(RUN),
  codesAt: 0,
  scales: new Float32Array(RUN / 16),
  mins: new Float32Array(RUN / 16),
};

function dequantizeBlocks(format: BlockFormat, bytes: Uint8Array, out: Float32Array): void {
  const { blockElements, blockBytes, group, zero, affine } = format;
  const { codes, scales, mins } = run;
  for (let at = 0; at < out.length; at += RUN) {
    const elements = Math.min(RUN, out.length - at);
    format.unpack(bytes, (at / blockElements) * blockBytes, elements / blockElements, 0, run);
    for (let from = 0, g = 0; from < elements; from += group, g++) {
      const scale = scales[g]!;
      const to = at + from;
      if (affine) {
        const min = mins[g]!;
        for (let j = 0; j < group; j++) out[to + j] = Math.fround(scale * codes[from + j]!) - min;
      } else {
        for (let j = 0; j < group; j++) out[to + j] = scale * (codes[from + j]! - zero);
      }
    }
  }
}

function plainView(
  dtype: CheckpointDtype,
  bytes: Uint8Array,
): Float64Array | Int32Array | Int16Array | Int8Array | Uint8Array {
  const width = BLOCK_GEOMETRY[dtype].blockBytes;
  const { buffer, byteOffset, length } = bytes.byteOffset % width === 0 ? bytes : new Uint8Array(bytes);
  if (dtype === "F64") return new Float64Array(buffer, byteOffset, length / width);
  if (dtype === "I32") return new Int32Array(buffer, byteOffset, length / width);
  if (dtype === "I16") return new Int16Array(buffer, byteOffset, length / width);
  if (dtype === "I8") return new Int8Array(buffer, byteOffset, length);
  return bytes;
}

/** Whole numbers beyond 2^53 round twice, to float64 and then to float32; no weight is that large. */
function widenBigInts(bytes: Uint8Array, out: Float32Array): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let i = 0; i < out.length; i++) out[i] = Number(view.getBigInt64(8 * i, true));
}
