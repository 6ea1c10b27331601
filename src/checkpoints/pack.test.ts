import { mkdir, mkdtemp, readdir, readFile, rm, stat, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { flaxBytes } from "../../test/checkpoints/flax-bytes.ts";
import { CheckpointError } from "../errors.ts";
import type { NBitsWeight } from "../graph/weights.ts";
import { openCheckpoint } from "./open.ts";
import { loadWeights } from "./pack.ts";
import { appendPrepared } from "./pack-append.ts";
import type { StorageDtype, WeightRequest } from "./pack-plan.ts";
import { openSafetensors } from "./safetensors.ts";
import { writeSafetensors } from "./write-safetensors.ts";

const SHAPES = new Map<string, readonly number[]>([
  ["table", [6, 32]],
  ["q", [4, 40]],
  ["k", [2, 40]],
  ["norm", [40]],
]);

function request(dtype: StorageDtype): WeightRequest {
  return {
    parameters: SHAPES,
    groups: [["q", "k"]],
    tables: new Set(["table"]),
    sensitive: new Set<string>(),
    byRow: new Set(),
    plain: new Set<string>(),
    dtype,
    tablesDtype: dtype,
  };
}

describe("packs", () => {
  let folder: string;
  let source: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), "lapidary-pack-"));
    source = join(folder, "model.safetensors");
    const tensors = [...SHAPES].map(([name, shape]) => {
      const values = Float32Array.from({ length: shape.reduce((a, b) => a * b) }, (_, i) =>
        Math.sin(i + name.length),
      );
      return { name, dtype: "F32" as const, shape, data: [new Uint8Array(values.buffer)] };
    });
    await writeSafetensors(source, tensors);
  });
  afterEach(() => rm(folder, { recursive: true }));

  async function load(dtype: StorageDtype): ReturnType<typeof loadWeights> {
    const checkpoint = await openCheckpoint(source);
    return loadWeights(checkpoint, request(dtype), { folder: join(folder, "packs") }).finally(() =>
      checkpoint.close(),
    );
  }

  it("uses float32 where it lies", async () => {
    const { weights, pack } = await load("auto");
    expect(pack).toBeUndefined();
    expect(weights.get("q")).toMatchObject({ kind: "float", dtype: "float32", range: { length: 4 * 160 } });
    expect(weights.get("norm")).toMatchObject({ kind: "inline", shape: [40] });
  });

  it("lays the weights of one input side by side", async () => {
    const { weights } = await load("q8");
    const [q, k] = [weights.get("q"), weights.get("k")] as [NBitsWeight, NBitsWeight];
    expect(q.codes.offset + q.codes.length).toBe(k.codes.offset);
    expect(q.scales.offset + q.scales.length).toBe(k.scales.offset);
    // 40 columns take two blocks of 32.
    expect(q.codes.length).toBe(4 * 64);
  });

  it("keeps eight bits for tables in q4", async () => {
    const { weights } = await load("q4");
    expect(weights.get("table")).toMatchObject({ kind: "nbits", bits: 8 });
    expect(weights.get("q")).toMatchObject({ kind: "nbits", bits: 4 });
    const checkpoint = await openCheckpoint(source);
    const sensitive = { ...request("q4"), sensitive: new Set(["q", "k"]) };
    const kept = await loadWeights(checkpoint, sensitive, { folder: join(folder, "packs") }).finally(() =>
      checkpoint.close(),
    );
    expect(kept.weights.get("q")).toMatchObject({ kind: "nbits", bits: 8 });
  });

  it("is made once, and again when damaged or when its source changes", async () => {
    const { pack } = await load("q8");
    const made = (await stat(pack!)).mtimeMs;
    expect((await load("q8")).pack).toBe(pack);
    expect((await stat(pack!)).mtimeMs).toBe(made);
    const contents = await readFile(pack!);
    await truncate(pack!, contents.length - 8);
    await load("q8");
    expect(await readFile(pack!)).toEqual(contents);
    await new Promise((done) => setTimeout(done, 20));
    await writeSafetensors(
      source,
      [...SHAPES].map(([name, shape]) => ({
        name,
        dtype: "F32" as const,
        shape,
        data: [new Uint8Array(4 * shape.reduce((a, b) => a * b))],
      })),
    );
    expect((await load("q8")).pack).not.toBe(pack);
  });

  it("leaves nothing behind when it is stopped", async () => {
    const checkpoint = await openCheckpoint(source);
    const options = { folder: join(folder, "packs"), signal: AbortSignal.abort(new Error("enough")) };
    await expect(loadWeights(checkpoint, request("q8"), options)).rejects.toThrow("enough");
    await checkpoint.close();
    expect(await readdir(options.folder)).toEqual([]);
  });

  it("refuses a tensor of another shape", async () => {
    const checkpoint = await openCheckpoint(source);
    const wrong = { ...request("q8"), parameters: new Map([["q", [4, 41]]]) };
    await expect(loadWeights(checkpoint, wrong, { folder })).rejects.toThrow(CheckpointError);
    await expect(loadWeights(checkpoint, wrong, { folder })).rejects.toThrow(
      /\[4, 40\], the configuration asks for \[4, 41\]/,
    );
    await checkpoint.close();
  });

  it("gives the weights of a Flax model to the engine as PyTorch's", async () => {
    const values = Float32Array.from({ length: 160 }, (_, i) => Math.sin(i));
    const transposed = Float32Array.from(values, (_, i) => values[(i % 4) * 40 + Math.floor(i / 4)]!);
    const model = join(folder, "flax");
    await mkdir(model);
    const paths = [join(model, "model.safetensors"), join(model, "flax_model.msgpack")] as const;
    const plain = { name: "q.weight", dtype: "F32" as const, shape: [4, 40] };
    await writeSafetensors(paths[0], [{ ...plain, data: [new Uint8Array(values.buffer)] }]);
    const kernel = { dtype: "float32", shape: [40, 4], data: new Uint8Array(transposed.buffer) };
    await writeFile(paths[1], flaxBytes({ map: { q: { map: { kernel } } } }));
    for (const dtype of ["fp32", "bf16", "q8"] as const) {
      const [fromTorch, fromFlax] = await Promise.all(paths.map((path) => storedBytes(path, dtype)));
      expect(fromFlax).toEqual(fromTorch);
    }
  });

  /** What the engine would read of the weight q. */
  async function storedBytes(path: string, dtype: StorageDtype): Promise<Buffer[]> {
    const checkpoint = await openCheckpoint(path);
    const wanted = { ...request(dtype), parameters: new Map([["q.weight", [4, 40]]]), groups: [] };
    const { weights } = await loadWeights(checkpoint, wanted, { folder: join(folder, "packs") }).finally(() =>
      checkpoint.close(),
    );
    const weight = weights.get("q.weight")!;
    if (weight.kind === "inline") throw new Error("a matrix is not inline");
    const ranges = weight.kind === "float" ? [weight.range] : [weight.codes, weight.scales];
    return Promise.all(
      ranges.map(async ({ file, offset, length }) =>
        (await readFile(file)).subarray(offset, offset + length),
      ),
    );
  }

  it("takes one preparation at its end, at page borders, and stays readable", async () => {
    const { pack } = await load("q8");
    const before = await readFile(pack!);
    const offsets = await appendPrepared(pack!, source, [
      { offset: 8, length: 100 },
      { offset: 0, length: 8 },
    ]);
    expect(offsets!.every((offset) => offset % 4096 === 0)).toBe(true);
    const after = await readFile(pack!);
    const original = await readFile(source);
    expect(after.subarray(offsets![0], offsets![0]! + 100)).toEqual(original.subarray(8, 108));
    const reopened = await openSafetensors(pack!);
    expect(reopened.tensors.has("#prepared")).toBe(true);
    const data = reopened.tensors.get("q#codes")!;
    expect(after.subarray(data.offset, data.offset + data.length)).toEqual(
      before.subarray(data.offset, data.offset + data.length),
    );
    await reopened.close();
    expect(await appendPrepared(pack!, source, [{ offset: 0, length: 8 }])).toBeUndefined();
  });
});
