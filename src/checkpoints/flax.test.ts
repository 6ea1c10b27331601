import { Buffer } from "node:buffer";
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { safetensorsBytes, temporaryFolder, write } from "../../test/checkpoints/files.ts";
import { chunked, extension, type FlaxValue, flaxBytes } from "../../test/checkpoints/flax-bytes.ts";
import { CheckpointError } from "../errors.ts";
import { bfloat16ToFloat32 } from "../quantization/half.ts";
import type { Checkpoint } from "./checkpoint.ts";
import { openFlax } from "./flax.ts";
import { openCheckpoint } from "./open.ts";

const FIXTURES = new URL("../../test/fixtures/", import.meta.url);
const folder = temporaryFolder();

interface Expected {
  /** Row 5 of each matrix, by PyTorch's name. */
  readonly rows: Readonly<Record<string, readonly number[]>>;
}

function fixture(name: string): { path: string; expected: Expected } {
  const path = new URL(`${name}/`, FIXTURES).pathname;
  return { path, expected: JSON.parse(readFileSync(join(path, "expected.json"), "utf8")) as Expected };
}

async function row(checkpoint: Checkpoint, name: string, index: number): Promise<number[]> {
  const slice = checkpoint.tensors.get(name)!;
  const bytes = slice.length / slice.shape[0]!;
  const read = await checkpoint.read(slice, index * bytes, (index + 1) * bytes);
  const values = new Float32Array(slice.shape[1]!);
  if (slice.dtype === "BF16") bfloat16ToFloat32(read, values);
  else new Uint8Array(values.buffer).set(read);
  return Array.from(values, (value) => Number(value.toPrecision(7)));
}

function open(value: FlaxValue | Uint8Array): Promise<Checkpoint> {
  const bytes = value instanceof Uint8Array ? value : flaxBytes(value);
  return openFlax(write(join(folder, "model.msgpack"), bytes));
}

function array(dtype: string, shape: readonly number[], data: readonly number[]): FlaxValue {
  return { dtype, shape, data: Uint8Array.from(data) };
}

const raw = (...bytes: number[]): FlaxValue => ({ raw: Uint8Array.from(bytes) });

describe("checkpoints that Flax wrote", () => {
  it.each([
    ["flax-gemma", "F32", 1],
    ["flax-gemma-sharded", "BF16", 3],
    ["flax-gemma-base", "BF16", 1],
  ])("%s has PyTorch's names and matrices", async (name, dtype, files) => {
    const { path, expected } = fixture(name);
    const checkpoint = await openCheckpoint(path);
    expect(checkpoint.format).toBe("flax");
    expect(checkpoint.files).toHaveLength(files);
    const { tensors } = checkpoint;
    const prefix = name.endsWith("base") ? "" : "model.";
    expect(tensors.get(`${prefix}layers.1.self_attn.q_proj.weight`)).toMatchObject({
      dtype,
      shape: [48, 32],
    });
    expect(tensors.get(`${prefix}embed_tokens.weight`)).toMatchObject({ shape: [64, 32] });
    expect(tensors.get(`${prefix}layers.0.input_layernorm.weight`)!.shape).toEqual([32]);
    expect(tensors.get(`${prefix}norm.weight`)!.shape).toEqual([32]);
    expect(tensors.size).toBe(2 * 9 + 2);
    for (const [key, values] of Object.entries(expected.rows)) {
      const found = await row(checkpoint, key, 5);
      expect(found).toHaveLength(values.length);
      for (const [i, value] of found.entries()) expect(value).toBeCloseTo(values[i]!, 6);
    }
    expect(Object.keys(expected.rows)).toHaveLength(2 * 7 + 1);
    await checkpoint.close();
  });

  it("that were saved as safetensors are renamed and transposed too", async () => {
    const model = join(folder, "as-safetensors");
    mkdirSync(model);
    const header = {
      __metadata__: { format: "flax" },
      "lm_head.kernel": { dtype: "U8", shape: [2, 3], data_offsets: [0, 6] },
    };
    write(join(model, "model.safetensors"), safetensorsBytes(header, Uint8Array.of(1, 2, 3, 4, 5, 6)));
    const checkpoint = await openCheckpoint(model);
    const slice = checkpoint.tensors.get("lm_head.weight")!;
    expect(slice.shape).toEqual([3, 2]);
    expect([...(await checkpoint.read(slice))]).toEqual([1, 4, 2, 5, 3, 6]);
    await checkpoint.close();
  });
});

