import { broadcast } from "../dims.ts";
import { type DType, ONNX_ELEMENT_TYPE } from "../element-types.ts";
import type { Graph, Value } from "../graph.ts";
import { reshape } from "./shape.ts";

function elementwise(op: string, a: Value, b: Value): Value {
  const graph: Graph = a.graph;
  if (a.dtype !== b.dtype) graph.fail(`${op} of ${a} and ${b}: the dtypes differ`);
  const shape = broadcast(a.shape, b.shape);
  if (shape === undefined) graph.fail(`${op} cannot broadcast ${a} with ${b}`);
  return graph.emit(op, [a, b], [{ dtype: a.dtype, shape }])[0]!;
}

export function add(a: Value, b: Value): Value {
  return elementwise("Add", a, b);
}

export function sub(a: Value, b: Value): Value {
  return elementwise("Sub", a, b);
}

export function mul(a: Value, b: Value): Value {
  return elementwise("Mul", a, b);
}

export function div(a: Value, b: Value): Value {
  return elementwise("Div", a, b);
}

/** The larger of x and a number. */
export function atLeast(x: Value, least: number): Value {
  return elementwise("Max", x, x.graph.constant("float32", [least], []));
}

/** x within -bound … bound. */
export function clip(x: Value, bound: number): Value {
  const limit = (value: number): Value => x.graph.constant("float32", [value], []);
  return x.graph.emit("Clip", [x, limit(-bound), limit(bound)], [x])[0]!;
}

export function sqrt(x: Value): Value {
  return x.graph.emit("Sqrt", [x], [x])[0]!;
}

/** Mean over the last axis, which stays with size 1. */
export function meanLast(x: Value): Value {
  return reduceLast("ReduceMean", x);
}

/** Mean of the squares over the last axis, which stays with size 1. */
export function meanSquareLast(x: Value): Value {
  return scale(reduceLast("ReduceSumSquare", x), 1 / Number(x.dim(-1)));
}

function reduceLast(op: string, x: Value): Value {
  const output = { dtype: x.dtype, shape: x.shape.with(-1, 1) };
  return x.graph.emit(op, [x, x.graph.constant("int64", [-1])], [output], { keepdims: 1 })[0]!;
}

/** Matrix products over leading axes that both have: [.., M, K] · [.., K, N]. */
export function matmul(a: Value, b: Value): Value {
  const graph: Graph = a.graph;
  const leading = broadcast(a.shape.slice(0, -2), b.shape.slice(0, -2));
  if (leading === undefined || a.dim(-1) !== b.dim(-2)) graph.fail(`${a} and ${b} can't be multiplied`);
  const output = { dtype: a.dtype, shape: [...leading, a.dim(-2), b.dim(-1)] };
  return graph.emit("MatMul", [a, b], [output])[0]!;
}

/** Ids below `bound` as they are, others as 0. */
export function idsBelow(ids: Value, bound: number): Value {
  const { graph, shape } = ids;
  const inside = graph.emit(
    "Less",
    [ids, graph.constant("int64", [bound], [])],
    [{ dtype: "bool", shape }],
  )[0]!;
  return graph.emit("Where", [inside, ids, graph.constant("int64", [0], [])], [ids])[0]!;
}

/** x times a number; float32 only. */
export function scale(x: Value, factor: number): Value {
  return mul(x, x.graph.constant("float32", [factor], []));
}

export function tanh(x: Value): Value {
  return x.graph.emit("Tanh", [x], [x])[0]!;
}

/** GELU in its tanh approximation, HF's `gelu_pytorch_tanh`. */
export function geluTanh(x: Value): Value {
  return x.graph.emit("Gelu", [x], [x], { approximate: "tanh" })[0]!;
}

/** Exact GELU (erf), HF's `gelu`. */
export function geluErf(x: Value): Value {
  return x.graph.emit("Gelu", [x], [x])[0]!;
}

export function sigmoid(x: Value): Value {
  return x.graph.emit("Sigmoid", [x], [x])[0]!;
}

export function silu(x: Value): Value {
  return mul(x, sigmoid(x));
}

export function relu(x: Value): Value {
  return x.graph.emit("Relu", [x], [x])[0]!;
}

export function cast(x: Value, dtype: DType): Value {
  if (x.dtype === dtype) return x;
  return x.graph.emit("Cast", [x], [{ dtype, shape: x.shape }], { to: ONNX_ELEMENT_TYPE[dtype] })[0]!;
}

/** Root-mean-square norm over the last axis, times `weight` [last]: x / sqrt(mean(x²) + epsilon) · weight. */
export function rmsNorm(x: Value, weight: Value, epsilon: number): Value {
  checkNormWeight(x, weight);
  const attributes = { axis: -1, epsilon: { float: epsilon }, stash_type: 1 };
  return x.graph.emit("SimplifiedLayerNormalization", [x, weight], [x], attributes)[0]!;
}

