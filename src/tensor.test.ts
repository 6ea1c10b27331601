import { describe, expect, it } from "vitest";
import { InputError } from "./errors.ts";
import { Tensor } from "./tensor.ts";

const counted = (...dims: number[]) =>
  new Tensor(
    "float32",
    Float32Array.from({ length: dims.reduce((a, b) => a * b, 1) }, (_, i) => i),
    dims,
  );

describe("Tensor", () => {
  it("checks type and length", () => {
    expect(() => new Tensor("float32", new Float32Array(3), [2, 2])).toThrow(InputError);
    expect(() => new Tensor("float32", new Float32Array(4), [-2, -2])).toThrow(InputError);
    expect(() => new Tensor("int64", new Float32Array(4) as never, [4])).toThrow(
      /BigInt64Array, got Float32Array/,
    );
    expect(() => new Tensor("complex" as never, [], [0])).toThrow(InputError);
    expect(new Tensor("int64", [1, 2n, true], [3]).data).toEqual(BigInt64Array.of(1n, 2n, 1n));
  });

  it("lists, indexes and iterates", () => {
    const tensor = counted(2, 3);
    expect(tensor.tolist()).toEqual([
      [0, 1, 2],
      [3, 4, 5],
    ]);
    expect(tensor[1]!.tolist()).toEqual([3, 4, 5]);
    expect(tensor[-1]!.tolist()).toEqual([3, 4, 5]);
    expect(tensor[1]![2]!.item()).toBe(5);
    expect(tensor[2]).toBeUndefined();
    expect((tensor as unknown as { then?: unknown }).then).toBeUndefined();
    expect([...tensor].map((row) => row.tolist())).toEqual(tensor.tolist());
    tensor[0]!.data[0] = 9;
    expect(tensor.data[0]).toBe(9);
    expect(tensor instanceof Object).toBe(true);
    expect(Object.hasOwn(tensor, "data")).toBe(true);
  });

  it("slices", () => {
    const tensor = counted(2, 3, 4);
    expect(tensor.slice().tolist()).toEqual(tensor.tolist());
    expect(tensor.slice(1).tolist()).toEqual(tensor[1]!.tolist());
    expect(tensor.slice(null, -1).tolist()).toEqual([
      [8, 9, 10, 11],
      [20, 21, 22, 23],
    ]);
    expect(tensor.slice(null, [1, null], [-2, -1]).tolist()).toEqual([
      [[6], [10]],
      [[18], [22]],
    ]);
    expect(tensor.slice([2, 1]).dims).toEqual([0, 3, 4]);
    expect(tensor.slice([0, 99]).dims).toEqual([2, 3, 4]);
    expect(tensor.slice(0, 0, 3).item()).toBe(3);
    expect(() => tensor.slice(2)).toThrow(InputError);
    expect(() => tensor.slice(0, 0, 0, 0)).toThrow(InputError);
  });

  it("views", () => {
    const tensor = counted(2, 6);
    expect(tensor.view(3, -1).dims).toEqual([3, 4]);
    expect(tensor.view(-1).data).toBe(tensor.data);
    expect(() => tensor.view(5, -1)).toThrow(InputError);
    expect(() => tensor.view(-1, -1)).toThrow(InputError);
  });

  it("converts", () => {
    const values = [0, -0, 1, -1.5, 65504, 1e6, 6e-8, 1 / 3, Number.NaN];
    const half = new Tensor("float32", values, [9]).to("float16");
    expect(half.tolist()).toEqual([
      0,
      -0,
      1,
      -1.5,
      65504,
      Number.POSITIVE_INFINITY,
      2 ** -24,
      0.333251953125,
      Number.NaN,
    ]);
    expect(new Tensor("float32", [1 / 3, 257], [2]).to("bfloat16").tolist()).toEqual([0.333984375, 256]);
    expect(new Tensor("int64", [5n], [1]).to("float32").item()).toBe(5);
    expect(new Tensor("float32", [2, 0], [2]).to("bool").tolist()).toEqual([1, 0]);
    const tensor = counted(1);
    expect(tensor.to("cpu")).toBe(tensor);
    expect(() => tensor.to("nope" as never)).toThrow(InputError);
  });

  it("round-trips every half-precision pattern", () => {
    const bits = Uint16Array.from({ length: 65536 }, (_, i) => i);
    for (const type of ["float16", "bfloat16"] as const) {
      const tensor = new Tensor(type, bits, [bits.length]);
      const back = tensor.to("float64").to(type);
      const wrong = [...bits].filter((b) => back.data[b] !== b && !Number.isNaN(tensor[b]!.item() as number));
      expect(wrong).toEqual([]);
    }
  });

  it("prints", () => {
    expect(String(counted(2, 5))).toBe("Tensor float32[2, 5] (0, 1, 2, 3, 4, 5, 6, 7, …)");
    expect(() => counted(2).item()).toThrow(InputError);
  });
});
