import { describe, expect, it } from "vitest";
import { GraphError } from "../errors.ts";
import { Graph, type Value } from "../graph/graph.ts";
import type { Weight } from "../graph/weights.ts";
import { Linear, linearGroup } from "./linear.ts";
import { bind, Module, namedParameters } from "./module.ts";

class Block extends Module {
  readonly first = new Linear(4, 2);
  readonly second = new Linear(4, 6);

  forward(x: Value): Value[] {
    return linearGroup(x, [this.first, this.second]);
  }
}

class Root extends Module {
  readonly layers = [new Block(), new Block()];

  forward(x: Value): Value[] {
    return this.layers.flatMap((layer) => layer.forward(x));
  }
}

function floats(shape: [number, number], offset: number): Weight {
  return {
    kind: "float",
    dtype: "float32",
    shape,
    range: { file: "/w", offset, length: 4 * shape[0] * shape[1] },
  };
}

/** Layer 0's two weights are neighbours, layer 1's are not. */
const weights = new Map<string, Weight>([
  ["layers.0.first.weight", floats([2, 4], 0)],
  ["layers.0.second.weight", floats([6, 4], 32)],
  ["layers.1.first.weight", floats([2, 4], 512)],
  ["layers.1.second.weight", floats([6, 4], 1024)],
]);

describe("modules", () => {
  it("take their keys from their fields", () => {
    expect([...namedParameters(new Root()).keys()]).toEqual([...weights.keys()]);
  });

  it("name what they emit and join neighbouring weights of one input", () => {
    const root = new Root();
    bind(root, weights);
    const graph = new Graph("test");
    const outputs = root.forward(graph.input("x", "float32", ["batch", 4]));
    expect(outputs.map((value) => value.shape)).toEqual([
      ["batch", 2],
      ["batch", 6],
      ["batch", 2],
      ["batch", 6],
    ]);
    expect(graph.nodes.map((node) => node.name)).toEqual([
      "layers.0.FusedMatMul",
      "layers.0.Split",
      "layers.1.first.FusedMatMul",
      "layers.1.second.FusedMatMul",
    ]);
    const joined = graph.initializers.get("layers.0.first.weight+layers.0.second.weight");
    expect(joined).toMatchObject({ shape: [8, 4], data: { file: "/w", offset: 0, length: 128 } });
  });

  it("list the keys that a checkpoint lacks, and both shapes where they differ", () => {
    expect(() => bind(new Root(), new Map())).toThrow(/lacks 4 tensors: layers.0.first.weight/);
    const wrong = new Map(weights).set("layers.0.first.weight", floats([4, 2], 0));
    expect(() => bind(new Root(), wrong)).toThrow(GraphError);
    expect(() => bind(new Root(), wrong)).toThrow(/\[4, 2\].*\[2, 4\]/);
  });
});
