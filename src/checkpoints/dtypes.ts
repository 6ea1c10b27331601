import type { CheckpointDtype } from "./checkpoint.ts";
import { excerpt } from "./strict-json.ts";

/** How a dtype lies in a file: `bytes` for every `block` elements of the last axis. */
interface DtypeLayout {
  readonly block: number;
  readonly bytes: number;
}

/** No tensor of ours has more; it keeps messages and memory small for a hostile header. */
const MAX_AXES = 16;

/** Block sizes of GGML's formats are those of ggml-common.h; all others are single elements. */
export const dtypeLayouts: Readonly<Record<CheckpointDtype, DtypeLayout>> = {
  F64: { block: 1, bytes: 8 },
  F32: { block: 1, bytes: 4 },
  F16: { block: 1, bytes: 2 },
  BF16: { block: 1, bytes: 2 },
  I64: { block: 1, bytes: 8 },
  I32: { block: 1, bytes: 4 },
  I16: { block: 1, bytes: 2 },
  I8: { block: 1, bytes: 1 },
  U8: { block: 1, bytes: 1 },
  BOOL: { block: 1, bytes: 1 },
  Q4_0: { block: 32, bytes: 18 },
  Q4_1: { block: 32, bytes: 20 },
  Q5_0: { block: 32, bytes: 22 },
  Q5_1: { block: 32, bytes: 24 },
  Q8_0: { block: 32, bytes: 34 },
  Q2_K: { block: 256, bytes: 84 },
  Q3_K: { block: 256, bytes: 110 },
  Q4_K: { block: 256, bytes: 144 },
  Q5_K: { block: 256, bytes: 176 },
  Q6_K: { block: 256, bytes: 210 },
};

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
  const { block, bytes } = dtypeLayouts[dtype];
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
