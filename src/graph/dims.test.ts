import { describe, expect, it } from "vitest";
import { broadcast, productOf, sameSize } from "./dims.ts";

describe("dims", () => {
  it("multiplies numbers and symbols", () => {
    expect(productOf([2, 3])).toBe(6);
    expect(productOf(["batch", "seq"])).toBe("batch*seq");
    expect(productOf([4, "seq", "batch", 2])).toBe("8*batch*seq");
  });

  it("compares sizes with symbols in any order", () => {
    expect(sameSize(["batch", "seq", 640], ["batch*seq", 640])).toBe(true);
    expect(sameSize(["batch", "seq", 640], ["batch", "seq", 4, 160])).toBe(true);
    expect(sameSize(["batch", 640], ["seq", 640])).toBe(false);
    expect(sameSize(["batch", "batch"], ["batch"])).toBe(false);
  });

  it("broadcasts as NumPy does", () => {
    expect(broadcast(["batch", "seq", 640], [640])).toEqual(["batch", "seq", 640]);
    expect(broadcast([1, 640], ["batch", 1])).toEqual(["batch", 640]);
    expect(broadcast(["batch", 31], [32])).toBeUndefined();
    expect(broadcast(["batch", 32], ["seq", 32])).toBeUndefined();
  });
});
