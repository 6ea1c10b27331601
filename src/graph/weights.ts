/** How a weight lies in files: the border between checkpoints, which place weights, and graphs, which refer to them. */

/** A range of bytes in a file. */
export interface FileRange {
  /** Real, absolute path. */
  readonly file: string;
  readonly offset: number;
  readonly length: number;
}

export type FloatDtype = "float32" | "float16" | "bfloat16";

/** Plain numbers, row-major; a linear layer is [out_features, in_features] as in PyTorch. */
export interface FloatWeight {
  readonly kind: "float";
  readonly dtype: FloatDtype;
  readonly shape: readonly number[];
  readonly range: FileRange;
}

/** com.microsoft.MatMulNBits' layout, symmetric: codes [N, K/block, block*bits/8] uint8, scales [N, K/block] float32. */
export interface NBitsWeight {
  readonly kind: "nbits";
  readonly bits: 4 | 8;
  readonly block_size: number;
  /** [N, K] of the weight that is encoded. */
  readonly shape: readonly number[];
  readonly codes: FileRange;
  readonly scales: FileRange;
}

/** Small weights (norms) that travel inside the graph. */
export interface InlineWeight {
  readonly kind: "inline";
  readonly shape: readonly number[];
  readonly data: Float32Array;
}

export type Weight = FloatWeight | NBitsWeight | InlineWeight;

/** Weights by checkpoint key. */
export type WeightSource = ReadonlyMap<string, Weight>;
