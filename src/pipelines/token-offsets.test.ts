import { expect, it } from "vitest";
import { tokenOffsets } from "./token-offsets.ts";

it("follows tokens through a text", () => {
  expect(tokenOffsets(["He", "llo", "▁▁", "w"], "Hello  w")).toEqual([
    [0, 2],
    [2, 5],
    [5, 7],
    [7, 8],
  ]);
});

it("gives every byte of a character the character's place", () => {
  const bytes = ["<0xF0>", "<0x9F>", "<0x99>", "<0x82>"];
  expect(tokenOffsets(["a", ...bytes, "▁b"], "a🙂 b")).toEqual([[0, 1], ...bytes.map(() => [1, 3]), [3, 5]]);
  expect(tokenOffsets(bytes.slice(0, 2), "🙂")).toEqual([
    [0, 2],
    [0, 2],
  ]);
});

it("takes a lone surrogate for what the tokenizer writes in its place", () => {
  expect(tokenOffsets(["a", "<0xEF>", "<0xBF>", "<0xBD>", "b"], "a\ud800b")?.at(-1)).toEqual([2, 3]);
  expect(tokenOffsets(["a", "\ufffd", "b"], "a\ud800b")?.at(-1)).toEqual([2, 3]);
});

it("says nothing where tokens are not the text", () => {
  expect(tokenOffsets(["he"], "Hello")).toBeUndefined();
  expect(tokenOffsets(["Hello", "!"], "Hello")).toBeUndefined();
  expect(tokenOffsets(["<0x41>"], "B")).toBeUndefined();
  expect(tokenOffsets(["<0x41>"], "")).toBeUndefined();
  expect(tokenOffsets([""], "B")).toBeUndefined();
});
