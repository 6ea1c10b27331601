import { Buffer } from "node:buffer";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { temporaryFolder } from "../../test/checkpoints/files.ts";
import { openSafetensors } from "./safetensors.ts";
import { type TensorToWrite, writeSafetensors } from "./write-safetensors.ts";

const folder = temporaryFolder();
const path = join(folder, "out.safetensors");

function tensor(name: string, dtype: TensorToWrite["dtype"], shape: number[], ...data: Uint8Array[]) {
  return { name, dtype, shape, data };
}

describe("writeSafetensors", () => {
  it("writes chunks in order and aligns every tensor", async () => {
    const bytes = Buffer.from([1, 2, 3, 4, 5, 6, 7, 8]);
    async function* later() {
      yield bytes.subarray(0, 3);
      yield bytes.subarray(3);
    }
    await writeSafetensors(
      path,
      [
        tensor("flags", "U8", [3], bytes.subarray(0, 1), bytes.subarray(1, 3)),
        tensor("none", "F16", [0, 4]),
        { name: "wide", dtype: "I64", shape: [1], data: later() },
        tensor("scalar", "F32", [], bytes.subarray(4)),
      ],
      { format: "pt" },
    );
    const checkpoint = await openSafetensors(path);
    expect([...checkpoint.tensors.keys()]).toEqual(["wide", "scalar", "none", "flags"]);
    expect(checkpoint.tensors.get("wide")!.offset % 8).toBe(0);
    expect(await checkpoint.read(checkpoint.tensors.get("wide")!)).toEqual(bytes);
    expect(await checkpoint.read(checkpoint.tensors.get("flags")!)).toEqual(bytes.subarray(0, 3));
    expect(await checkpoint.read(checkpoint.tensors.get("scalar")!)).toEqual(bytes.subarray(4));
    expect(checkpoint.metadata.get("format")).toBe("pt");
    await checkpoint.close();
    await writeSafetensors(path, []);
    const empty = await openSafetensors(path);
    expect(empty.tensors.size).toBe(0);
    await empty.close();
  });

  it("leaves neither file nor remains when it fails", async () => {
    const target = join(folder, "failed.safetensors");
    const attempts: [TensorToWrite[], string][] = [
      [[tensor("a", "U8", [2], Buffer.alloc(1))], "a: its data yields 1 bytes, expected 2"],
      [[tensor("a", "U8", [2], Buffer.alloc(3))], "a: its data yields more bytes, expected 2"],
      [[tensor("a", "U8", [-2])], "a: shape holds -2"],
      [[tensor("a", "U8", [0]), tensor("a", "U8", [0])], "a: duplicate name"],
      [[tensor("__metadata__", "U8", [0])], "__metadata__: duplicate name"],
    ];
    for (const [tensors, message] of attempts) {
      await expect(writeSafetensors(target, tensors)).rejects.toThrow(`${target}: ${message}`);
    }
    expect(readdirSync(folder)).toEqual(["out.safetensors"]);
    await expect(writeSafetensors(join(folder, "no/x"), [])).rejects.toThrow(
      "can't be written: no such file",
    );
  });
});
