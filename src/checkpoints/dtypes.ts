import { BLOCK_GEOMETRY } from "../quantization/gguf-blocks.ts";
import type { CheckpointDtype } from "./checkpoint.ts";
import { excerpt } from "./strict-json.ts";

/** No tensor of ours has more; it keeps messages and memory small for a hostile header. */
const MAX_AXES = 16;

const safetensorsDtypes = ["F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U8", "BOOL"] as const;

/** The dtypes that a safetensors file may hold here. */
export type SafetensorsDtype = (typeof safetensorsDtypes)[number];

export function isSafetensorsDtype(dtype: unknown): dtype is SafetensorsDtype {
  return (safetensorsDtypes as readonly unknown[]).includes(dtype);
}

/**
 * Bytes of a tensor, or why `shape` (from a file, so anything) can't be one's. No exception: the caller knows file
 * and tensor and says so.
 */
export function tensorByteLength(
  dtype: CheckpointDtype,
  shape: readonly unknown[],
): { readonly length: number } | { readonly problem: string } {
  const { blockElements: block, blockBytes: bytes } = BLOCK_GEOMETRY[dtype];
  if (shape.length > MAX_AXES) return { problem: `has ${shape.length} axes, more than ${MAX_AXES}` };
  let elements = 1;
  for (const size of shape) {
    if (typeof size !== "number" || !Number.isSafeInteger(size) || size < 0) {
      return { problem: `shape holds ${excerpt(size)}, expected non-negative integers` };
    }
    elements *= size;
    if (!Number.isSafeInteger(elements)) {
      return { problem: `shape [${shape.join(", ")}] overflows` };
    }
  }
  const row = (shape.at(-1) ?? 1) as number;
  if (row % block !== 0) {
    return { problem: `last axis is ${row}, expected a multiple of ${dtype}'s block of ${block}` };
  }
  const length = (elements / block) * bytes;
  if (!Number.isSafeInteger(length)) return { problem: `shape [${shape.join(", ")}] overflows` };
  return { length };
}
