import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { openCheckpoint } from "../checkpoints/open.ts";
import { loadWeights } from "../checkpoints/pack.ts";
import { writeSafetensors } from "../checkpoints/write-safetensors.ts";
import { float32, RunValues } from "../generation/decoder-model.ts";
import { Graph } from "../graph/graph.ts";
import { serializeOnnx } from "../graph/onnx/serialize.ts";
import type { Int8Weight } from "../graph/weights.ts";
import { Gemma3TextConfig } from "../models/gemma3/config.ts";
import { Gemma3TextModule } from "../models/gemma3/text.ts";
import { type InputRounding, Linear } from "../nn/linear.ts";
import { bind, Module } from "../nn/module.ts";
import { loadEngine } from "../runtime/engine.ts";
import { weightRequest } from "./pretrained-model.ts";

const [N, K] = [10, 400];
/** Numbers between -1 and 1 without a pattern. */
const noise = (i: number): number => (Math.sin(i * 12.9898) * 43758.5453) % 1;
/** 0 where the outlier is, so that rounding the others is all that it changes. */
const WEIGHT = Float32Array.from({ length: N * K }, (_, i) => (i % K === K - 1 ? 0 : noise(i)));
/** The second row is far larger, and has an outlier among its last columns. */
const ROWS = Float32Array.from({ length: 3 * K }, (_, i) =>
  i === 2 * K - 1 ? 900 : noise(i + 7777) * (i >= K && i < 2 * K ? 30 : 1),
);

class Encoder extends Module {
  override readonly manyRows: boolean = true;
  readonly linear: Linear;

  constructor(rounding: InputRounding) {
    super();
    this.linear = new Linear(K, N, { rounding });
  }
}

/** x times the weight, in float64. */
function exact(x: Float32Array): number[] {
  return Array.from({ length: (x.length / K) * N }, (_, i) => {
    const [row, column] = [Math.floor(i / N), i % N];
    return WEIGHT.subarray(column * K, (column + 1) * K).reduce((sum, w, k) => sum + w * x[row * K + k]!, 0);
  });
}

/** Root of the mean squared error of each row, relative to what products of random signs would give. */
function errors(found: Float32Array, x: Float32Array): number[] {
  const expected = exact(x);
  const squares = (values: Float32Array): number => values.reduce((sum, value) => sum + value ** 2, 0);
  return Array.from({ length: found.length / N }, (_, row) => {
    let error = 0;
    for (let i = row * N; i < (row + 1) * N; i++) error += (found[i]! - expected[i]!) ** 2;
    return Math.sqrt((error * K) / (squares(x.subarray(row * K, (row + 1) * K)) * squares(WEIGHT)));
  });
}

describe("8-bit layers for many rows", () => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), "lapidary-rows-"));
    await writeSafetensors(join(folder, "model.safetensors"), [
      { name: "linear.weight", dtype: "F32", shape: [N, K], data: [new Uint8Array(WEIGHT.buffer)] },
    ]);
  });
  afterEach(() => rm(folder, { recursive: true }));

  async function load(module: Module): ReturnType<typeof loadWeights> {
    const checkpoint = await openCheckpoint(folder);
    const request = weightRequest(module, { dtype: "q8", tablesDtype: "q8" });
    return loadWeights(checkpoint, request, { folder: join(folder, "packs") }).finally(() =>
      checkpoint.close(),
    );
  }

  async function run(rounding: InputRounding, x: Float32Array): Promise<Float32Array> {
    const module = new Encoder(rounding);
    const { weights, pack } = await load(module);
    bind(module, weights);
    const graph = new Graph("test");
    graph.output("y", module.linear.forward(graph.input("x", "float32", ["rows", K])));
    const externalDataFolder = dirname(pack!);
    const engine = await loadEngine({ engine: "auto" });
    const session = await engine.createSession({
      model: serializeOnnx(graph, externalDataFolder),
      externalDataFolder,
      threads: 1,
    });
    const y = new Float32Array((x.length / K) * N);
    const values = new RunValues(session);
    values.feed("x", float32(x, [x.length / K, K]));
    values.fetch("y", float32(y, [y.length / N, N]));
    await values.run(undefined);
    await session.dispose();
    return y;
  }

  it("are near the float product, the nearer the fewer columns share a scale", async () => {
    const byRow = errors(await run("row", ROWS), ROWS);
    const byColumns = errors(await run("columns", ROWS), ROWS);
    for (const error of [byRow[0], byRow[2], byColumns[0], byColumns[2]]) expect(error).toBeLessThan(0.02);
    // The outlier takes its 16 columns with it, and not the other 384.
    expect(byColumns[1]).toBeLessThan(byRow[1]! / 1.5);
  });

  it("give a row the same numbers whatever its neighbours are, and zeros for zeros", async () => {
    const together = await run("columns", ROWS);
    const alone = await run("columns", ROWS.slice(0, K));
    expect(together.subarray(0, N)).toEqual(alone);
    expect(await run("row", new Float32Array(K))).toEqual(new Float32Array(N));
  });

  it("lie column by column, with a scale for each output", async () => {
    const { weights, bytesByStorage } = await load(new Encoder("columns"));
    const weight = weights.get("linear.weight") as Int8Weight;
    expect(weight).toMatchObject({ kind: "int8", shape: [N, K], columns: 384 });
    expect([weight.codes.length, weight.scales.length]).toEqual([N * K, 4 * N]);
    expect([...bytesByStorage.keys()]).toEqual(["int8 (many rows)"]);
    expect((await load(new Encoder("none"))).weights.get("linear.weight")).toMatchObject({ kind: "float" });
  });

  it("are for models whose tokens see later ones", () => {
    expect(new Gemma3TextModule(new Gemma3TextConfig({ use_bidirectional_attention: true })).manyRows).toBe(
      true,
    );
    expect(new Gemma3TextModule(new Gemma3TextConfig({})).manyRows).toBe(false);
  });
});
