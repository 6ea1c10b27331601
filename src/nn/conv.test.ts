import { describe, expect, it } from "vitest";
import { Graph } from "../graph/graph.ts";
import { Conv } from "./conv.ts";
import { bind } from "./module.ts";

function traced(input: readonly (number | string)[], module: Conv): readonly (number | string)[] {
  const { shape } = module.weight;
  const data = new Float32Array(shape.reduce((size, dim) => size * dim, 1));
  bind(module, new Map([["weight", { kind: "inline", shape, data }]]));
  const graph = new Graph("test");
  return module.forward(graph.input("x", "float32", input)).shape;
}

describe("Conv", () => {
  it("gives the sizes of the output", () => {
    const strided = new Conv(3, 8, [3, 3], { strides: [2, 2], pads: [0, 0, 1, 1] });
    expect(traced(["batch", 3, 32, 17], strided)).toEqual(["batch", 8, 16, 8]);
    const depthwise = new Conv(6, 6, [5], { group: 6, pads: [4, 0] });
    expect(traced(["batch", 6, 11], depthwise)).toEqual(["batch", 6, 11]);
  });

  it("takes open sizes by name only", () => {
    const module = (outputSizes?: string[]) =>
      new Conv(2, 2, [3], { strides: [2], ...(outputSizes && { outputSizes }) });
    expect(() => traced(["batch", 2, "time"], module())).toThrow(/the size time .* is open/);
    expect(traced(["batch", 2, "time"], module(["steps"]))).toEqual(["batch", 2, "steps"]);
  });

  it("refuses channels that do not fit", () => {
    expect(() => traced(["batch", 4, 8, 8], new Conv(3, 8, [3, 3]))).toThrow(/does not fit/);
  });

  it("is never quantised", () => {
    expect(new Conv(3, 8, [3, 3]).weight.plain).toBe(true);
  });
});
