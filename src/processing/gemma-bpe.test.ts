import { readFileSync } from "node:fs";
import path from "node:path";
import { Tokenizer } from "@huggingface/tokenizers";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { CheckpointError } from "../errors.ts";
import { GemmaBpe } from "./gemma-bpe.ts";
import { tablesFromJson } from "./tokenizer-json.ts";

type Json = Record<string, never> & { model: { vocab: Record<string, number>; merges: unknown[] } };

const folder = path.resolve(import.meta.dirname, "../../test/fixtures/tokenizer");
const read = (name: string): Json => JSON.parse(readFileSync(path.join(folder, name), "utf8")) as Json;
const json = read("tokenizer.json");
const config = read("tokenizer_config.json");
const bpe = new GemmaBpe(tablesFromJson(json, config, "tokenizer.json")!);
const oracle = new Tokenizer(json, config);

/** Texts made of whole tokens, pieces of added ones, spaces, and characters of every kind. */
const texts = fc
  .array(
    fc.oneof(
      fc.constantFrom(...Object.keys(json.model.vocab)),
      fc.constantFrom(
        " ",
        "  ",
        "▁",
        "\n",
        "\n\n\n\n\n\n",
        "<start_of",
        "<unused",
        "</",
        "한글",
        "中",
        "é",
        "\u0000",
      ),
      fc.string({ unit: "grapheme", maxLength: 5 }),
      fc.string({ unit: "binary", maxLength: 5 }),
      fc.nat({ max: 80 }).map((n) => " ".repeat(n)),
    ),
    { maxLength: 20 },
  )
  .map((parts) => parts.join(""));

describe("GemmaBpe", () => {
  it("takes the tab itself where Gemma 1 and 2 have it in place of its byte", () => {
    const { "<0x09>": tab, "\t": _none, ...others } = json.model.vocab;
    const older = { ...json, model: { ...json.model, vocab: { ...others, "\t": tab! } } } as unknown as Json;
    const tables = tablesFromJson(older, config, "tokenizer.json")!;
    const [ours, theirs] = [new GemmaBpe(tables), new Tokenizer(older, config)];
    for (const text of ["\t", "a\tb \t\u0001\t\t"]) {
      const ids = ours.encode(text);
      expect(ids).toEqual(theirs.encode(text, { add_special_tokens: false }).ids);
      expect(ours.decode(ids)).toBe(text);
    }
    const half = others["<0xE2>"]!;
    expect(ours.decode([half, tab!])).toBe("\ufffd\t");
  });

  it("gives the ids and the text of @huggingface/tokenizers", () => {
    fc.assert(
      fc.property(texts, (text) => {
        const ids = bpe.encode(text);
        expect(ids).toEqual(oracle.encode(text, { add_special_tokens: false }).ids);
        if (ids.length > 0) expect(bpe.decode(ids)).toBe(oracle.decode(ids));
      }),
      { numRuns: 1000 },
    );
  });

  it("decodes what it encodes, and streams the same text", () => {
    fc.assert(
      fc.property(texts, (text) => {
        const ids = bpe.encode(text);
        expect(bpe.decode(ids)).toBe(text.replaceAll("▁", " "));
        const decoder = bpe.decoder();
        expect(ids.map((id) => decoder.push(id)).join("") + decoder.flush()).toBe(bpe.decode(ids));
      }),
    );
  });

  it("streams any ids as it decodes them, without halves of characters", () => {
    fc.assert(
      fc.property(fc.array(fc.nat({ max: bpe.size - 1 })), fc.boolean(), (ids, skipping) => {
        const skip = skipping ? new Set(bpe.specialIds) : undefined;
        const decoder = bpe.decoder(skip);
        const pieces = ids.map((id) => decoder.push(id));
        expect(pieces.every((piece) => !/\p{Cs}/u.test(piece))).toBe(true);
        expect(pieces.join("") + decoder.flush()).toBe(bpe.decode(ids, skip));
      }),
    );
  });

  it("reads lone surrogates as U+FFFD", () => {
    expect(bpe.encode("a\ud800b\udc00")).toEqual(bpe.encode("a\ufffdb\ufffd"));
  });

  it("takes a megabyte without spaces in well under quadratic time", () => {
    for (const unit of ["e", " ", "<unused"]) {
      const text = unit.repeat(Math.ceil(2 ** 20 / unit.length));
      expect(bpe.decode(bpe.encode(text))).toBe(text);
    }
  }, 60_000);

  it("finds tokens by text and by id", () => {
    for (const [token, id] of Object.entries(json.model.vocab)) {
      expect(bpe.idOf(token)).toBe(id);
      expect(bpe.tokenOf(id)).toBe(token);
    }
    expect(bpe.idOf("no such token")).toBeUndefined();
    expect(bpe.idOf("")).toBeUndefined();
    expect(bpe.tokenOf(bpe.size)).toBeUndefined();
  });
});

describe("tablesFromJson", () => {
  const changed = (change: (copy: Record<string, Record<string, unknown>>) => void) => {
    const copy = structuredClone(json) as unknown as Record<string, Record<string, unknown>>;
    change(copy);
    return () => tablesFromJson(copy, config, "tokenizer.json");
  };

  it("reads merges written as texts", () => {
    const tables = changed((copy) => {
      copy.model!.merges = (copy.model!.merges as string[][]).map((pair) => pair.join(" "));
    })();
    expect(tables).toEqual(bpe.tables);
  });

  it("leaves other structures to another engine", () => {
    expect(changed((copy) => Object.assign(copy.model!, { byte_fallback: false }))()).toBeUndefined();
    expect(changed((copy) => Object.assign(copy, { normalizer: { type: "NFC" } }))()).toBeUndefined();
    expect(
      changed((copy) => Object.assign(copy, { pre_tokenizer: { type: "ByteLevel" } }))(),
    ).toBeUndefined();
    expect(changed((copy) => Object.assign(copy, { decoder: null }))()).toBeUndefined();
    const stripping = { id: 600, content: "<x>", lstrip: true };
    expect(changed((copy) => Object.assign(copy, { added_tokens: [stripping] }))()).toBeUndefined();
  });

  it("refuses damaged files", () => {
    const damages: ((copy: Record<string, Record<string, unknown>>) => void)[] = [
      (copy) => (copy.model!.merges as unknown[]).push(["a"]),
      (copy) => (copy.model!.merges as unknown[]).push(["zz", "zz"]),
      (copy) => (copy.model!.merges as unknown[]).push(null),
      (copy) => Object.assign(copy.model!.vocab as object, { huge: 2 ** 40 }),
      (copy) => Object.assign(copy.model!.vocab as object, { negative: -1 }),
      (copy) => delete (copy.model!.vocab as Record<string, number>)["<0x7F>"],
      (copy) => Object.assign(copy, { added_tokens: [{ content: "<x>" }] }),
    ];
    for (const damage of damages) expect(changed(damage)).toThrow(CheckpointError);
  });
});
