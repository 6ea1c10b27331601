import { CheckpointError } from "../errors.ts";
import type { TensorSlice } from "./checkpoint.ts";

/** Flax's names of a layer's parameters, where PyTorch has `weight`. */
const WEIGHTS: ReadonlySet<string> = new Set(["kernel", "embedding", "scale"]);

/** The tensors of a Flax model under PyTorch's names and in its shapes. */
export function fromFlax(slices: Iterable<TensorSlice>, file: string): TensorSlice[] {
  const tensors = new Map<string, TensorSlice>();
  for (const slice of slices) {
    const tensor = renamed(slice);
    const { name } = tensor;
    if (tensors.has(name))
      throw new CheckpointError(`duplicate name (${slice.name} in the file)`, { file, tensor: name });
    tensors.set(name, tensor);
  }
  return [...tensors.values()];
}

/**
 * As HF's load_flax_weights_in_pytorch_model has it: the kernel of a linear layer, [in_features, out_features], is the
 * transpose of its weight. Kernels with more axes, of images and sound, are left alone.
 */
function renamed(slice: TensorSlice): TensorSlice {
  const end = slice.name.lastIndexOf(".") + 1;
  const parameter = slice.name.slice(end);
  if (end === 0 || !WEIGHTS.has(parameter)) return slice;
  const name = `${slice.name.slice(0, end)}weight`;
  if (parameter !== "kernel") return { ...slice, name };
  if (slice.shape.length !== 2) return slice;
  return { ...slice, name, shape: [...slice.shape].reverse(), transposed: true };
}
