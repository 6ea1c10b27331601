import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { describe, expect, it } from "vitest";
import { openSafetensors } from "../checkpoints/safetensors.ts";
import { CheckpointError } from "../errors.ts";
import { type Bnb4Type, dequantizeBnb4, dynamicMap, nestAbsmax, quantizeBnb4, unnestAbsmax } from "./nf4.ts";

/** Checkpoints that bitsandbytes itself quantised; see tools/oracle/quantized_checkpoints.py. */
const SAVED = resolve(import.meta.dirname, "../../test/fixtures/quantized");

type Read = (name: string) => Uint8Array;

async function reader(folder: string): Promise<{ names: string[]; read: Read }> {
  const file = join(SAVED, folder, "model.safetensors");
  const checkpoint = await openSafetensors(file);
  const bytes = readFileSync(file);
  const { tensors } = checkpoint;
  await checkpoint.close();
  const read = (name: string): Uint8Array => {
    const { offset, length } = tensors.get(name)!;
    return new Uint8Array(bytes.subarray(offset, offset + length));
  };
  return { names: [...tensors.keys()].filter((name) => name.endsWith("_proj.weight")), read };
}

const floats = (bytes: Uint8Array): Float32Array => new Float32Array(bytes.slice().buffer);

describe("4-bit blocks", () => {
  it.each<[string, Bnb4Type]>([
    ["nf4", "nf4"],
    ["fp4", "fp4"],
    ["nf4_double", "nf4"],
  ])("have the bits of bitsandbytes in %s", async (folder, type) => {
    const [float, saved] = await Promise.all([reader("float"), reader(folder)]);
    expect(float.names).toHaveLength(14);
    for (const name of float.names) {
      const values = floats(float.read(name));
      const data = new Uint8Array(values.length / 2);
      const absmax = new Float32Array(Math.ceil(values.length / 64));
      quantizeBnb4(values, type, 64, data, absmax);
      expect(data).toEqual(saved.read(name));
      if (folder !== "nf4_double") {
        expect(absmax).toEqual(floats(saved.read(`${name}.absmax`)));
        continue;
      }
      const nested = nestAbsmax(absmax);
      expect(nested.codes).toEqual(saved.read(`${name}.absmax`));
      expect(nested.absmax[0]).toBeCloseTo(floats(saved.read(`${name}.nested_absmax`))[0]!, 7);
      expect(dynamicMap()).toEqual(floats(saved.read(`${name}.nested_quant_map`)));
    }
  });

  it("keep zeros, a short last block and an odd last element", () => {
    const values = new Float32Array(129);
    values[64] = -3;
    values[128] = 0.5;
    const data = new Uint8Array(65);
    const absmax = new Float32Array(3);
    quantizeBnb4(values, "nf4", 64, data, absmax);
    expect([...absmax]).toEqual([0, 3, 0.5]);
    // Code 7 is 0, 0 is -1 and 15 is 1.
    expect([data[0], data[31], data[32], data[33], data[64]]).toEqual([0x77, 0x77, 0x07, 0x77, 0xf7]);
    const restored = new Float32Array(129);
    dequantizeBnb4(data, absmax, "nf4", 64, restored);
    expect(restored).toEqual(values);
  });

  it("restore nested scales within a step of their map, those of one block exactly", () => {
    const values = Float32Array.from({ length: 600 }, (_, i) => 1 + 0.5 * Math.sin(i));
    const restored = unnestAbsmax(nestAbsmax(values));
    for (const [i, value] of values.entries()) expect(Math.abs(restored[i]! - value)).toBeLessThan(0.004);
    expect([...unnestAbsmax(nestAbsmax(Float32Array.of(0.25)))]).toEqual([0.25]);
  });

  it("refuse weights that are no numbers, and arrays of another size", () => {
    const quantise = (values: number[], bytes = 1): void =>
      quantizeBnb4(Float32Array.from(values), "nf4", 64, new Uint8Array(bytes), new Float32Array(1));
    expect(() => quantise([1, Number.NaN])).toThrow(CheckpointError);
    expect(() => quantise([1, Number.POSITIVE_INFINITY])).toThrow(/cannot be quantised/);
    expect(() => quantise([1, 2], 2)).toThrow(/expected 1 elements of data, got 2/);
  });
});
