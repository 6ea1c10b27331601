import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { writeSafetensors } from "../checkpoints/write-safetensors.ts";
import { loadCache, saveCache } from "./cache-file.ts";
import { readRow } from "./cache-tensors.ts";
import { type CacheLayer, KeyValueCache } from "./kv-cache.ts";

const layers: readonly CacheLayer[] = [
  { kind: "sliding", kv_heads: 2, head_dim: 16, true_head_dim: 12, window: 4 },
  { kind: "full", kv_heads: 1, head_dim: 4, window: null },
];

let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "lapidary-cache-file-"));
});

afterAll(() => rm(folder, { recursive: true }));

/** A row of 3 positions that jump, with one hidden, and one of 200. */
function example(): KeyValueCache {
  const cache = new KeyValueCache(layers, 2, 4);
  const step = (counts: number[], positions?: number[][]): void => {
    cache.reserve(counts);
    for (const [i, { kv_heads, head_dim }] of layers.entries()) {
      for (const [row, count] of counts.entries()) {
        const data = Float32Array.from({ length: kv_heads * count * head_dim }, (_, n) =>
          Math.sin(n + 7 * i + row),
        );
        cache.append(i, row, data, data.map(Math.abs), count);
      }
    }
    cache.commit(counts, positions);
  };
  step([3, 0], [[0, 5, 6]]);
  step([0, 100]);
  step([0, 100]);
  cache.hide(0, [1]);
  return cache;
}

describe("saved caches", () => {
  it("come back as they were, without the padding of heads", async () => {
    const path = join(folder, "cache.safetensors");
    const cache = example();
    await saveCache(path, cache);
    const loaded = await loadCache(path);
    expect(loaded.layers).toEqual([
      { kind: "sliding", kv_heads: 2, head_dim: 12, window: 4 },
      { kind: "full", kv_heads: 1, head_dim: 4, window: null },
    ]);
    expect([loaded.lengths, loaded.nextPositions, [...loaded.hidden(0)]]).toEqual([[3, 200], [7, 200], [1]]);
    for (const [i, { kind }] of layers.entries()) {
      expect(loaded.held(kind)).toEqual(cache.held(kind));
      for (const row of [0, 1]) {
        const held = cache.held(kind)[row]!;
        expect(readRow(loaded, i, row, held)).toEqual(readRow(cache, i, row, held));
      }
    }
  });

  it("are refused when cut off", async () => {
    const path = join(folder, "cut.safetensors");
    await saveCache(path, example());
    const bytes = await readFile(path);
    for (const length of [0, 7, 100, bytes.length - 1]) {
      await writeFile(path, bytes.subarray(0, length));
      await expect(loadCache(path)).rejects.toThrow(path);
    }
  });

  const shape = {
    layers: [{ kind: "full", kv_heads: 1, head_dim: 2, window: null as unknown }],
    rows: [{ length: 3, jumps: [] as unknown, hidden: [] as unknown }],
  };
  const [layer, row] = [shape.layers[0]!, shape.rows[0]!];
  it.each<[string, object, object, string]>([
    ["another format", {}, { format: "pt" }, "is not a saved cache"],
    ["a later version", {}, { version: "2" }, "format version"],
    ["no contents", {}, { cache: "" }, "the JSON header"],
    ["no layers", { layers: [] }, {}, "layers must be a list"],
    ["layers of numbers", { layers: [3] }, {}, "a layer is 3"],
    ["endless heads", { layers: [{ ...layer, kv_heads: 1e9 }] }, {}, "kv_heads is 1000000000"],
    ["a window of nothing", { layers: [{ ...layer, window: 0 }] }, {}, "window is 0"],
    ["a kind that is no name", { layers: [{ ...layer, kind: ["full"] }] }, {}, "a layer's kind"],
    ["more layers", { layers: [layer, layer] }, {}, "has 2 tensors, expected 4"],
    ["many rows", { rows: new Array(70_000).fill(row) }, {}, "rows must be a list"],
    ["a longer row", { rows: [{ ...row, length: 4 }] }, {}, "expected F32[1, 4 to 4, 2]"],
    ["a shorter row", { rows: [{ ...row, length: 2 }] }, {}, "expected F32[1, 2 to 2, 2]"],
    ["jumps outside", { rows: [{ ...row, jumps: [{ from: 3, offset: 1 }] }] }, {}, "the token of a jump"],
    ["jumps of text", { rows: [{ ...row, jumps: [{ from: "0", offset: 1 }] }] }, {}, "the token of a jump"],
    ["hidden outside", { rows: [{ ...row, hidden: [7] }] }, {}, "a token to hide"],
    ["more hidden than tokens", { rows: [{ ...row, hidden: [0, 0, 0, 0] }] }, {}, "hidden must be a list"],
  ])("are refused with %s", async (_, contents, metadata, message) => {
    const path = join(folder, "bad.safetensors");
    const data = [new Uint8Array(24)];
    const tensors = ["key", "value"].map((part) => ({
      name: `rows.0.layers.0.${part}`,
      dtype: "F32" as const,
      shape: [1, 3, 2],
      data,
    }));
    await writeSafetensors(path, tensors, {
      format: "lapidary key-value cache",
      version: "1",
      cache: JSON.stringify({ ...shape, ...contents }),
      ...metadata,
    });
    await expect(loadCache(path)).rejects.toThrow(message);
  });
});
