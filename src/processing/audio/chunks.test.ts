import { describe, expect, it } from "vitest";
import { chunkAudio } from "./chunks.ts";

describe("chunkAudio", () => {
  it("covers every sample, with the strides at the inner ends", () => {
    expect(chunkAudio(25, 10, [2, 3])).toEqual([
      { start: 0, end: 10, stride_left: 0, stride_right: 3 },
      { start: 5, end: 15, stride_left: 2, stride_right: 3 },
      { start: 10, end: 20, stride_left: 2, stride_right: 3 },
      { start: 15, end: 25, stride_left: 2, stride_right: 0 },
    ]);
    expect(chunkAudio(21, 10).map(({ start, end }) => [start, end])).toEqual([
      [0, 10],
      [10, 20],
      [20, 21],
    ]);
  });

  it("leaves a short sound whole", () => {
    expect(chunkAudio(10, 10, [3, 3])).toEqual([{ start: 0, end: 10, stride_left: 0, stride_right: 0 }]);
  });

  it("refuses strides that leave no step", () => {
    expect(() => chunkAudio(10, 4, [2, 2])).toThrow("must be longer than both strides");
    expect(() => chunkAudio(10, 0)).toThrow("must be longer");
    expect(() => chunkAudio(10, 4, [-1, 2])).toThrow("must be longer");
  });
});