describe("openFlax", () => {
  it("renames parameters, and passes over what is no array", async () => {
    const checkpoint = await open({
      map: {
        a: {
          map: {
            kernel: array("int8", [2, 3], [1, 2, 3, 4, 5, 6]),
            bias: array("uint8", [1], [7]),
          },
        },
        norm: { map: { scale: array("bool", [], [1]) } },
        conv: { map: { kernel: array("uint8", [1, 1, 2], [8, 9]) } },
        kernel: array("int16", [0, 4], []),
        step: raw(0xcf, 0, 0, 0, 0, 0, 0, 0, 3),
        name: raw(0xa2, 0x68, 0x69),
        none: raw(0xc0),
        rate: raw(0xcb, 0, 0, 0, 0, 0, 0, 0, 0),
        complex: { raw: extension(2, Buffer.of(0x92, 0, 0)) },
      },
    });
    const shapes = [...checkpoint.tensors.values()].map(({ name, shape }) => [name, shape]);
    expect(shapes).toEqual([
      ["a.weight", [3, 2]],
      ["a.bias", [1]],
      ["norm.weight", []],
      ["conv.kernel", [1, 1, 2]],
      ["kernel", [0, 4]],
    ]);
    await checkpoint.close();
  });

  it("reads across the chunks of a large array", async () => {
    const data = Uint8Array.from({ length: 24 }, (_, i) => i);
    const checkpoint = await open({
      map: {
        table: { map: { embedding: chunked("int16", [4, 3], data, 5) } },
        layer: { map: { kernel: chunked("int16", [4, 3], data, 5) } },
      },
    });
    const table = checkpoint.tensors.get("table.weight")!;
    expect([...(await checkpoint.read(table))]).toEqual([...data]);
    expect([...(await checkpoint.read(table, 8, 22))]).toEqual([...data.subarray(8, 22)]);
    expect([...(await checkpoint.read(table, 20, 20))]).toEqual([]);
    const layer = checkpoint.tensors.get("layer.weight")!;
    expect([...(await checkpoint.read(layer, 8, 16))]).toEqual([2, 3, 8, 9, 14, 15, 20, 21]);
    await checkpoint.close();
  });

  it.each<[string, FlaxValue | Uint8Array, string]>([
    ["an empty file", new Uint8Array(), "header: needs 1 bytes, but the file has 0 left"],
    ["a list", raw(0x90), "is not a Flax checkpoint: it begins with array, expected map"],
    ["a pointer", Buffer.from("version https://git-lfs"), "is a Git LFS pointer"],
    ["bytes at the end", raw(0x80, 0), "1 bytes after the parameters belong to none"],
    ["a byte without meaning", raw(0x81, 0xa1, 0x61, 0xc1), "a: byte 3 begins no msgpack value"],
    ["a key that is a number", raw(0x81, 1, 2), "header: a number, expected a string"],
    ["a key that is no text", raw(0x81, 0xa1, 0xff, 2), "a string is not valid UTF-8"],
    ["a long key", raw(0x81, 0xda, 0x10, 0, ...new Uint8Array(4096)), "a string of 4096 bytes, at most 1024"],
    ["a key twice", raw(0x82, 0xa1, 0x61, 1, 0xa1, 0x61, 1), 'the key "a" occurs twice'],
    ["more entries than bytes", raw(0xdf, 0xff, 0xff, 0xff, 0xff), "needs 8589934590 bytes"],
    ["a string beyond the end", raw(0x81, 0xa1, 0x61, 0xdb, 0x7f, 0, 0, 0), "needs 2130706432 bytes"],
    ["a list of arrays", raw(0x81, 0xa1, 0x61, 0x91, 0x80), "a: is a list"],
    [
      "another extension",
      { map: { a: { raw: extension(9, Buffer.of(1)) } } },
      "a: holds msgpack extension 9",
    ],
    ["another dtype", { map: { a: array("uint16", [1], [0, 0]) } }, 'a: dtype "uint16" can\'t be read'],
    ["a wrong length", { map: { a: array("int8", [3], [1, 2]) } }, "I8[3] takes 3 bytes, but there are 2"],
    ["an absurd shape", { map: { a: array("int8", Array(5).fill(0xffff_ffff), []) } }, "overflows"],
    [
      "one name twice",
      { map: { a: { map: { scale: array("int8", [1], [0]), weight: array("int8", [1], [0]) } } } },
      "a.weight: duplicate name",
    ],
    [
      "a point in a key",
      { map: { "a.b": array("int8", [1], [0]), a: { map: { b: array("int8", [1], [0]) } } } },
      "a.b: duplicate name",
    ],
    [
      "an array that ends too early",
      { map: { a: { raw: extension(1, Buffer.from("9391cc00a4696e7438c40000", "hex")) } } },
      "its bytes end at",
    ],
    [
      "chunks without shape",
      { map: { a: { map: { __msgpack_chunked_array__: raw(0xc3), chunks: raw(0x80) } } } },
      "has 2 keys, expected 3",
    ],
    [
      "a mark that comes late",
      { map: { a: { map: { shape: raw(0x80), __msgpack_chunked_array__: raw(0xc3) } } } },
      "must be the first key",
    ],
    ["no chunks", { map: { a: chunked("int8", [0], new Uint8Array(), 1) } }, "must have a shape and chunks"],
    [
      "too few chunks",
      {
        map: {
          a: {
            map: {
              __msgpack_chunked_array__: raw(0xc3),
              shape: raw(0x81, 0xa1, 0x30, 9),
              chunks: { map: { "0": array("int8", [1], [0]) } },
            },
          },
        },
      },
      "I8[9] takes 9 bytes, but there are 1",
    ],
  ])("refuses %s", async (_name, value, message) => {
    const opening = open(value);
    await expect(opening).rejects.toBeInstanceOf(CheckpointError);
    await expect(opening).rejects.toThrow(message);
    await expect(opening).rejects.toThrow(`${folder}/model.msgpack: `);
  });

  it("refuses a tree that is too deep", async () => {
    let value = array("int8", [1], [0]);
    for (let i = 0; i < 40; i++) value = { map: { a: value } };
    await expect(open(value)).rejects.toThrow("is nested deeper than 16");
  });
});