/** Layer norm over the last axis: (x - mean) / sqrt(variance + epsilon) · weight + bias, both [last]. */
export function layerNorm(x: Value, weight: Value, bias: Value, epsilon: number): Value {
  checkNormWeight(x, weight);
  checkNormWeight(x, bias);
  const attributes = { axis: -1, epsilon: { float: epsilon } };
  return x.graph.emit("LayerNormalization", [x, weight, bias], [x], attributes)[0]!;
}

function checkNormWeight(x: Value, weight: Value): void {
  if (weight.rank !== 1 || weight.dim(0) !== x.dim(-1))
    x.graph.fail(`the norm's weight ${weight} does not fit ${x}`);
}

/** x [.., K] times the transpose of weight [N, K], as PyTorch's linear layer without bias: [.., N]. */
export function linear(x: Value, weight: Value): Value {
  const graph: Graph = x.graph;
  if (weight.rank !== 2 || weight.dim(1) !== x.dim(-1)) graph.fail(`the weight ${weight} does not fit ${x}`);
  const output = { dtype: x.dtype, shape: [...x.shape.slice(0, -1), weight.dim(0)] };
  return graph.emit("FusedMatMul", [x, weight], [output], { transB: 1 }, { domain: "com.microsoft" })[0]!;
}

/** Softmax over the last axis. */
export function softmax(x: Value): Value {
  return x.graph.emit("Softmax", [x], [x], { axis: -1 })[0]!;
}

/** x [.., K] times a matrix [K, N] as it stands: [.., N]. */
export function matMul(x: Value, matrix: Value): Value {
  const graph: Graph = x.graph;
  if (matrix.rank !== 2 || matrix.dim(0) !== x.dim(-1)) graph.fail(`the matrix ${matrix} does not fit ${x}`);
  const output = { dtype: x.dtype, shape: [...x.shape.slice(0, -1), matrix.dim(1)] };
  return graph.emit("MatMul", [x, matrix], [output])[0]!;
}

export interface NBitsOptions {
  readonly bits: 4 | 8;
  readonly block_size: number;
  readonly N: number;
  readonly K: number;
  /** 4 lets the engine quantise x to int8 in blocks, which is where its fast kernels are; 1 keeps x float32. */
  readonly accuracy_level?: 1 | 4;
}

/** x [.., K] times a block-quantised weight [N, K]. */
export function linearNBits(x: Value, codes: Value, scales: Value, options: NBitsOptions): Value {
  const graph: Graph = x.graph;
  if (x.dim(-1) !== options.K) graph.fail(`the weight [${options.N}, ${options.K}] does not fit ${x}`);
  const output = { dtype: x.dtype, shape: [...x.shape.slice(0, -1), options.N] };
  const attributes = { accuracy_level: 4, ...options };
  return graph.emit("MatMulNBits", [x, codes, scales], [output], attributes, { domain: "com.microsoft" })[0]!;
}

/** Sums of x [.., K] over blocks of its last axis: [.., K / block_size]. */
export function blockSums(x: Value, block_size: number): Value {
  const graph: Graph = x.graph;
  const K = x.dim(-1);
  if (typeof K !== "number" || K % block_size !== 0) graph.fail(`${x} has no whole blocks of ${block_size}`);
  const leading = x.shape.slice(0, -1);
  const blocks = reshape(x, [...leading, K / block_size, block_size]);
  const output = { dtype: x.dtype, shape: [...leading, K / block_size] };
  const axes = graph.constant("int64", [-1]);
  return graph.emit("ReduceSum", [blocks, axes], [output], { keepdims: 0 })[0]!;
}

export interface Bnb4Options {
  readonly quant_type: "nf4" | "fp4";
  readonly block_size: number;
  readonly N: number;
  readonly K: number;
}

/** x [.., K] times a weight [N, K] in bitsandbytes' 4 bits, in float32. */
export function linearBnb4(x: Value, codes: Value, scales: Value, options: Bnb4Options): Value {
  const graph: Graph = x.graph;
  if (x.dim(-1) !== options.K) graph.fail(`the weight [${options.N}, ${options.K}] does not fit ${x}`);
  const output = { dtype: x.dtype, shape: [...x.shape.slice(0, -1), options.N] };
  const attributes = { ...options, quant_type: options.quant_type === "nf4" ? 1 : 0 };
  return graph.emit("MatMulBnb4", [x, codes, scales], [output], attributes, { domain: "com.microsoft" })[0]!;
}
