/** Linear layers in the formats of bitsandbytes and torchao: what they take in a pack, and how they get there. */
import {
  bfloat16ToFloat32,
  float16ToFloat32,
  float32ToBfloat16,
  float32ToFloat16,
} from "../quantization/half.ts";
import { blocksPerRow, type NBitsLayout, rowBytes } from "../quantization/matmul-nbits.ts";
import { type Bnb4Type, nestAbsmax, quantizeBnb4, unnestAbsmax } from "../quantization/nf4.ts";
import {
  INT8_LAYOUT,
  layInt8Rows,
  type Precision,
  quantizeInt4,
  quantizeInt8Rows,
} from "../quantization/torchao.ts";
import { readAbsmax, readRowScales } from "./bitsandbytes.ts";
import type { Bnb4Encoding, Checkpoint, TensorSlice } from "./checkpoint.ts";

/** How HF's quantisation configurations want a linear layer: weights are rounded to `precision` first. */
export type LinearTarget =
  | {
      readonly kind: "bnb4";
      readonly quant_type: Bnb4Type;
      readonly block_size: number;
      readonly double_quant: boolean;
      readonly precision: Precision;
    }
  | { readonly kind: "int4"; readonly group_size: number; readonly precision: Precision }
  | { readonly kind: "int8"; readonly precision: Precision };

/** A tensor of the pack, by its place in the weight: the name in the pack is `<key>#<role>`. */
export interface LinearEntry {
  readonly role: "codes" | "scales" | "zeros";
  readonly shape: readonly number[];
}

/** Bytes for the tensor of a role, from byte `at` of it on. */
export interface LinearPart {
  readonly role: LinearEntry["role"];
  readonly at: number;
  readonly bytes: Uint8Array;
}

/** What there is to encode: a matrix, and a way to read its elements start..end-1 as float32. */
export interface LinearSource {
  readonly checkpoint: Checkpoint;
  readonly slice: TensorSlice;
  readonly shape: readonly number[];
  readonly read: (start: number, end: number) => Promise<Float32Array>;
}

/** Blocks that the engine's 4-bit kernel takes; larger ones are cut, each part with the same scale. */
const MAX_KERNEL_BLOCK = 256;

/** Block size in the pack. */
export function kernelBlock(block_size: number): number {
  return Math.min(block_size, MAX_KERNEL_BLOCK);
}

/** The layout of a torchao target's codes. */
export function nbitsLayout(target: Exclude<LinearTarget, { kind: "bnb4" }>): NBitsLayout {
  if (target.kind === "int8") return INT8_LAYOUT;
  return { bits: 4, block_size: target.group_size as NBitsLayout["block_size"] };
}

/** The tensors of a target: codes are U8, the others F32. */
export function linearEntries(target: LinearTarget, [N, K]: readonly [number, number]): LinearEntry[] {
  if (target.kind === "bnb4") {
    return [
      { role: "scales", shape: [Math.ceil((N * K) / kernelBlock(target.block_size))] },
      { role: "codes", shape: [Math.ceil((N * K) / 2)] },
    ];
  }
  const layout = nbitsLayout(target);
  const scales = [N, blocksPerRow(K, layout)];
  return [
    { role: "scales", shape: scales },
    ...(target.kind === "int4" ? [{ role: "zeros" as const, shape: scales }] : []),
    { role: "codes", shape: [N, rowBytes(K, layout)] },
  ];
}

/** Encodes a matrix, at most about `run` elements at a time. What was saved in the target's form is copied. */
export function encodeLinear(
  source: LinearSource,
  target: LinearTarget,
  run: number,
): AsyncGenerator<LinearPart> {
  const { encoding } = source.slice;
  if (target.kind === "bnb4" && encoding?.kind === "bnb4") return copyBnb4(source, encoding, run);
  if (target.kind === "bnb4") return encodeBnb4(source, target, run);
  if (target.kind === "int8" && encoding?.kind === "int8") return copyInt8(source, encoding.scales, run);
  return encodeRows(source, target, run);
}

