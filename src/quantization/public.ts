/** Quantisation of single matrices, as bitsandbytes and torchao do it: for looking at codes and scales. */
import { InputError, rejectUnknownOptions } from "../errors.ts";
import { Tensor } from "../tensor.ts";
import {
  BNB4_VALUES,
  type Bnb4Type,
  dequantizeBnb4,
  dynamicMap,
  NESTED_BLOCK,
  nestAbsmax,
  quantizeBnb4,
  unnestAbsmax,
} from "./nf4.ts";
import { dequantizeInt4, INT4_GROUPS, type Precision, quantizeInt4 } from "./torchao.ts";

/** Block sizes that bitsandbytes takes. */
export const BNB4_BLOCKS: readonly number[] = [32, 64, 128, 256, 512, 1024, 2048, 4096];

/** Options of `quantize_4bit`, with bitsandbytes' names and defaults. */
export interface Quantize4bitOptions {
  readonly quant_type?: Bnb4Type;
  readonly blocksize?: number;
  /** Double quantisation: absmax in 8 bits. */
  readonly compress_statistics?: boolean;
}

/** How the codes of `quantize_4bit` are to be read, as bitsandbytes' QuantState. */
export interface QuantState {
  readonly quant_type: Bnb4Type;
  readonly blocksize: number;
  readonly shape: readonly number[];
  /** float32 [16]: what the codes stand for. */
  readonly code: Tensor;
  /** float32, a block's largest magnitude; with `state2` uint8 codes. */
  readonly absmax: Tensor;
  /** Of double quantisation: absmax = code[absmax code] · absmax[block] + offset. */
  readonly offset?: number;
  readonly state2?: { readonly absmax: Tensor; readonly code: Tensor; readonly blocksize: number };
}

/** Quantises a float32 matrix to NF4 or FP4: codes uint8 [ceil(elements / 2)], the first of two in the high nibble. */
export function quantize_4bit(
  weight: Tensor,
  options: Quantize4bitOptions = {},
): { packed: Tensor; quant_state: QuantState } {
  rejectUnknownOptions(options, ["quant_type", "blocksize", "compress_statistics"], "quantize_4bit");
  const { quant_type = "fp4", blocksize = 64, compress_statistics = false } = options;
  if (!Object.hasOwn(BNB4_VALUES, quant_type))
    throw new InputError(`quantize_4bit: quant_type must be "nf4" or "fp4", got ${quant_type}`, {
      option: "quant_type",
    });
  requireOneOf(blocksize, BNB4_BLOCKS, "quantize_4bit", "blocksize");
  const values = floats(weight, "quantize_4bit");
  const data = new Uint8Array(Math.ceil(values.length / 2));
  const absmax = new Float32Array(Math.ceil(values.length / blocksize));
  quantizeBnb4(values, quant_type, blocksize, data, absmax);
  const state = { quant_type, blocksize, shape: weight.dims, code: vector(BNB4_VALUES[quant_type]) };
  const packed = new Tensor("uint8", data, [data.length]);
  if (!compress_statistics) return { packed, quant_state: { ...state, absmax: vector(absmax) } };
  const nested = nestAbsmax(absmax);
  const state2 = { absmax: vector(nested.absmax), code: vector(dynamicMap()), blocksize: NESTED_BLOCK };
  const codes = new Tensor("uint8", nested.codes, [nested.codes.length]);
  return { packed, quant_state: { ...state, absmax: codes, offset: nested.offset, state2 } };
}

/** The float32 matrix that `quantize_4bit` stands for. */
export function dequantize_4bit(packed: Tensor, quant_state: QuantState): Tensor {
  const { quant_type, blocksize, shape, absmax, offset = 0, state2 } = quant_state;
  const scales =
    state2 === undefined
      ? floats(absmax, "dequantize_4bit")
      : unnestAbsmax(
          {
            codes: absmax.data as Uint8Array,
            absmax: floats(state2.absmax, "dequantize_4bit"),
            offset,
          },
          floats(state2.code, "dequantize_4bit"),
          state2.blocksize,
        );
  const values = new Float32Array(shape.reduce((product, dim) => product * dim, 1));
  dequantizeBnb4(packed.data as Uint8Array, scales, quant_type, blocksize, values);
  return new Tensor("float32", values, shape);
}

