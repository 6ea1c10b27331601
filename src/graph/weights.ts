/** How a weight lies in files: the border between checkpoints, which place weights, and graphs, which refer to them. */

/** A range of bytes in a file. */
export interface FileRange {
  /** Real, absolute path. */
  readonly file: string;
  readonly offset: number;
  readonly length: number;
}

export type FloatDtype = "float32" | "float16" | "bfloat16";

/** A table of which only single rows are read stays on disk: nothing may copy or re-lay it. */
interface OnDisk {
  readonly byRow?: boolean;
}

/** Plain numbers, row-major; a linear layer is [out_features, in_features] as in PyTorch. */
export interface FloatWeight extends OnDisk {
  readonly kind: "float";
  readonly dtype: FloatDtype;
  readonly shape: readonly number[];
  readonly range: FileRange;
}

/**
 * com.microsoft.MatMulNBits' layout, symmetric: codes [N, K/block, block*bits/8] uint8, scales [N, K/block] float32.
 * With `zeros`, of the scales' shape, a number is added to each element of a block: such weights multiply in float32.
 */
export interface NBitsWeight extends OnDisk {
  readonly kind: "nbits";
  readonly bits: 4 | 8;
  readonly block_size: number;
  /** [N, K] of the weight that is encoded. */
  readonly shape: readonly number[];
  readonly codes: FileRange;
  readonly scales: FileRange;
  readonly zeros?: FileRange;
}

/**
 * com.microsoft.MatMulBnb4's layout: codes uint8 [N*K/2], the first of two in the high nibble, and a scale float32 for
 * each block of the flattened matrix.
 */
export interface Bnb4Weight {
  readonly kind: "bnb4";
  readonly quant_type: "nf4" | "fp4";
  readonly block_size: number;
  /** [N, K] of the weight that is encoded. */
  readonly shape: readonly number[];
  readonly codes: FileRange;
  readonly scales: FileRange;
}

/** For many rows of inputs (encoders): codes int8 [K, N], a scale float32 for each of the N outputs. */
export interface Int8Weight {
  readonly kind: "int8";
  /** [N, K] of the weight that is encoded. */
  readonly shape: readonly number[];
  readonly codes: FileRange;
  readonly scales: FileRange;
  /** Neighbouring inputs that are rounded with one scale. */
  readonly columns: number;
}

/** Small weights (norms) that travel inside the graph. */
export interface InlineWeight {
  readonly kind: "inline";
  readonly shape: readonly number[];
  readonly data: Float32Array;
}

export type Weight = FloatWeight | NBitsWeight | Bnb4Weight | Int8Weight | InlineWeight;

/** Weights by checkpoint key. */
export type WeightSource = ReadonlyMap<string, Weight>;

/** The places in files that a weight lies at; none for one that was read into memory. */
export function fileRanges(weight: Weight): FileRange[] {
  switch (weight.kind) {
    case "inline":
      return [];
    case "float":
      return [weight.range];
    case "bnb4":
    case "int8":
      return [weight.codes, weight.scales];
    case "nbits":
      return [weight.codes, weight.scales, ...(weight.zeros === undefined ? [] : [weight.zeros])];
  }
}

/** Whether a weight is a table that stays on disk. */
export function staysOnDisk(weight: Weight): boolean {
  return (weight.kind === "float" || weight.kind === "nbits") && weight.byRow === true;
}
