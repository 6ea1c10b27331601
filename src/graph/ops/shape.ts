import { type Dim, formatShape, productOf, type Shape, sameSize } from "../dims.ts";
import type { Graph, Value } from "../graph.ts";

/**
 * The same elements in another shape. Symbols of the target must be those of the source; one dimension may move,
 * the others stay where they were or are numbers.
 */
export function reshape(x: Value, shape: Shape): Value {
  const graph: Graph = x.graph;
  if (!sameSize(x.shape, shape)) graph.fail(`cannot reshape ${x} to ${formatShape(shape)}`);
  const free = shape.filter((dim, i) => typeof dim === "string" && x.shape[i] !== dim);
  if (free.length > 1) graph.fail(`reshape of ${x} to ${formatShape(shape)} moves more than one symbol`);
  const target = shape.map((dim, i) => (typeof dim === "number" ? dim : x.shape[i] === dim ? 0 : -1));
  return graph.emit("Reshape", [x, graph.constant("int64", target)], [{ dtype: x.dtype, shape }])[0]!;
}

/** Cuts an axis, the last one by default, into parts of the given sizes. */
export function split(x: Value, sizes: readonly number[], axis: number = x.rank - 1): Value[] {
  const graph: Graph = x.graph;
  const total = sizes.reduce((sum, size) => sum + size, 0);
  if (x.dim(axis) !== total) graph.fail(`cannot split ${x} into ${sizes.join(" + ")}`);
  const outputs = sizes.map((size) => ({ dtype: x.dtype, shape: x.shape.with(axis, size) }));
  return graph.emit("Split", [x, graph.constant("int64", [...sizes])], outputs, { axis });
}

/** The elements start..end-1 of the last axis. */
export function sliceLast(x: Value, start: number, end: number): Value {
  const graph: Graph = x.graph;
  const inputs = [x, ...[start, end, -1].map((value) => graph.constant("int64", [value]))];
  return graph.emit("Slice", inputs, [{ dtype: x.dtype, shape: [...x.shape.slice(0, -1), end - start] }])[0]!;
}

/** Values side by side along an axis, the last one by default. */
export function concat(values: readonly Value[], axis?: number): Value {
  const [first] = values as [Value, ...Value[]];
  const graph: Graph = first.graph;
  const along = axis ?? first.rank - 1;
  const sizes = values.map((value) => value.dim(along));
  if (sizes.some((size) => typeof size !== "number"))
    graph.fail(`cannot join ${values.join(", ")}: a size is not known`);
  const total = (sizes as number[]).reduce((sum, size) => sum + size, 0);
  const output = { dtype: first.dtype, shape: first.shape.with(along, total) };
  return graph.emit("Concat", [...values], [output], { axis: along })[0]!;
}

/** Zeros appended to the last axis until it is `size` long. */
export function padLast(x: Value, size: number): Value {
  const graph: Graph = x.graph;
  const last = x.dim(-1);
  if (typeof last !== "number" || last > size) graph.fail(`cannot pad ${x} to ${size}`);
  if (last === size) return x;
  const pads = [...new Array<number>(2 * x.rank - 1).fill(0), size - last];
  const output = { dtype: x.dtype, shape: [...x.shape.slice(0, -1), size] };
  return graph.emit("Pad", [x, graph.constant("int64", pads)], [output])[0]!;
}

/** Rows of `table` [rows, ..] by integer `indices`: [..indices, ..]; or what lies along another axis. */
export function gather(table: Value, indices: Value, axis = 0): Value {
  const shape = [...table.shape.slice(0, axis), ...indices.shape, ...table.shape.slice(axis + 1)];
  return table.graph.emit("Gather", [table, indices], [{ dtype: table.dtype, shape }], { axis })[0]!;
}

/** Elements of the last axis by their positions: [.., size] → [.., positions]. */
export function pickLast(x: Value, positions: readonly number[]): Value {
  const indices = x.graph.constant("int64", [...positions]);
  const output = { dtype: x.dtype, shape: [...x.shape.slice(0, -1), positions.length] };
  return x.graph.emit("Gather", [x, indices], [output], { axis: -1 })[0]!;
}

/** Rows of a block-quantised table [rows, K], decoded to float32: [..indices, K]. Codes and scales as in MatMulNBits. */
export function gatherNBits(
  codes: Value,
  scales: Value,
  indices: Value,
  options: { readonly bits: 4 | 8; readonly block_size: number; readonly K: number },
): Value {
  const output = { dtype: "float32" as const, shape: [...indices.shape, options.K] };
  const attributes = { bits: options.bits, block_size: options.block_size, gather_axis: 0, quantize_axis: 1 };
  const inputs = [codes, indices, scales];
  return codes.graph.emit("GatherBlockQuantized", inputs, [output], attributes, {
    domain: "com.microsoft",
  })[0]!;
}

/** The axes in another order. */
export function transpose(x: Value, order: readonly number[]): Value {
  const output = { dtype: x.dtype, shape: order.map((axis) => x.dim(axis)) };
  return x.graph.emit("Transpose", [x], [output], { perm: order })[0]!;
}

/** [a, b, c, ..] as [a*b, c, ..]: the first two axes become one. */
export function mergeLeading(x: Value): Value {
  const [first, second, ...rest] = x.shape as [Dim, Dim, ...Dim[]];
  return reshape(x, [productOf([first, second]), ...rest]);
}
