import { Buffer } from "node:buffer";
import { existsSync, readdirSync } from "node:fs";
import { truncate } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { safetensorsBytes, temporaryFolder, write } from "../../test/checkpoints/files.ts";
import { CheckpointError } from "../errors.ts";
import { openSafetensors } from "./safetensors.ts";

const folder = temporaryFolder();
const path = join(folder, "model.safetensors");
const golden = join(import.meta.dirname, "../../../shared/golden");

const f32 = (shape: unknown, begin: unknown, end: unknown) => ({
  dtype: "F32",
  shape,
  data_offsets: [begin, end],
});

async function open(header: unknown, data = Buffer.alloc(0)) {
  return openSafetensors(write(path, safetensorsBytes(header, data)));
}

describe("openSafetensors", () => {
  it("gives tensors as slices of the file and reads parts of them", async () => {
    const data = Buffer.from(Float32Array.of(1, 2, 3, 4, 5).buffer);
    const checkpoint = await open(
      { __metadata__: { format: "pt" }, b: f32([2, 2], 4, 20), a: f32([], 0, 4), none: f32([0, 3], 4, 4) },
      data,
    );
    expect(checkpoint.format).toBe("safetensors");
    expect(checkpoint.files).toEqual([path]);
    expect([...checkpoint.metadata]).toEqual([["format", "pt"]]);
    expect([...checkpoint.tensors.keys()].sort()).toEqual(["a", "b", "none"]);
    const b = checkpoint.tensors.get("b")!;
    expect(b).toMatchObject({ name: "b", file: path, length: 16, dtype: "F32", shape: [2, 2] });
    expect(await checkpoint.read(b)).toEqual(data.subarray(4));
    expect(await checkpoint.read(b, 4, 8)).toEqual(data.subarray(8, 12));
    expect(await checkpoint.read(checkpoint.tensors.get("none")!)).toEqual(Buffer.alloc(0));
    for (const [start, end] of [
      [-1, 4],
      [0, 17],
      [8, 4],
      [0.5, 4],
      [Number.NaN, 4],
    ]) {
      await expect(checkpoint.read(b, start, end)).rejects.toThrow(/b: bytes .* are outside of its 16 bytes/);
    }
    await expect(checkpoint.read({ ...b, file: "/etc/passwd" })).rejects.toThrow(
      "not a file of this checkpoint",
    );
    await truncate(path, 100);
    await expect(checkpoint.read(b)).rejects.toThrow(/b: short read: expected 16 bytes/);
    await checkpoint.close();
    await expect(checkpoint.read(b)).rejects.toThrow("the checkpoint is closed");
    await checkpoint.close();
  });

  it.each([
    ["a gap", { a: f32([1], 4, 8) }, 8, "a: 4 bytes before it belong to no tensor"],
    ["bytes at the end", { a: f32([1], 0, 4) }, 8, "4 bytes after the last tensor belong to none"],
    ["an overlap", { a: f32([2], 0, 8), b: f32([2], 4, 12) }, 12, "b: starts at byte .* overlaps a"],
    ["two at one place", { a: f32([2], 0, 8), b: f32([2], 0, 8) }, 8, "overlaps"],
    ["truncated data", { a: f32([4], 0, 16) }, 12, "a: ends at byte 16 of the data, but the file holds 12"],
    ["a wrong size", { a: f32([3], 0, 16) }, 16, "a: F32\\[3\\] takes 12 bytes, but data_offsets span 16"],
    ["a negative axis", { a: f32([-1], 0, 4) }, 4, "a: shape holds -1"],
    ["a fractional axis", { a: f32([0.5], 0, 2) }, 2, "a: shape holds 0.5"],
    ["an axis of text", { a: f32(["1"], 0, 4) }, 4, 'a: shape holds "1"'],
    ["an axis beyond 2^53", { a: f32([2 ** 53], 0, 4) }, 4, "a: shape holds 9007199254740992"],
    ["an overflowing shape", { a: f32([2 ** 40, 2 ** 40], 0, 4) }, 4, "a: shape .* overflows"],
    ["overflowing bytes", { a: f32([2 ** 52], 0, 4) }, 4, "a: shape .* overflows"],
    ["many axes", { a: f32(Array(17).fill(1), 0, 4) }, 4, "a: has 17 axes"],
    ["no shape", { a: f32(null, 0, 4) }, 4, "a: its shape is not an array"],
    ["offsets reversed", { a: f32([1], 4, 0) }, 4, "a: its data_offsets are not"],
    ["a negative offset", { a: f32([1], -4, 0) }, 4, "a: its data_offsets are not"],
    ["three offsets", { a: { ...f32([1], 0, 4), data_offsets: [0, 4, 8] } }, 4, "a: its data_offsets"],
    ["an unread dtype", { a: { ...f32([4], 0, 4), dtype: "F8_E4M3" } }, 4, 'a: dtype "F8_E4M3" can\'t'],
    ["a block dtype", { a: { ...f32([32], 0, 18), dtype: "Q4_0" } }, 18, 'a: dtype "Q4_0" can\'t be read'],
    ["no dtype", { a: { shape: [1], data_offsets: [0, 4] } }, 4, "a: dtype missing can't be read"],
    ["an entry that is none", { a: [] }, 0, "a: its header entry is not an object"],
    ["metadata that is no object", { __metadata__: [] }, 0, "__metadata__ is not an object"],
    ["metadata that is no text", { __metadata__: { a: 1 } }, 0, "__metadata__.a is not a string"],
    ["no object", "[]", 0, "does not begin with {"],
    ["an empty header", "", 0, "does not begin with {"],
    ["no JSON", "{", 0, "the JSON header does not parse"],
    ["a deep header", `{"a":${"[".repeat(50_000)}`, 0, "nested deeper than 8"],
    ["a crowded header", `{"a":[${"0,".repeat(4_000_001)}0]}`, 0, "more than 4000000 values"],
    ["duplicate tensors", '{"a":{"dtype":"U8"},"b":{},"\\u0061":{}}', 0, "a: duplicate name"],
    ["duplicate fields", '{"a":{"dtype":"U8","dtype":"I8"}}', 0, "dtype: duplicate name"],
  ])("refuses %s", async (_, header, bytes, message) => {
    const opening = open(header, Buffer.alloc(bytes));
    await expect(opening).rejects.toBeInstanceOf(CheckpointError);
    await expect(opening).rejects.toThrow(new RegExp(`^${path}: .*${message}`));
  });

  it("refuses files that are too short, claim too much or hold something else", async () => {
    const claim = (length: bigint) => {
      const bytes = Buffer.alloc(16);
      bytes.writeBigUInt64LE(length);
      return openSafetensors(write(path, bytes));
    };
    await expect(openSafetensors(write(path, ""))).rejects.toThrow("holds 0 bytes, too few");
    await expect(claim(9n)).rejects.toThrow("claims a header of 9 bytes in a file of 16");
    await expect(claim(2n ** 64n - 1n)).rejects.toThrow("claims a header of 18446744073709551615 bytes");
    const pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 4\n";
    await expect(openSafetensors(write(path, pointer))).rejects.toThrow("is a Git LFS pointer");
    const latin1 = safetensorsBytes('{"?":{}}');
    latin1[10] = 0xe9;
    await expect(openSafetensors(write(path, latin1))).rejects.toThrow("not valid UTF-8");
    await expect(openSafetensors("/dev/zero")).rejects.toThrow("/dev/zero: not a regular file");
    await expect(openSafetensors(join(folder, "none"))).rejects.toThrow("none: no such file");
  });

  it("keeps odd names and padding", async () => {
    const checkpoint = await open(
      '{"__proto__":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}   ',
      Buffer.alloc(1),
    );
    expect([...checkpoint.tensors.keys()]).toEqual(["__proto__"]);
    await checkpoint.close();
  });

  it.skipIf(!existsSync(golden))("opens every file of the golden set", async () => {
    const files = readdirSync(golden, { recursive: true, encoding: "utf8" }).filter((name) =>
      name.endsWith(".safetensors"),
    );
    expect(files.length).toBeGreaterThan(20);
    for (const name of files) {
      const checkpoint = await openSafetensors(join(golden, name));
      for (const tensor of checkpoint.tensors.values()) {
        expect((await checkpoint.read(tensor)).length).toBe(tensor.length);
      }
      await checkpoint.close();
    }
  });
});
