import { Buffer } from "node:buffer";
import { describe, expect, it } from "vitest";
import { PackedStrings } from "./packed-strings.ts";

function pack(strings: readonly (string | Buffer)[]): PackedStrings {
  const parts = strings.map((string) => Buffer.from(string));
  let end = 0;
  const ends = Uint32Array.from(parts, (part) => {
    end += part.length;
    return end;
  });
  return new PackedStrings(Buffer.concat(parts), ends);
}

describe("PackedStrings", () => {
  const strings = ["", "<bos>", "▁the", "", "🙂é", "\u0000", "z", ""];

  it("decodes one string or all of them alike", () => {
    const packed = pack(strings);
    expect(packed.length).toBe(8);
    expect(packed.toArray()).toEqual(strings);
    expect([...packed]).toEqual(strings);
    expect(strings.map((_, index) => packed.at(index))).toEqual(strings);
    expect(packed.at(8)).toBeUndefined();
    expect(packed.at(-1)).toBeUndefined();
    expect(pack([]).toArray()).toEqual([]);
  });

  it("replaces invalid UTF-8, also where a character is cut in two", () => {
    const smile = Buffer.from("🙂");
    for (const broken of [
      ["a", Buffer.from([0xff]), "é"],
      ["a", smile.subarray(0, 2), smile.subarray(2), "b"],
    ]) {
      const packed = pack(broken);
      expect(packed.toArray()).toEqual(broken.map((part) => Buffer.from(part).toString("utf8")));
      expect(packed.at(0)).toBe("a");
    }
  });
});
