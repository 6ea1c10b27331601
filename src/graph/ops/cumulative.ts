import type { Graph, Value } from "../graph.ts";

/** Sums over `axes`, which stay with size 1. */
export function sumOver(x: Value, axes: readonly number[]): Value {
  const graph: Graph = x.graph;
  const shape = x.shape.map((dim, axis) => (axes.includes(axis) ? 1 : dim));
  if (axes.some((axis) => axis < 0 || axis >= x.rank)) graph.fail(`${x} has no axes ${axes.join(", ")}`);
  const inputs = [x, graph.constant("int64", axes)];
  return graph.emit("ReduceSum", inputs, [{ dtype: x.dtype, shape }], { keepdims: 1 })[0]!;
}

/** At each place of an axis the sum of everything up to it. */
export function cumulativeSum(x: Value, axis: number): Value {
  const graph: Graph = x.graph;
  if (axis < 0 || axis >= x.rank) graph.fail(`${x} has no axis ${axis}`);
  return graph.emit("CumSum", [x, graph.constant("int64", [axis], [])], [x])[0]!;
}

/** Ones in the shape of x, which may be open; float32 only. */
export function onesLike(x: Value): Value {
  const graph: Graph = x.graph;
  const shape = graph.emit("Shape", [x], [{ dtype: "int64", shape: [x.rank] }])[0]!;
  return graph.emit("Expand", [graph.constant("float32", [1], []), shape], [x])[0]!;
}
