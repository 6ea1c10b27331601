import { describe, expect, it } from "vitest";
import type { MediaToken } from "./media-part.ts";
import { checkRows, dealOut, mediaRows, replaceEach } from "./media-rows.ts";

const token: MediaToken = { kind: "images", placeholder: "<i>", soft: "<s>", id: 7, type: 1 };

describe("mediaRows", () => {
  it("takes one, a flat list for one text, and lists for each text", () => {
    expect(mediaRows("a", "images")).toEqual([["a"]]);
    expect(mediaRows(["a", "b"], "images")).toEqual([["a", "b"]]);
    expect(mediaRows([["a"], [], ["b", "c"]], "images")).toEqual([["a"], [], ["b", "c"]]);
    expect(mediaRows([], "images")).toEqual([]);
  });

  it("refuses a mixture", () => {
    expect(() => mediaRows(["a", ["b"]], "images")).toThrow(/flat list, for one text, or a list of lists/);
  });
});

describe("checkRows", () => {
  it("gives both counts", () => {
    expect(() => checkRows(["<i> <i>"], [["a"]], token)).toThrow(
      "1 image for 2 placeholders <i> in the text",
    );
    expect(() => checkRows(["<i>", "none"], [["a"], ["b", "c"]], token)).toThrow(
      "2 images for 0 placeholders <i> in text 1",
    );
    expect(() => checkRows(["<i>", "<i>"], [["a", "b"]], token)).toThrow("2 texts, but images for 1");
  });

  it("lets fitting rows pass", () => {
    expect(() => checkRows(["<i>x<i>", "none"], [["a", "b"], []], token)).not.toThrow();
  });
});

describe("dealOut", () => {
  it("follows the placeholders", () => {
    expect(dealOut(["<i>", "", "<i><i>"], ["a", "b", "c"], token)).toEqual([["a"], [], ["b", "c"]]);
  });

  it("gives both counts", () => {
    const clips: MediaToken = { ...token, kind: "audio" };
    expect(() => dealOut(["<i>", "x"], ["a", "b"], clips)).toThrow(
      "2 audio clips for 1 placeholder <i> in the texts",
    );
  });
});

it("replaces placeholders one by one", () => {
  let next = 0;
  expect(replaceEach("<i>a<i><i>", "<i>", () => String(next++))).toBe("0a12");
  expect(replaceEach("none", "<i>", () => "x")).toBe("none");
});
