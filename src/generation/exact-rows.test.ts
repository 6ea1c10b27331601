import { readFileSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Graph } from "../graph/graph.ts";
import { serializeOnnx } from "../graph/onnx/serialize.ts";
import { linearNBits } from "../graph/ops/math.ts";
import { quantizeRows } from "../quantization/matmul-nbits.ts";
import { createNativeEngine } from "../runtime/native.ts";
import { float32, RunValues } from "./decoder-model.ts";
import { allocateInput, roundInput, scoreRows } from "./exact-rows.ts";
import { Random } from "./sampling.ts";

/** Elsewhere the kernel sums in another order, which SplitHead finds out. */
const flags = process.platform === "linux" ? readFileSync("/proc/cpuinfo", "utf8") : "";
const known = process.arch === "x64" && /\bavx2\b/.test(flags) && !/\bavx512f\b/.test(flags);
const N = 96;

describe.skipIf(!known)("rows are scored bit for bit as the engine does", () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "lapidary-rows-"));
  });
  afterAll(() => rm(folder, { recursive: true }));

  it.each([32, 64, 96, 256, 640, 1152])("with %i elements", async (K) => {
    const random = new Random(K);
    const values = Float32Array.from({ length: N * K }, () => (random.next() - 0.5) ** 3);
    const codes = new Uint8Array(N * K);
    const scales = new Float32Array((N * K) / 32);
    quantizeRows(values, N, K, { bits: 8, block_size: 32 }, codes, scales);
    const run = await bindLayer(K, codes, scales);
    const input = allocateInput(K);
    const rows = new Float32Array(N);
    for (let trial = 0; trial < 20; trial++) {
      for (let i = 0; i < K; i++) run.x[i] = (random.next() - 0.5) * (i % 13 === 0 ? 100 : 1);
      if (trial === 0) run.x.fill(0);
      await run.binding.run();
      roundInput(run.x, input);
      scoreRows(input, codes, scales, N, rows);
      expect(rows).toEqual(run.y);
    }
    run.release();
  });

  async function bindLayer(K: number, codes: Uint8Array, scales: Float32Array) {
    const file = join(folder, `${K}.bin`);
    await writeFile(file, Buffer.concat([codes, new Uint8Array(scales.buffer)]));
    const graph = new Graph("test");
    const input = graph.input("x", "float32", [1, K]);
    const [length, rest] = [codes.length, scales.byteLength];
    const data = graph.initializer("codes", "uint8", [N, K / 32, 32], { file, offset: 0, length });
    const factors = graph.initializer("scales", "float32", [N, K / 32], {
      file,
      offset: length,
      length: rest,
    });
    graph.output("y", linearNBits(input, data, factors, { bits: 8, block_size: 32, N, K }));
    const session = await createNativeEngine().createSession({
      model: serializeOnnx(graph, folder),
      externalDataFolder: folder,
    });
    const [x, y] = [new Float32Array(K), new Float32Array(N)];
    const run = new RunValues(session);
    run.feed("x", float32(x, [1, K]));
    run.fetch("y", float32(y, [1, N]));
    return { x, y, ...run.bind() };
  }
});
