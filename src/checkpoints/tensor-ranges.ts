import { CheckpointError } from "../errors.ts";
import type { TensorSlice } from "./checkpoint.ts";

/**
 * Checks that no two tensors of one file share a byte and returns them in file order. Empty tensors hold no byte.
 */
export function sortByOffset(tensors: Iterable<TensorSlice>, file: string): TensorSlice[] {
  const sorted = [...tensors].sort((a, b) => a.offset - b.offset || a.length - b.length);
  let previous: TensorSlice | undefined;
  for (const tensor of sorted) {
    if (tensor.length === 0) continue;
    if (previous !== undefined && tensor.offset < previous.offset + previous.length) {
      const ends = previous.offset + previous.length;
      throw new CheckpointError(
        `starts at byte ${tensor.offset} and overlaps ${previous.name}, which ends at ${ends}`,
        { file, tensor: tensor.name },
      );
    }
    previous = tensor;
  }
  return sorted;
}
