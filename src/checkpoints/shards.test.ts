import { Buffer } from "node:buffer";
import { mkdirSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { safetensorsBytes, temporaryFolder, write } from "../../test/checkpoints/files.ts";
import { CheckpointError } from "../errors.ts";
import { openSharded } from "./shards.ts";

const folder = temporaryFolder();
const index = join(folder, "model.safetensors.index.json");

function writeShard(path: string, ...names: string[]) {
  const entries = names.map((name, i) => [name, { dtype: "U8", shape: [1], data_offsets: [i, i + 1] }]);
  return write(path, safetensorsBytes(Object.fromEntries(entries), Buffer.from(names.map((_, i) => i + 1))));
}

function open(weightMap: unknown) {
  return openSharded(write(index, JSON.stringify({ metadata: { total_size: 3 }, weight_map: weightMap })));
}

writeShard(join(folder, "1.safetensors"), "a", "b");
writeShard(join(folder, "2.safetensors"), "c");
writeShard(join(folder, "again.safetensors"), "b");
mkdirSync(join(folder, "blobs"));
mkdirSync(join(folder, "snapshot/deep"), { recursive: true });

describe("openSharded", () => {
  it("joins the shards", async () => {
    const checkpoint = await open({ a: "1.safetensors", c: "2.safetensors", b: "1.safetensors" });
    expect(checkpoint.files).toEqual([join(folder, "1.safetensors"), join(folder, "2.safetensors")]);
    expect([...checkpoint.tensors.keys()].sort()).toEqual(["a", "b", "c"]);
    expect(await checkpoint.read(checkpoint.tensors.get("b")!)).toEqual(Buffer.of(2));
    expect(await checkpoint.read(checkpoint.tensors.get("c")!)).toEqual(Buffer.of(1));
    await checkpoint.close();
  });

  it("follows the links of a hub snapshot, and a shard in a folder below", async () => {
    const snapshot = join(folder, "snapshot");
    const first = writeShard(join(folder, "blobs/0123"), "a");
    const second = writeShard(join(folder, "blobs/4567"), "b");
    const json = JSON.stringify({ weight_map: { a: "1.safetensors", b: "deep/2.safetensors" } });
    const blob = write(join(folder, "blobs/89ab"), json);
    symlinkSync("../blobs/0123", join(snapshot, "1.safetensors"));
    symlinkSync("../../blobs/4567", join(snapshot, "deep/2.safetensors"));
    symlinkSync(blob, join(snapshot, "model.safetensors.index.json"));
    const checkpoint = await openSharded(join(snapshot, "model.safetensors.index.json"));
    expect(checkpoint.files).toEqual([first, second]);
    expect(checkpoint.tensors.get("a")!.file).toBe(first);
    expect(await checkpoint.read(checkpoint.tensors.get("b")!)).toEqual(Buffer.of(1));
    await checkpoint.close();
  });

  it.each([
    ["a missing shard", { a: "3.safetensors" }, "3.safetensors: no such file"],
    ["a tensor that its shard lacks", { x: "1.safetensors" }, "1.safetensors: x: the index lists it here"],
    [
      "a tensor listed in the wrong shard",
      { a: "1.safetensors", b: "2.safetensors" },
      "2.safetensors: b: the index lists it here",
    ],
    [
      "a tensor in two shards",
      { a: "1.safetensors", b: "again.safetensors" },
      "again.safetensors: b: is also in .*1.safetensors",
    ],
    ["an index that names itself", { a: "model.safetensors.index.json" }, "an index can't name an index"],
    ["a way out", { a: "../x.safetensors" }, "a: its shard .* is not a file name inside"],
    ["a way out below", { a: "deep/../../x.safetensors" }, "a: its shard .* is not a file name inside"],
    ["an absolute path", { a: "/x.safetensors" }, "a: its shard .* is not a file name inside"],
    ["a drive", { a: "C:x.safetensors" }, "a: its shard .* is not a file name inside"],
    ["a backslash", { a: "..\\x.safetensors" }, "a: its shard .* is not a file name inside"],
    ["a NUL", { a: "x\0.safetensors" }, "a: its shard .* is not a file name inside"],
    ["an empty name", { a: "" }, "a: its shard .* is not a file name inside"],
    ["another kind of file", { a: "pytorch_model.bin" }, "a: its shard .* is not a .safetensors file"],
    ["a shard that is no text", { a: 1 }, "a: its shard is 1, not a name"],
    ["an empty map", {}, "its weight_map is empty"],
    ["no map", null, "has no weight_map object"],
  ])("refuses %s", async (_, weightMap, message) => {
    const opening = open(weightMap);
    await expect(opening).rejects.toBeInstanceOf(CheckpointError);
    await expect(opening).rejects.toThrow(new RegExp(message));
  });

  it("refuses duplicate names and links in a circle", async () => {
    const twice = '{"weight_map":{"a":"1.safetensors","a":"2.safetensors"}}';
    await expect(openSharded(write(index, twice))).rejects.toThrow("a: duplicate name");
    symlinkSync("circle.safetensors", join(folder, "circle.safetensors"));
    await expect(open({ a: "circle.safetensors" })).rejects.toThrow("symbolic links form a cycle");
  });
});
