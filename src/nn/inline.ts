import { GraphError } from "../errors.ts";
import type { Graph, Value } from "../graph/graph.ts";
import type { Parameter } from "./module.ts";

/** A small parameter as a float32 constant inside the graph, changed on the way by `transform`. */
export function inlineWeight(
  graph: Graph,
  parameter: Parameter,
  transform: (value: number) => number = (value) => value,
): Value {
  const data = inlineData(parameter).map(transform);
  return graph.initializer(parameter.path, "float32", parameter.shape, new Uint8Array(data.buffer));
}

/** The numbers of a small parameter. */
export function inlineData({ weight, path }: Parameter): Float32Array {
  if (weight.kind !== "inline")
    throw new GraphError("expected a weight that was read into memory", { node: path });
  return weight.data;
}
