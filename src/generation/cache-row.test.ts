import { describe, expect, it } from "vitest";
import { CacheRow } from "./cache-row.ts";

function rowOf(...chunks: [count: number, positions?: number | number[]][]): CacheRow {
  const row = new CacheRow();
  for (const [count, positions] of chunks) row.advance(count, positions);
  return row;
}

describe("CacheRow", () => {
  it("counts on without positions", () => {
    expect(rowOf([5], [3]).nextPosition).toBe(8);
    expect(rowOf([5], [0, 99]).nextPosition).toBe(5);
  });

  it("goes on after the last position given", () => {
    const row = rowOf([5], [2, 100], [3]);
    expect(row.nextPosition).toBe(103);
    expect(rowOf([3, [0, 1, 40]]).nextPosition).toBe(41);
  });

  it("knows every token's position after crops", () => {
    const positions = [3, 4, 5, 9, 10, 50, 51, 20, 21];
    for (let length = 0; length <= positions.length; length++) {
      const row = rowOf([4, positions.slice(0, 4)], [5, positions.slice(4)]);
      row.crop(length);
      expect(row.nextPosition).toBe(length === 0 ? 0 : positions[length - 1]! + 1);
    }
    const counted = rowOf([4], [4, 30]);
    counted.crop(6);
    expect(counted.nextPosition).toBe(28);
    counted.crop(4);
    expect(counted.nextPosition).toBe(4);
  });

  it("clones and restores", () => {
    const row = rowOf([4, [3, 4, 8, 9]]);
    row.hide([2]);
    const clone = row.clone();
    row.crop(1);
    expect([clone.nextPosition, [...clone.hidden]]).toEqual([10, [2]]);
    const restored = CacheRow.restore(clone.length, clone.jumps, [...clone.hidden]);
    restored.crop(3);
    expect([restored.nextPosition, [...restored.hidden]]).toEqual([9, [2]]);
  });

  it.each([
    [-1, [], [], "a row's length"],
    [4, [{ from: 4, offset: 1 }], [], "the token of a jump"],
    [
      4,
      [
        { from: 2, offset: 1 },
        { from: 2, offset: 2 },
      ],
      [],
      "in order",
    ],
    [4, [{ from: 2, offset: -3 }], [], "-3 positions off"],
    [4, [{ from: 2, offset: 0.5 }], [], "0.5 positions off"],
    [4, [], [4], "a token to hide"],
  ])("refuses to restore %j %j %j", (length, jumps, hidden, message) => {
    expect(() => CacheRow.restore(length, jumps, hidden)).toThrow(message);
  });
});
