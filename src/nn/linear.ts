import type { Graph, Value } from "../graph/graph.ts";
import { linearInt8 } from "../graph/ops/int8.ts";
import { add, blockSums, cast, linear, linearBnb4, linearNBits } from "../graph/ops/math.ts";
import { gather, gatherNBits, split } from "../graph/ops/shape.ts";
import type {
  Bnb4Weight,
  FileRange,
  FloatWeight,
  Int8Weight,
  NBitsWeight,
  Weight,
} from "../graph/weights.ts";
import { inlineWeight } from "./inline.ts";
import { addLowRank, addLowRankRows } from "./lora.ts";
import { Module, Parameter } from "./module.ts";

/**
 * How inputs are rounded to 8 bits: with one scale for each row, with one for each row and some hundred columns where
 * single inputs are far larger than the rest, or not at all.
 */
export type InputRounding = "row" | "columns" | "none";

export interface LinearOptions {
  readonly bias?: boolean;
  /** The weight is never quantised. */
  readonly plain?: boolean;
  readonly rounding?: InputRounding;
}

/** A linear layer: x [.., in_features] → [.., out_features]. */
export class Linear extends Module {
  readonly weight: Parameter;
  readonly bias: Parameter | undefined;
  /** Whether the next graph gets an adapter beside this layer. */
  adapted = false;

  /** How an encoder's inputs are rounded in "q8". */
  readonly rounding: InputRounding;

  constructor(
    in_features: number,
    out_features: number,
    { bias = false, plain = false, rounding = "row" }: LinearOptions = {},
  ) {
    super();
    this.rounding = rounding;
    this.weight = new Parameter([out_features, in_features], { plain });
    this.bias = bias ? new Parameter([out_features]) : undefined;
  }

  forward(x: Value): Value {
    return this.finish(x, applyWeight(x, this.weight.path, this.weight.weight));
  }

  /** What follows the multiplication of `x` by the weight. */
  finish(x: Value, product: Value): Value {
    const y = this.bias === undefined ? product : add(product, inlineWeight(product.graph, this.bias));
    return this.adapted ? addLowRank(x, y, this.path) : y;
  }
}

/** A table of vectors, [num_embeddings, embedding_dim]; with `project` also the output layer that shares it. */
export class Embedding extends Module {
  readonly weight: Parameter;
  /** Whether the next graph gets an adapter beside the look-up; `project` goes without, as in PEFT. */
  adapted = false;

  /** `byRow`: the table is only looked up, and stays in its file. */
  constructor(
    num_embeddings: number,
    embedding_dim: number,
    { byRow = false }: { readonly byRow?: boolean } = {},
  ) {
    super();
    this.weight = new Parameter([num_embeddings, embedding_dim], { byRow });
  }

  /** The vectors of ids [..]: float32 [.., embedding_dim]. */
  forward(ids: Value): Value {
    const rows = this.#lookUp(ids);
    return this.adapted ? addLowRankRows(ids, rows, this.path) : rows;
  }

  #lookUp(ids: Value): Value {
    const { weight, path } = this.weight;
    if (weight.kind === "nbits") {
      const { codes, scales } = nbitsValues(ids.graph, path, weight, "table");
      return gatherNBits(codes, scales, ids, {
        bits: weight.bits,
        block_size: weight.block_size,
        K: this.weight.shape[1]!,
      });
    }
    return cast(gather(floatValue(ids.graph, path, weight), ids), "float32");
  }

  /** Quantised vectors of ids [count] as they are stored: codes uint8 [count, bytes], scales float32 [count, blocks]. */
  stored(ids: Value): { codes: Value; scales: Value } {
    const { weight, path } = this.weight;
    if (weight.kind !== "nbits") ids.graph.fail(`${path}: expected quantised weights`);
    const { codes, scales } = nbitsValues(ids.graph, path, weight, "table");
    return { codes: gather(codes, ids), scales: gather(scales, ids) };
  }

  /** Scores of x [.., embedding_dim] against every vector: [.., num_embeddings]. */
  project(x: Value): Value {
    return x.graph.scope(`${this.path}.project`, () => applyWeight(x, this.weight.path, this.weight.weight));
  }
}

/**
 * Several linear layers on the same input. Where their weights lie side by side in one file and in one layout, as
 * the packer puts them, they run as one multiplication: one thread hand-over instead of several.
 */
export function linearGroup(x: Value, layers: readonly Linear[]): Value[] {
  const fused = fuse(layers.map((layer) => layer.weight.weight));
  if (fused === undefined) return layers.map((layer) => layer.forward(x));
  const path = layers.map((layer) => layer.weight.path).join("+");
  const sizes = layers.map((layer) => layer.weight.shape[0]!);
  return split(applyWeight(x, path, fused), sizes).map((part, i) => layers[i]!.finish(x, part));
}

function applyWeight(x: Value, path: string, weight: Weight): Value {
  if (weight.kind === "bnb4") return applyBnb4(x, path, weight);
  if (weight.kind === "int8") return applyInt8(x, path, weight);
  if (weight.kind !== "nbits") return linear(x, cast(floatValue(x.graph, path, weight), "float32"));
  const { bits, block_size, zeros } = weight;
  const [N, K] = weight.shape as [number, number];
  if (zeros === undefined) return nbitsMatrix(x, path, weight);
  const { codes, scales } = nbitsValues(x.graph, path, weight, "matrix");
  // Σ x·(scale·code + zero) over a block is scale·Σ x·code + zero·Σ x: exact, where float zero points are slow.
  const product = linearNBits(x, codes, scales, { bits, block_size, N, K, accuracy_level: 1 });
  const added = x.graph.initializer(`${path}.zeros`, "float32", [N, K / block_size], zeros);
  return add(product, linear(blockSums(x, block_size), added));
}