/** Options of `quantize_int4`. */
export interface QuantizeInt4Options {
  readonly group_size?: number;
  /** The arithmetic of scales and codes: torchao's is that of the weights. */
  readonly dtype?: Precision;
}

/** A matrix in torchao's int4: value = (code − 8) · scale + zero_point. */
export interface Int4Matrix {
  /** int32 [rows, columns], 0 to 15. */
  readonly codes: Tensor;
  /** float32 [rows, groups], numbers of `dtype`. */
  readonly scale: Tensor;
  readonly zero_point: Tensor;
  readonly group_size: number;
  readonly dtype: Precision;
}

/** Quantises a matrix [rows, columns] to torchao's int4 weights with float zero points, in groups along its rows. */
export function quantize_int4(weight: Tensor, options: QuantizeInt4Options = {}): Int4Matrix {
  rejectUnknownOptions(options, ["group_size", "dtype"], "quantize_int4");
  const { group_size = 128, dtype = "float32" } = options;
  requireOneOf(group_size, INT4_GROUPS, "quantize_int4", "group_size");
  requireOneOf(dtype, ["float32", "float16", "bfloat16"], "quantize_int4", "dtype");
  const [N, K] = weight.dims as [number, number];
  if (weight.dims.length !== 2 || K % group_size !== 0)
    throw new InputError(
      `quantize_int4: expected a matrix with whole groups of ${group_size}, got [${weight.dims.join(", ")}]`,
      { option: "group_size" },
    );
  const values = floats(weight.to(dtype), "quantize_int4");
  const data = new Uint8Array((N * K) / 2);
  const [scales, zeros] = [0, 1].map(() => new Float32Array((N * K) / group_size)) as [
    Float32Array,
    Float32Array,
  ];
  quantizeInt4(values, N, K, group_size, dtype, data, scales, zeros);
  const codes = Int32Array.from({ length: N * K }, (_, i) => (data[i >> 1]! >>> (4 * (i & 1))) & 15);
  return {
    codes: new Tensor("int32", codes, [N, K]),
    scale: new Tensor("float32", scales, [N, K / group_size]),
    zero_point: new Tensor("float32", zeros, [N, K / group_size]),
    group_size,
    dtype,
  };
}

/** The matrix that `quantize_int4` stands for, float32, rounded as torchao does in its dtype. */
export function dequantize_int4({ codes, scale, zero_point, group_size, dtype }: Int4Matrix): Tensor {
  const [N, K] = codes.dims as [number, number];
  const data = new Uint8Array((N * K) / 2);
  for (let i = 0; i < N * K; i++) data[i >> 1]! |= Number(codes.data[i]) << (4 * (i & 1));
  const values = new Float32Array(N * K);
  const [scales, zeros] = [floats(scale, "dequantize_int4"), floats(zero_point, "dequantize_int4")];
  dequantizeInt4(data, scales, zeros, N, K, group_size, dtype, values);
  return new Tensor("float32", values, [N, K]);
}

function floats(tensor: Tensor, call: string): Float32Array {
  const { type } = tensor;
  if (type !== "float32" && type !== "float16" && type !== "bfloat16")
    throw new InputError(`${call}: expected a tensor of floats, got ${type}`);
  return tensor.to("float32").data as Float32Array;
}

function vector(values: Float32Array): Tensor {
  return new Tensor("float32", values.slice(), [values.length]);
}

function requireOneOf<T>(value: T, allowed: readonly T[], call: string, option: string): void {
  if (allowed.includes(value)) return;
  throw new InputError(`${call}: ${option} must be one of ${allowed.join(", ")}, got ${String(value)}`, {
    option,
  });
}
