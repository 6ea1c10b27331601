import { expect, it } from "vitest";
import { batchesByLength } from "./text-batches.ts";

it("batches texts of similar length, longest first", () => {
  const texts = [4, 10, 1, 6, 5, 2].map((length) => "x".repeat(length));
  expect(batchesByLength(texts, 8)).toEqual([[1, 3, 4], [0, 5], [2]]);
  expect(batchesByLength(texts, 2)).toEqual([
    [1, 3],
    [4, 0],
    [5, 2],
  ]);
  expect(batchesByLength(["", "", "a"], 8)).toEqual([[2], [0, 1]]);
  expect(batchesByLength([], 8)).toEqual([]);
});
