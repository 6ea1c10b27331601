import { describe, expect, it } from "vitest";
import { GraphError } from "../errors.ts";
import { Graph } from "./graph.ts";
import { serializeOnnx } from "./onnx/serialize.ts";
import { add, linear, linearNBits, rmsNorm } from "./ops/math.ts";
import { gather, mergeLeading, padLast, reshape, split } from "./ops/shape.ts";

function failure(run: () => unknown): GraphError {
  try {
    run();
  } catch (error) {
    if (error instanceof GraphError) return error;
    throw error;
  }
  throw new Error("expected a GraphError");
}

describe("tracing", () => {
  it("names nodes after the scope and numbers repeated ones", () => {
    const graph = new Graph("test");
    const x = graph.input("x", "float32", ["batch", 8]);
    const sum = graph.scope("model.layers.3", () => add(add(x, x), x));
    expect(graph.nodes.map((node) => node.name)).toEqual(["model.layers.3.Add", "model.layers.3.Add_1"]);
    expect(sum.shape).toEqual(["batch", 8]);
  });

  it("tells the place, the shapes and the dtypes of what does not fit", () => {
    const graph = new Graph("test");
    const x = graph.input("x", "float32", ["batch", "seq", 31]);
    const y = graph.input("y", "float32", [32]);
    const ids = graph.input("ids", "int64", [32]);
    const error = failure(() => graph.scope("model.norm", () => add(x, y)));
    expect(error.node).toBe("model.norm");
    expect(error.message).toBe("model.norm: Add cannot broadcast float32[batch, seq, 31] with float32[32]");
    expect(failure(() => add(y, ids)).message).toMatch(/dtypes differ/);
    expect(failure(() => rmsNorm(x, y, 1e-6)).message).toMatch(/does not fit/);
    expect(failure(() => linear(x, y)).message).toMatch(/does not fit/);
    expect(failure(() => reshape(x, ["batch", 31])).message).toMatch(/cannot reshape/);
    expect(failure(() => split(x, [16, 16])).message).toMatch(/cannot split/);
    expect(failure(() => padLast(x, 16)).message).toMatch(/cannot pad/);
    const options = { bits: 8, block_size: 32, N: 4, K: 64 } as const;
    expect(failure(() => linearNBits(x, y, y, options)).message).toMatch(/does not fit/);
  });

  it("refuses values of another graph and names used twice", () => {
    const [a, b] = [new Graph("a"), new Graph("b")];
    const [x, y] = [a.input("x", "float32", [1]), b.input("y", "float32", [1])];
    expect(failure(() => add(x, y)).message).toMatch(/another graph/);
    expect(failure(() => a.input("x", "float32", [1])).message).toMatch(/two inputs/);
    a.output("z", x);
    expect(failure(() => a.output("z", x)).message).toMatch(/two outputs/);
  });

  it("follows symbols through reshapes and gathers", () => {
    const graph = new Graph("test");
    const x = graph.input("x", "float32", ["batch", "seq", 640]);
    const heads = reshape(x, ["batch", "seq", 4, 160]);
    expect(heads.shape).toEqual(["batch", "seq", 4, 160]);
    const flat = mergeLeading(x);
    expect(flat.shape).toEqual(["batch*seq", 640]);
    expect(gather(flat, graph.input("rows", "int64", ["rows"])).shape).toEqual(["rows", 640]);
  });

  it("keeps equal constants once", () => {
    const graph = new Graph("test");
    graph.constant("float32", [2], []);
    graph.constant("float32", [2], []);
    graph.constant("float32", [2]);
    expect(graph.initializers.size).toBe(2);
  });
});

describe("serialisation", () => {
  it("refers to files below the folder and refuses others", () => {
    const graph = new Graph("test");
    const x = graph.input("x", "float32", ["batch", 4]);
    const weight = graph.initializer("weight", "float32", [2, 4], {
      file: "/models/a/w.safetensors",
      offset: 64,
      length: 32,
    });
    graph.output("y", linear(x, weight));
    const text = Buffer.from(serializeOnnx(graph, "/models")).toString("latin1");
    expect(text).toContain("a/w.safetensors");
    expect(text).toContain("FusedMatMul");
    expect(failure(() => serializeOnnx(graph, "/other")).message).toMatch(/lies outside/);
  });

  it("takes graphs of many nodes", () => {
    const graph = new Graph("test");
    const x = graph.input("x", "float32", [1]);
    for (let i = 0; i < 20_000; i++) add(x, x);
    expect(serializeOnnx(graph, "/").length).toBeGreaterThan(5e5);
  });
});
