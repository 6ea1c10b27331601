import { GraphError } from "../errors.ts";
import type { Graph, Value } from "../graph/graph.ts";
import type { Parameter } from "./module.ts";

/** A small parameter as a float32 constant inside the graph, changed on the way by `transform`. */
export function inlineWeight(
  graph: Graph,
  parameter: Parameter,
  transform: (value: number) => number = (value) => value,
): Value {
  const { weight, path } = parameter;
  if (weight.kind !== "inline")
    throw new GraphError("expected a weight that was read into memory", { node: path });
  return graph.initializer(path, "float32", weight.shape, new Uint8Array(weight.data.map(transform).buffer));
}
