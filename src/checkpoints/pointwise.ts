import type { Checkpoint, TensorSlice } from "./checkpoint.ts";

/**
 * The checkpoint with its convolutions of kernel 1 as the matrices that they are, [out, in, 1, 1] as [out, in], so that
 * they are packed and run as linear layers. Those over one channel are left: they are depthwise.
 */
export function withPointwiseMatrices(checkpoint: Checkpoint): Checkpoint {
  const tensors = new Map<string, TensorSlice>();
  for (const [name, slice] of checkpoint.tensors) {
    const [out, channels, height, width] = slice.shape;
    const isPointwise = slice.shape.length === 4 && height === 1 && width === 1 && channels! > 1;
    tensors.set(name, isPointwise ? { ...slice, shape: [out!, channels!] } : slice);
  }
  return {
    format: checkpoint.format,
    files: checkpoint.files,
    tensors,
    metadata: checkpoint.metadata,
    read: (slice, start, end) => checkpoint.read(slice, start, end),
    close: () => checkpoint.close(),
  };
}
