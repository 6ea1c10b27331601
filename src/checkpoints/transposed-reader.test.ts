import { Buffer } from "node:buffer";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { CheckpointDtype, TensorSlice } from "./checkpoint.ts";
import { TransposedReader } from "./transposed-reader.ts";

const WIDTHS: readonly (readonly [CheckpointDtype, number])[] = [
  ["U8", 1],
  ["BF16", 2],
  ["F32", 4],
  ["I64", 8],
];

/** A matrix [rows, columns] of random bytes, as it is and as its file has it. */
function matrix(dtype: CheckpointDtype, width: number, rows: number, columns: number) {
  const right = Buffer.from(Array.from({ length: rows * columns * width }, (_, i) => (i * 167 + 13) & 255));
  const stored = Buffer.alloc(right.length);
  for (let row = 0; row < rows; row++)
    for (let column = 0; column < columns; column++)
      right.copy(
        stored,
        (column * rows + row) * width,
        (row * columns + column) * width,
        (row * columns + column + 1) * width,
      );
  const slice: TensorSlice = {
    name: "a",
    file: "x",
    offset: 0,
    length: right.length,
    dtype,
    shape: [rows, columns],
    transposed: true,
  };
  return { right, stored, slice };
}

describe("TransposedReader", () => {
  it("gives any stretch of any matrix, however few rows it keeps", async () => {
    const sizes = fc.record({
      kind: fc.constantFrom(...WIDTHS),
      rows: fc.integer({ min: 1, max: 40 }),
      columns: fc.integer({ min: 1, max: 40 }),
      kept: fc.integer({ min: 1, max: 3000 }),
      reads: fc.array(fc.tuple(fc.nat(), fc.nat()), { minLength: 1, maxLength: 6 }),
    });
    const property = fc.asyncProperty(sizes, async ({ kind, rows, columns, kept, reads }) => {
      const { right, stored, slice } = matrix(...kind, rows, columns);
      const reader = new TransposedReader(
        async (_slice, start, end) => Buffer.from(new Uint8Array(stored.subarray(start, end)).buffer),
        kept,
      );
      for (const pair of reads) {
        const [start, end] = pair.map((n) => n % (right.length + 1)).sort((a, b) => a - b) as [
          number,
          number,
        ];
        expect(await reader.read(slice, start, end)).toEqual(right.subarray(start, end));
      }
    });
    await fc.assert(property, { numRuns: 100, seed: 5 });
  });

  it("passes over the file once a stripe when rows are read in order", async () => {
    const { right, stored, slice } = matrix("F32", 4, 32, 10);
    let passed = 0;
    const reader = new TransposedReader(
      async (_slice, start, end) => {
        passed += end - start;
        return Buffer.from(new Uint8Array(stored.subarray(start, end)).buffer);
      },
      16 * 40, // 16 rows
    );
    for (let row = 0; row < 32; row += 4) {
      const [start, end] = [row * 40, (row + 4) * 40];
      expect(await reader.read(slice, start, end)).toEqual(right.subarray(start, end));
    }
    expect(passed).toBe(2 * right.length);
  });
});
