import { describe, expect, it } from "vitest";
import { type AttentionMaskOptions, attentionMask, windowInUse } from "./attention-masks.ts";

/** Rows as strings of 0 and 1. */
function rows(options: AttentionMaskOptions): string[] {
  const { length } = options.keys;
  const mask = attentionMask(options);
  return Array.from({ length: mask.length / length }, (_, i) =>
    mask.subarray(i * length, (i + 1) * length).join(""),
  );
}

const FIVE = [1, 1, 1, 1, 1];

describe("attentionMask", () => {
  it("lets a query see itself and what came before", () => {
    expect(rows({ keys: [1, 1, 1] })).toEqual(["100", "110", "111"]);
  });

  it("counts the query itself into the window", () => {
    expect(rows({ keys: FIVE, window: 3 })).toEqual(["10000", "11000", "11100", "01110", "00111"]);
    expect(rows({ keys: FIVE, window: 9 })).toEqual(rows({ keys: FIVE }));
  });

  it("looks both ways if bidirectional, over the window to each side", () => {
    expect(rows({ keys: [1, 1, 1], bidirectional: true })).toEqual(["111", "111", "111"]);
    expect(rows({ keys: FIVE, window: 2, bidirectional: true })).toEqual([
      "11000",
      "11100",
      "01110",
      "00111",
      "00011",
    ]);
  });

  it("hides padding, and counts it into the window", () => {
    expect(rows({ keys: [0n, 1n, 0n, 1n, 1n], window: 3 })).toEqual([
      "00000",
      "01000",
      "01000",
      "01010",
      "00011",
    ]);
  });

  it("gives rows to the queries after the past alone", () => {
    expect(rows({ keys: [0, 1, 1, 1, 1], past: 3, window: 3 })).toEqual(["01110", "00111"]);
    expect(rows({ keys: FIVE, past: 4, bidirectional: true })).toEqual(["11111"]);
    expect(rows({ keys: FIVE, past: 5 })).toEqual([]);
    expect(() => attentionMask({ keys: FIVE, past: 6 })).toThrow(/6 past positions for 5 keys/);
  });
});

it("windowInUse halves the span of bidirectional models", () => {
  expect(windowInUse(512, false)).toBe(512);
  // Gemma3TextConfig(sliding_window=w, use_bidirectional_attention=True).sliding_window in HF.
  expect([8, 9, 512, 1].map((w) => windowInUse(w, true))).toEqual([5, 5, 257, 1]);
});