describe("sharded Flax checkpoints", () => {
  const sharded = join(folder, "sharded");
  mkdirSync(sharded);
  const index = (map: Record<string, string>): string =>
    write(join(sharded, "flax_model.msgpack.index.json"), JSON.stringify({ weight_map: map }));
  write(
    join(sharded, "1.msgpack"),
    flaxBytes({ map: { a: { map: { kernel: array("int8", [1, 2], [1, 2]) } } } }),
  );
  write(join(sharded, "2.msgpack"), flaxBytes({ map: { a: { map: { bias: array("int8", [2], [3, 4]) } } } }));

  it("are joined by the index, which spells names with slashes", async () => {
    index({ "a/kernel": "1.msgpack", "a/bias": "2.msgpack" });
    const checkpoint = await openCheckpoint(sharded);
    expect([...checkpoint.tensors.keys()]).toEqual(["a.weight", "a.bias"]);
    expect([...(await checkpoint.read(checkpoint.tensors.get("a.bias")!))]).toEqual([3, 4]);
    await checkpoint.close();
  });

  it("must hold what the index lists, in msgpack files", async () => {
    index({ "a/kernel": "2.msgpack" });
    await expect(openCheckpoint(sharded)).rejects.toThrow("a/kernel: the index lists it here");
    index({ "a/kernel": "1.safetensors" });
    await expect(openCheckpoint(sharded)).rejects.toThrow("is not a .msgpack file");
  });
});
