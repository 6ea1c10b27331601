import { mkdirSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { ggufBytes, safetensorsBytes, temporaryFolder, write } from "../../test/checkpoints/files.ts";
import { flaxBytes } from "../../test/checkpoints/flax-bytes.ts";
import { openCheckpoint } from "./open.ts";

const root = temporaryFolder();
const empty = safetensorsBytes({});
const index = '{"weight_map":{"a":"1.safetensors"}}';

function folder(name: string, files: Record<string, Uint8Array | string>): string {
  const path = join(root, name);
  mkdirSync(path);
  for (const [file, bytes] of Object.entries(files)) write(join(path, file), bytes);
  return path;
}

async function filesOf(path: string): Promise<readonly string[]> {
  const checkpoint = await openCheckpoint(path);
  await checkpoint.close();
  return checkpoint.files;
}

describe("openCheckpoint", () => {
  it("opens what a folder holds, and single files", async () => {
    const shard = safetensorsBytes(
      { a: { dtype: "U8", shape: [1], data_offsets: [0, 1] } },
      new Uint8Array(1),
    );
    const whole = folder("whole", { "model.safetensors": empty, "config.json": "{}", "a.gguf": "" });
    const sharded = folder("sharded", { "1.safetensors": shard, "model.safetensors.index.json": index });
    const gguf = folder("gguf", { "a.gguf": ggufBytes({}) });
    expect(await filesOf(whole)).toEqual([join(whole, "model.safetensors")]);
    expect(await filesOf(sharded)).toEqual([join(sharded, "1.safetensors")]);
    expect(await filesOf(gguf)).toEqual([join(gguf, "a.gguf")]);
    expect(await filesOf(join(whole, "model.safetensors"))).toEqual([join(whole, "model.safetensors")]);
    expect(await filesOf(join(sharded, "model.safetensors.index.json"))).toHaveLength(1);
    expect(await filesOf(join(gguf, "a.gguf"))).toHaveLength(1);
  });

  it("opens Flax's files where there is nothing else", async () => {
    const msgpack = flaxBytes({ map: { a: { dtype: "int8", shape: [1], data: Uint8Array.of(1) } } });
    const all = { "flax_model.msgpack": msgpack, "a.gguf": ggufBytes({}), "model.safetensors": empty };
    expect(await filesOf(folder("all", all))).toEqual([join(root, "all/model.safetensors")]);
    const { "model.safetensors": _, ...two } = all;
    expect(await filesOf(folder("two", two))).toEqual([join(root, "two/a.gguf")]);
    const flax = folder("flax", { "flax_model.msgpack": msgpack });
    expect(await filesOf(flax)).toEqual([join(flax, "flax_model.msgpack")]);
    expect(await filesOf(join(flax, "flax_model.msgpack"))).toHaveLength(1);
    const sharded = folder("flax-sharded", {
      "1.msgpack": msgpack,
      "flax_model.msgpack.index.json": '{"weight_map":{"a":"1.msgpack"}}',
    });
    expect(await filesOf(sharded)).toEqual([join(sharded, "1.msgpack")]);
  });

  it("gives the real path of a hub snapshot's link", async () => {
    const cache = folder("cache", {});
    mkdirSync(join(cache, "blobs"));
    mkdirSync(join(cache, "snapshots"));
    const blob = write(join(cache, "blobs/0123"), empty);
    symlinkSync("../blobs/0123", join(cache, "snapshots/model.safetensors"));
    expect(await filesOf(join(cache, "snapshots"))).toEqual([blob]);
  });

  it.each<[string, Record<string, string>, string]>([
    ["nothing", {}, "found an empty folder"],
    ["pickles", { "pytorch_model.bin": "", "config.json": "" }, "pytorch_model.bin can't be read; download"],
    ["several-ggufs", { "a.gguf": "", "b.gguf": "" }, "several GGUF files; name one: a.gguf, b.gguf"],
    [
      "adapter",
      { "adapter_model.safetensors": "" },
      "to open another file, name it: adapter_model.safetensors",
    ],
    ["others", { "config.json": "", "README.md": "" }, "found README.md, config.json"],
  ])("says what to do with a folder of %s", async (name, files, message) => {
    const path = folder(name, files);
    await expect(openCheckpoint(path)).rejects.toThrow(message);
    await expect(openCheckpoint(path)).rejects.toThrow(`${path}: `);
  });

  it("refuses what is not there and other files", async () => {
    await expect(openCheckpoint(join(root, "absent"))).rejects.toThrow("absent: no such file");
    const other = write(join(root, "model.bin"), "");
    await expect(openCheckpoint(other)).rejects.toThrow("expected a folder, a .safetensors");
  });
});
