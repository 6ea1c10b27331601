import { readFileSync } from "node:fs";
import path from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { CheckpointError } from "../errors.ts";
import { deserializeTokenizer, serializeTokenizer } from "./compact-tokenizer.ts";
import { GemmaBpe } from "./gemma-bpe.ts";
import { tablesFromJson } from "./tokenizer-json.ts";
import { settingsFromFiles } from "./tokenizer-settings.ts";

const file = path.resolve(import.meta.dirname, "../../test/fixtures/tokenizer/tokenizer.json");
const tables = tablesFromJson(JSON.parse(readFileSync(file, "utf8")) as Record<string, unknown>, {}, file)!;
const settings = settingsFromFiles(
  { chat_template: "{{ 한글 }}" },
  { single: [2, "A"], pair: [2, "A", "B"] },
  () => true,
);
const bytes = serializeTokenizer(tables, settings);

describe("compact tokenizer", () => {
  it("comes back as it was", () => {
    expect(deserializeTokenizer(bytes)).toEqual({ tables, settings });
    const shifted = new Uint8Array(bytes.length + 3);
    shifted.set(bytes, 3);
    expect(deserializeTokenizer(shifted.subarray(3)).tables).toEqual(tables);
    const text = "Hello world 한글\n\n  <b>x</b>";
    expect(new GemmaBpe(deserializeTokenizer(bytes).tables).encode(text)).toEqual(
      new GemmaBpe(tables).encode(text),
    );
  });

  it("detects every changed byte", () => {
    fc.assert(
      fc.property(fc.nat({ max: bytes.length - 1 }), fc.integer({ min: 1, max: 255 }), (at, change) => {
        const damaged = bytes.slice();
        damaged[at]! ^= change;
        expect(() => deserializeTokenizer(damaged)).toThrow(CheckpointError);
      }),
      { numRuns: 2000 },
    );
  });

  it("detects truncation and foreign files", () => {
    for (const length of [0, 1, 15, 16, 200, bytes.length / 2, bytes.length - 16, bytes.length - 1]) {
      expect(() => deserializeTokenizer(bytes.slice(0, length)), String(length)).toThrow(CheckpointError);
    }
    expect(() => deserializeTokenizer(new Uint8Array(4096), "a.bin")).toThrow(
      /^a\.bin: cached tokenizer: not a/,
    );
  });
});
