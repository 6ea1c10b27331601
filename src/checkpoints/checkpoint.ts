import type { Buffer } from "node:buffer";
import type { Bnb4Type } from "../quantization/nf4.ts";
import type { PackedStrings } from "./packed-strings.ts";

/** Element formats of tensors as they lie in files: safetensors' names, then GGML's block formats. */
export type CheckpointDtype =
  | "F64"
  | "F32"
  | "F16"
  | "BF16"
  | "I64"
  | "I32"
  | "I16"
  | "I8"
  | "U8"
  | "BOOL"
  | "Q4_0"
  | "Q4_1"
  | "Q5_0"
  | "Q5_1"
  | "Q8_0"
  | "Q2_K"
  | "Q3_K"
  | "Q4_K"
  | "Q5_K"
  | "Q6_K";

/** One tensor, as a place in a file. Nothing is read until somebody asks. */
export interface TensorSlice {
  /** HF's name of the tensor, e.g. `model.layers.0.self_attn.q_proj.weight`. */
  readonly name: string;
  /** Real path of the file (symbolic links resolved). */
  readonly file: string;
  /** Byte offset of the first element in the file. */
  readonly offset: number;
  /** Length in bytes. */
  readonly length: number;
  readonly dtype: CheckpointDtype;
  /** Row-major, as in PyTorch: a linear layer is [out_features, in_features]. */
  readonly shape: readonly number[];
  /** The file holds the transpose, as Flax does; `read` gives the bytes of `shape` all the same. */
  readonly transposed?: boolean;
  /** Where the bytes are that do not lie in one piece, in order. `offset` is the first one's. */
  readonly pieces?: readonly { readonly offset: number; readonly length: number }[];
  /** llama.cpp stores the norm weights of Gemma with 1 added: the true value is the stored one minus 1. */
  readonly storedPlusOne?: boolean;
  /** Numbers that are computed while they are read, as `dtype`; `file` and `offset` are those of their origin. */
  readonly computed?: {
    /** How the origin is stored: the precision to keep where no other is asked for. */
    readonly from: CheckpointDtype;
    /** Changes whenever the computation does. */
    readonly identity: string;
  };
  /** How bitsandbytes encoded a matrix, where it did: dtype and length are then those of the codes. */
  readonly encoding?: SavedEncoding;
}

export type SavedEncoding = Bnb4Encoding | { readonly kind: "int8"; readonly scales: TensorSlice };

/** 4-bit codes over the flattened matrix; see bitsandbytes.ts. */
export interface Bnb4Encoding {
  readonly kind: "bnb4";
  readonly quant_type: Bnb4Type;
  readonly block_size: number;
  readonly absmax: TensorSlice;
  /** Of double quantisation: `absmax` are codes then. */
  readonly nested?: {
    readonly absmax: Float32Array;
    readonly map: Float32Array;
    readonly block_size: number;
    readonly offset: number;
  };
}

/** A set of named tensors and what its files say about them. */
export interface Checkpoint {
  readonly format: "safetensors" | "gguf" | "flax";
  /** Every weight file, real paths. */
  readonly files: readonly string[];
  /** By HF name. */
  readonly tensors: ReadonlyMap<string, TensorSlice>;
  /** Safetensors `__metadata__`, or GGUF key/value metadata. */
  readonly metadata: ReadonlyMap<string, MetadataValue>;
  /** Reads one tensor's bytes, those of its `shape` in row-major order. The only place where weights enter the JS heap; callers ask for a part at a time. */
  read(slice: TensorSlice, start?: number, end?: number): Promise<Buffer>;
  close(): Promise<void>;
}

/** 64-bit integers are numbers where they are safe, else bigints. */
export type MetadataValue = string | number | bigint | boolean | MetadataArray;

/**
 * Arrays of a GGUF header stay packed: a vocabulary of 262,144 strings is only decoded by whoever needs it, and
 * numbers keep the width of the file. Booleans are 0 and 1 in a Uint8Array.
 */
export type MetadataArray =
  | PackedStrings
  | Int8Array
  | Uint8Array
  | Int16Array
  | Uint16Array
  | Int32Array
  | Uint32Array
  | BigInt64Array
  | BigUint64Array
  | Float32Array
  | Float64Array
  | readonly MetadataArray[];