/** x [.., K] times a quantised weight without zeros, [N, K]: [.., N]. */
export function nbitsMatrix(x: Value, path: string, weight: NBitsWeight): Value {
  const { codes, scales } = nbitsValues(x.graph, path, weight, "matrix");
  const [N, K] = weight.shape as [number, number];
  return linearNBits(x, codes, scales, { bits: weight.bits, block_size: weight.block_size, N, K });
}

function applyInt8(x: Value, path: string, { shape, codes, scales, columns }: Int8Weight): Value {
  const [N, K] = shape as [number, number];
  const parts = Array.from({ length: Math.ceil(K / columns) }, (_, i) => {
    const count = Math.min(columns, K - i * columns);
    const range = { file: codes.file, offset: codes.offset + i * columns * N, length: count * N };
    return x.graph.initializer(`${path}.codes.${i}`, "int8", [count, N], range);
  });
  return linearInt8(x, parts, x.graph.initializer(`${path}.scales`, "float32", [N], scales));
}

function applyBnb4(
  x: Value,
  path: string,
  { quant_type, block_size, shape, codes, scales }: Bnb4Weight,
): Value {
  const [N, K] = shape as [number, number];
  return linearBnb4(
    x,
    x.graph.initializer(`${path}.codes`, "uint8", [codes.length], codes),
    x.graph.initializer(`${path}.scales`, "float32", [scales.length / 4], scales),
    { quant_type, block_size, N, K },
  );
}

/** A parameter of plain numbers, as float32. */
export function floatWeight(graph: Graph, { path, weight }: Parameter): Value {
  return cast(floatValue(graph, path, weight), "float32");
}

function floatValue(graph: Graph, path: string, weight: Weight): Value {
  if (weight.kind !== "float" && weight.kind !== "inline") graph.fail(`${path}: expected plain numbers`);
  if (weight.kind === "float")
    return graph.initializer(path, weight.dtype, weight.shape, weight.range, weight.byRow);
  const { buffer, byteOffset, byteLength } = weight.data;
  return graph.initializer(path, "float32", weight.shape, new Uint8Array(buffer, byteOffset, byteLength));
}

/**
 * The same bytes under the shapes that the two operators ask for: MatMulNBits wants codes [N, blocks, bytes] and
 * flat scales, GatherBlockQuantized codes [N, bytes] and scales [N, blocks].
 */
function nbitsValues(
  graph: Graph,
  path: string,
  weight: NBitsWeight,
  use: "matrix" | "table",
): { codes: Value; scales: Value } {
  const [N, K] = weight.shape as [number, number];
  const blocks = Math.ceil(K / weight.block_size);
  const blockBytes = (weight.block_size * weight.bits) / 8;
  const codesShape = use === "matrix" ? [N, blocks, blockBytes] : [N, blocks * blockBytes];
  return {
    codes: graph.initializer(`${path}.${use}.codes`, "uint8", codesShape, weight.codes, weight.byRow),
    scales: graph.initializer(`${path}.${use}.scales`, "float32", [N, blocks], weight.scales, weight.byRow),
  };
}

function fuse(weights: readonly Weight[]): Weight | undefined {
  const [first] = weights;
  const K = first?.shape[1];
  if (first === undefined || K === undefined || weights.some((weight) => weight.shape[1] !== K))
    return undefined;
  const shape = [weights.reduce((sum, weight) => sum + weight.shape[0]!, 0), K];
  if (first.kind === "float") {
    const same = weights.filter(
      (weight): weight is FloatWeight => weight.kind === "float" && weight.dtype === first.dtype,
    );
    const range = joinRanges(same.map((weight) => weight.range));
    return same.length < weights.length || range === undefined ? undefined : { ...first, shape, range };
  }
  // 8-bit weights for many rows lie column by column, and gain nothing.
  if (first.kind === "inline" || first.kind === "int8") return undefined;
  const same = weights.filter((weight): weight is typeof first => alike(weight, first));
  if (same.length < weights.length) return undefined;
  const codes = joinRanges(same.map((weight) => weight.codes));
  const scales = joinRanges(same.map((weight) => weight.scales));
  if (codes === undefined || scales === undefined) return undefined;
  if (first.kind === "bnb4" || first.zeros === undefined) return { ...first, shape, codes, scales };
  const zeros = joinRanges(same.flatMap((weight) => (weight.kind === "nbits" ? (weight.zeros ?? []) : [])));
  return zeros === undefined ? undefined : { ...first, shape, codes, scales, zeros };
}

/** Whether two quantised weights are encoded in one way, so that they can be read as one matrix. */
function alike(weight: Weight, first: NBitsWeight | Bnb4Weight): boolean {
  if (weight.kind === "nbits" && first.kind === "nbits") {
    const { bits, block_size, zeros } = first;
    const affine = weight.zeros !== undefined;
    return weight.bits === bits && weight.block_size === block_size && affine === (zeros !== undefined);
  }
  if (weight.kind !== "bnb4" || first.kind !== "bnb4") return false;
  // Blocks run over rows: one that two matrices shared would have two scales.
  const whole = (weight.shape[0]! * weight.shape[1]!) % first.block_size === 0;
  return whole && weight.quant_type === first.quant_type && weight.block_size === first.block_size;
}

/** One range over all of them, if each begins where the one before ends. */
function joinRanges(ranges: readonly FileRange[]): FileRange | undefined {
  const [first] = ranges;
  if (first === undefined) return undefined;
  let end = first.offset;
  for (const range of ranges) {
    if (range.file !== first.file || range.offset !== end) return undefined;
    end += range.length;
  }
  return { file: first.file, offset: first.offset, length: end - first.offset };
}