async function* encodeBnb4(
  { shape, read }: LinearSource,
  { quant_type, block_size, double_quant, precision }: LinearTarget & { kind: "bnb4" },
  run: number,
): AsyncGenerator<LinearPart> {
  const elements = shape[0]! * shape[1]!;
  const absmax = new Float32Array(Math.ceil(elements / block_size));
  const step = Math.max(1, Math.floor(run / block_size)) * block_size;
  for (let start = 0; start < elements; start += step) {
    const values = roundTo(precision, await read(start, Math.min(elements, start + step)));
    const codes = new Uint8Array(Math.ceil(values.length / 2));
    const first = start / block_size;
    const blocks = absmax.subarray(first, first + Math.ceil(values.length / block_size));
    quantizeBnb4(values, quant_type, block_size, codes, blocks);
    yield { role: "codes", at: start / 2, bytes: codes };
  }
  const scales = double_quant ? unnestAbsmax(nestAbsmax(absmax)) : absmax;
  yield { role: "scales", at: 0, bytes: bytesOf(scales) };
}

async function* copyBnb4(
  { checkpoint, slice, shape }: LinearSource,
  encoding: Bnb4Encoding,
  run: number,
): AsyncGenerator<LinearPart> {
  for (let at = 0; at < slice.length; at += run) {
    const bytes = await checkpoint.read(slice, at, Math.min(slice.length, at + run));
    yield { role: "codes", at, bytes };
  }
  const { block_size } = encoding;
  const elements = shape[0]! * shape[1]!;
  const absmax = await readAbsmax(checkpoint, encoding, 0, Math.ceil(elements / block_size));
  const copies = block_size / kernelBlock(block_size);
  const count = Math.ceil(elements / kernelBlock(block_size));
  const scales = Float32Array.from({ length: count }, (_, i) => absmax[Math.floor(i / copies)]!);
  yield { role: "scales", at: 0, bytes: bytesOf(scales) };
}

async function* copyInt8(
  { checkpoint, slice, shape }: LinearSource,
  rowScales: TensorSlice,
  run: number,
): AsyncGenerator<LinearPart> {
  const [N, K] = shape as [number, number];
  for (const [row, count] of rowRuns(N, K, run)) {
    const bytes = await checkpoint.read(slice, row * K, (row + count) * K);
    const codes = new Int8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const factors = await readRowScales(checkpoint, rowScales, row, row + count);
    yield* layRows(row, count, K, INT8_LAYOUT, (data, scales) => {
      layInt8Rows(codes, factors, count, K, data, scales);
    });
  }
}

async function* encodeRows(
  { shape, read }: LinearSource,
  target: Exclude<LinearTarget, { kind: "bnb4" }>,
  run: number,
): AsyncGenerator<LinearPart> {
  const [N, K] = shape as [number, number];
  const { precision } = target;
  for (const [row, count] of rowRuns(N, K, run)) {
    const values = roundTo(precision, await read(row * K, (row + count) * K));
    yield* layRows(row, count, K, nbitsLayout(target), (data, scales, zeros) => {
      if (target.kind === "int8") quantizeInt8Rows(values, count, K, precision, data, scales);
      else quantizeInt4(values, count, K, target.group_size, precision, data, scales, zeros);
    });
  }
}

/** Rows in runs of about `run` elements: first row and count. */
function* rowRuns(N: number, K: number, run: number): Generator<[number, number]> {
  const rows = Math.max(1, Math.floor(run / K));
  for (let row = 0; row < N; row += rows) yield [row, Math.min(rows, N - row)];
}

/** Gives `fill` room for rows, and yields what it wrote there. */
function* layRows(
  row: number,
  count: number,
  K: number,
  layout: NBitsLayout,
  fill: (data: Uint8Array, scales: Float32Array, zeros: Float32Array) => void,
): Generator<LinearPart> {
  const [bytes, blocks] = [rowBytes(K, layout), blocksPerRow(K, layout)];
  const data = new Uint8Array(count * bytes);
  const [scales, zeros] = [new Float32Array(count * blocks), new Float32Array(count * blocks)];
  fill(data, scales, zeros);
  yield { role: "codes", at: row * bytes, bytes: data };
  yield { role: "scales", at: 4 * row * blocks, bytes: bytesOf(scales) };
  if (layout.bits === 4) yield { role: "zeros", at: 4 * row * blocks, bytes: bytesOf(zeros) };
}

function roundTo(precision: Precision, values: Float32Array): Float32Array {
  if (precision === "float32") return values;
  const halves = new Uint16Array(values.length);
  (precision === "float16" ? float32ToFloat16 : float32ToBfloat16)(values, halves);
  (precision === "float16" ? float16ToFloat32 : bfloat16ToFloat32)(halves, values);
  return values;
}

function bytesOf({ buffer, byteOffset, byteLength }: Float32Array): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}
