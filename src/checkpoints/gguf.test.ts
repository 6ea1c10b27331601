import { Buffer } from "node:buffer";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { type GgufContent, ggufBytes, temporaryFolder, write } from "../../test/checkpoints/files.ts";
import { tinyGemma3 } from "../../test/checkpoints/tiny-gemma3-gguf.ts";
import { CheckpointError } from "../errors.ts";
import { openGguf } from "./gguf.ts";
import { configFromGguf } from "./gguf-config.ts";
import { PackedStrings } from "./packed-strings.ts";

const folder = temporaryFolder();
const path = join(folder, "model.gguf");
const realGguf = process.env.LAPIDARY_TEST_GGUF;

function open(content: GgufContent) {
  return openGguf(write(path, ggufBytes(content)));
}

const one = (name: string, more: object = {}) => ({
  name,
  axes: [1],
  type: 0,
  data: new Uint8Array(4),
  ...more,
});

describe("openGguf", () => {
  it("reads metadata of every type", async () => {
    const big = 2n ** 60n;
    const u32s = [1, 2, 3].map((u32) => ({ u32 }));
    const checkpoint = await open({
      metadata: [
        ["u8", { u8: 255 }],
        ["i8", { i8: -1 }],
        ["u16", { u16: 65_535 }],
        ["i16", { i16: -2 }],
        ["u32", { u32: 4_294_967_295 }],
        ["i32", { i32: -3 }],
        ["f32", { f32: 1.5 }],
        ["f64", { f64: 0.1 }],
        ["u64", { u64: 7n }],
        ["big", { u64: big }],
        ["i64", { i64: -8n }],
        ["bool", { bool: 1 }],
        ["string", { string: "▁é" }],
        ["strings", { array: [{ string: "a" }, { string: "" }, { string: "🙂" }] }],
        ["u32s", { array: u32s }],
        ["u64s", { array: [{ u64: big }] }],
        ["f32s", { array: [{ f32: 0.5 }, { f32: -0.5 }] }],
        ["bools", { array: [{ bool: 1 }, { bool: 0 }] }],
        ["nested", { array: [{ array: u32s }, { array: [{ string: "b" }] }] }],
        ["none", { array: [], of: 8 }],
      ],
    });
    const { strings, none, ...others } = Object.fromEntries(checkpoint.metadata);
    expect((strings as PackedStrings).toArray()).toEqual(["a", "", "🙂"]);
    expect((none as PackedStrings).length).toBe(0);
    expect(others).toEqual({
      u8: 255,
      i8: -1,
      u16: 65_535,
      i16: -2,
      u32: 4_294_967_295,
      i32: -3,
      f32: 1.5,
      f64: 0.1,
      u64: 7,
      big,
      i64: -8,
      bool: true,
      string: "▁é",
      u32s: Uint32Array.of(1, 2, 3),
      u64s: BigUint64Array.of(big),
      f32s: Float32Array.of(0.5, -0.5),
      bools: Uint8Array.of(1, 0),
      nested: [Uint32Array.of(1, 2, 3), expect.any(PackedStrings)],
    });
    await checkpoint.close();
  });

  it("gives tensors HF's names, PyTorch's shapes and their places", async () => {
    const content = tinyGemma3();
    const [, norm] = content.tensors!;
    const filled = { ...norm!, data: Buffer.from(new Float32Array(32).fill(2).buffer) };
    const checkpoint = await open({ ...content, tensors: [content.tensors![0]!, filled] });
    expect(checkpoint.format).toBe("gguf");
    expect(checkpoint.tensors.get("model.embed_tokens.weight")).toMatchObject({
      file: path,
      dtype: "F32",
      shape: [5, 32],
      length: 640,
    });
    const slice = checkpoint.tensors.get("model.norm.weight")!;
    expect(slice.storedPlusOne).toBe(true);
    expect(slice.offset % 32).toBe(0);
    expect(await checkpoint.read(slice)).toEqual(filled.data);
    await checkpoint.close();
  });

  it("knows the size of every format's blocks", async () => {
    const sizes = {
      F32: [0, 1024],
      F16: [1, 512],
      Q4_0: [2, 144],
      Q4_1: [3, 160],
      Q5_0: [6, 176],
      Q5_1: [7, 192],
      Q8_0: [8, 272],
      Q2_K: [10, 84],
      Q3_K: [11, 110],
      Q4_K: [12, 144],
      Q5_K: [13, 176],
      Q6_K: [14, 210],
      I8: [24, 256],
      I16: [25, 512],
      I32: [26, 1024],
      I64: [27, 2048],
      F64: [28, 2048],
      BF16: [30, 512],
    } as const;
    const tensors = Object.entries(sizes).map(([name, [type, bytes]]) => ({
      name,
      axes: [256],
      type,
      data: new Uint8Array(bytes),
    }));
    const checkpoint = await open({ tensors, version: 2 });
    for (const [name, [, bytes]] of Object.entries(sizes)) {
      expect(checkpoint.tensors.get(name)).toMatchObject({ dtype: name, length: bytes, shape: [256] });
    }
    await checkpoint.close();
  });

  it("honours general.alignment", async () => {
    const alignment = (value: number) => [["general.alignment", { u32: value }]] as const;
    const checkpoint = await open({
      metadata: alignment(256),
      alignment: 256,
      tensors: [one("a"), one("b")],
    });
    expect(checkpoint.tensors.get("b")!.offset % 256).toBe(0);
    await checkpoint.close();
    const refused = [{ u32: 0 }, { u32: 24 }, { f32: 0.5 }, { string: "32" }];
    for (const value of refused) {
      const opening = open({ metadata: [["general.alignment", value]] });
      await expect(opening).rejects.toThrow("metadata general.alignment is not a power of two");
    }
  });

  it.each<[string, GgufContent, string]>([
    ["version 1", { version: 1 }, "GGUF version 1, expected 2 or 3"],
    ["big-endian files", { version: 0x03000000 }, "big-endian"],
    ["an absurd tensor count", { tensorCount: 2n ** 40n }, "needs 26388279066624 bytes, but the file has"],
    ["an impossible tensor count", { tensorCount: 2n ** 63n }, "a 64-bit value .* is absurd"],
    ["an absurd entry count", { entryCount: 1_000_000n }, "it is truncated or damaged"],
    [
      "an array of unknown elements",
      { metadata: [["a", { array: [{ array: [], of: 99 }] }]] },
      "metadata a: unknown element type 99",
    ],
    [
      "an array of arrays without end",
      { metadata: [["a", { array: [{ array: [{ array: [{ array: [{ array: [] }] }] }] }] }]] },
      "metadata a: arrays are nested deeper than 4",
    ],
    ["a boolean of 2", { metadata: [["a", { bool: 2 }]] }, "metadata a: a boolean of 2"],
    [
      "duplicate keys",
      {
        metadata: [
          ["a", { u8: 1 }],
          ["a", { u8: 2 }],
        ],
      },
      "metadata a: duplicate name",
    ],
    ["duplicate tensors", { tensors: [one("a"), one("a")] }, "a: duplicate name"],
    [
      "tensors that get one name",
      {
        metadata: [["general.architecture", { string: "gemma3" }]],
        tensors: [one("output_norm.weight"), one("model.norm.weight")],
      },
      "model.norm.weight: duplicate name",
    ],
    [
      "overlapping tensors",
      { tensors: [one("a"), one("b", { offset: 0 })] },
      "b: starts at byte .* overlaps a",
    ],
    [
      "a misaligned tensor",
      { tensors: [one("a", { offset: 4 })] },
      "a: its offset 4 is not a multiple of 32",
    ],
    ["a tensor outside", { tensors: [one("a", { offset: 4096 })] }, "a: ends at byte .* it is truncated"],
    ["a huge tensor", { tensors: [one("a", { axes: [2n ** 40n] })] }, "a: ends at byte .* it is truncated"],
    [
      "an overflowing tensor",
      { tensors: [one("a", { axes: [2n ** 40n, 2n ** 40n] })] },
      "a: shape .* overflows",
    ],
    [
      "an axis beyond 2^53",
      { tensors: [one("a", { axes: [2n ** 63n] })] },
      "tensor a: a 64-bit value .* absurd",
    ],
    ["five axes", { tensors: [one("a", { axes: [1, 1, 1, 1, 1] })] }, "tensor a: has 5 axes"],
    [
      "half a block",
      { tensors: [one("a", { axes: [40], type: 8 })] },
      "a: last axis is 40, .* Q8_0's block of 32",
    ],
    ["MXFP4", { tensors: [one("a", { type: 39 })] }, "a: its type MXFP4 can't be read"],
    ["a type of the future", { tensors: [one("a", { type: 99 })] }, "a: its type number 99 can't be read"],
    ["one part of several", { metadata: [["split.count", { u16: 3 }]] }, "is one of 3 parts"],
  ])("refuses %s", async (_, content, message) => {
    const opening = open(content);
    await expect(opening).rejects.toBeInstanceOf(CheckpointError);
    await expect(opening).rejects.toThrow(new RegExp(`^${path}: .*${message}`));
  });

  it("checks what an array and a string claim against the file, before allocating", async () => {
    const bytes = ggufBytes({ metadata: [["a", { array: [{ u8: 1 }] }]] });
    const afterKey = 24 + 8 + 1;
    const patched = (at: number, ...values: number[]) => {
      const copy = Buffer.from(bytes);
      for (const [i, value] of values.entries()) copy.writeUInt32LE(value, at + 4 * i);
      return openGguf(write(path, copy));
    };
    await expect(patched(afterKey, 13)).rejects.toThrow("metadata a: unknown value type 13");
    for (const element of [0, 8, 9, 10]) {
      const claim = patched(afterKey + 4, element, 0xffffffff, 0xff);
      await expect(claim, `type ${element}`).rejects.toThrow(/metadata a: needs \d+ bytes, but the file has/);
    }
    await expect(patched(24, 70_000)).rejects.toThrow("a name of 70000 bytes");
    await expect(patched(24, 60_000)).rejects.toThrow("metadata entry 0: needs 60000 bytes");
  });

  it("refuses every truncation of a file", async () => {
    const whole = ggufBytes(tinyGemma3());
    for (let length = 0; length < whole.length - 32; length += 41) {
      const opening = openGguf(write(path, whole.subarray(0, length)));
      await expect(opening, `${length} bytes`).rejects.toBeInstanceOf(CheckpointError);
    }
  });

  it("refuses what is not GGUF", async () => {
    await expect(openGguf(write(path, "PK\u0003\u0004 is a zip file"))).rejects.toThrow("is not a GGUF file");
    await expect(openGguf(write(path, "FUGG\0\0\0\u0003"))).rejects.toThrow("is a big-endian GGUF file");
  });

  it("reads a header that is longer than its first chunks", async () => {
    const strings = Array.from({ length: 20_000 }, (_, i) => ({ string: `${i} ${"x".repeat(600)}` }));
    const checkpoint = await open({ metadata: [["tokens", { array: strings }]], tensors: [one("a")] });
    const tokens = checkpoint.metadata.get("tokens") as PackedStrings;
    expect(tokens.at(19_999)).toBe(strings[19_999]!.string);
    expect(checkpoint.tensors.get("a")!.length).toBe(4);
    await checkpoint.close();
  });

  it.skipIf(realGguf === undefined)("opens a real file", async () => {
    const checkpoint = await openGguf(realGguf!);
    expect(configFromGguf(checkpoint)).toMatchObject({ model_type: "gemma3_text", vocab_size: 262_144 });
    const norm = checkpoint.tensors.get("model.layers.0.input_layernorm.weight")!;
    expect((await checkpoint.read(norm)).length).toBe(norm.length);
    await checkpoint.close();
  });
});
