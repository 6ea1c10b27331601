import { describe, expect, it } from "vitest";
import type { MetadataValue } from "../checkpoints/checkpoint.ts";
import { CheckpointError } from "../errors.ts";
import { GemmaBpe } from "./gemma-bpe.ts";
import { tokenizerFromGguf } from "./tokenizer-gguf.ts";

const [NORMAL, CONTROL, USER_DEFINED, BYTE] = [1, 3, 4, 6];

function metadata(): Map<string, MetadataValue> {
  const entries: [string, number, number][] = [
    ["<pad>", -1000, CONTROL],
    ["<eos>", -1000, CONTROL],
    ["<bos>", -1000, CONTROL],
    ["<unk>", -1000, CONTROL],
    ["<unused0>", -1000, CONTROL],
    ["\n", -1000, USER_DEFINED],
    ["\n\n", -1000, USER_DEFINED],
    ["  ", -1000, USER_DEFINED],
    ["   ", -1000, USER_DEFINED],
  ];
  for (let byte = 0; byte < 256; byte++) {
    entries.push([`<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`, 0, BYTE]);
  }
  ["aa", "aaa", "▁a", "ab", "a", "b", "▁", "é"].forEach((token, i) => {
    entries.push([token, -i, NORMAL]);
  });
  return new Map<string, MetadataValue>([
    ["tokenizer.ggml.model", "llama"],
    [
      "tokenizer.ggml.tokens",
      { length: entries.length, toArray: () => entries.map(([token]) => token) } as never,
    ],
    ["tokenizer.ggml.scores", Float32Array.from(entries, ([, score]) => score)],
    ["tokenizer.ggml.token_type", Int32Array.from(entries, ([, , type]) => type)],
    ["tokenizer.ggml.bos_token_id", 2],
    ["tokenizer.ggml.eos_token_id", 1n],
    ["tokenizer.ggml.add_eos_token", true],
  ]);
}

describe("tokenizerFromGguf", () => {
  const { tables, settings } = tokenizerFromGguf(metadata(), "model.gguf");
  const bpe = new GemmaBpe(tables);
  const tokens = (text: string) => bpe.encode(text).map((id) => bpe.tokenOf(id));

  it("derives merges from scores, user-defined tokens and longest left parts first", () => {
    const merges = [...tables.mergeLeft].map((left, rank) =>
      [left, tables.mergeRight[rank]!].map((id) => bpe.tokenOf(id)),
    );
    expect(merges).toEqual([
      // Those which are cut out of the text, and "aa" with the same score: long left parts, then long right parts first.
      ["▁▁", "▁"],
      ["▁", "▁▁"],
      ["\n", "\n"],
      ["▁", "▁"],
      ["a", "a"],
      ["aa", "a"],
      ["a", "aa"],
      ["▁", "a"],
      ["a", "b"],
    ]);
    expect(tokens("aaaaa")).toEqual(["aa", "aaa"]);
    expect(tokens("aab é")).toEqual(["aa", "b", "▁", "é"]);
    expect(tokens("    a")).toEqual(["▁▁▁", "▁a"]);
    expect(tokens("\n\n\nx")).toEqual(["\n\n", "\n", "<0x78>"]);
    expect(tokens("<bos><unused0>")).toEqual(["<bos>", "<unused0>"]);
  });

  it("marks control tokens as special, unused ones apart", () => {
    expect(bpe.specialIds).toEqual([0, 1, 2, 3]);
  });

  it("reads the settings", () => {
    expect(settings).toMatchObject({
      special_tokens: { bos_token: "<bos>", eos_token: "<eos>", unk_token: "<unk>", pad_token: "<pad>" },
      add_bos_token: true,
      add_eos_token: true,
      padding_side: "left",
    });
    const named = metadata()
      .set("tokenizer.chat_template", "one")
      .set("tokenizer.chat_template.tool_use", "two");
    expect(tokenizerFromGguf(named, "model.gguf").settings.chat_template).toEqual({
      default: "one",
      tool_use: "two",
    });
  });

  it("reads Gemma 1: no tab but its byte, an unknown token, and turns that are stored like words", () => {
    const changed = metadata();
    const tokens = (changed.get("tokenizer.ggml.tokens") as unknown as { toArray(): string[] }).toArray();
    const types = changed.get("tokenizer.ggml.token_type") as Int32Array;
    types[3] = 2;
    const turn = tokens.length - 1;
    const old = tokens.with(turn, "<start_of_turn>").with(turn - 1, "\t\t");
    changed.set("tokenizer.ggml.tokens", { length: old.length, toArray: () => [...old] } as never);
    const gemma1 = new GemmaBpe(tokenizerFromGguf(changed, "model.gguf").tables);
    const tab = old.indexOf("<0x09>");
    expect(gemma1.encode("\t")).toEqual([tab]);
    expect(gemma1.encode("\t\ta<unk><start_of_turn>\t")).toEqual([turn - 1, old.indexOf("a"), 3, turn, tab]);
    expect(gemma1.specialIds).toEqual([0, 1, 2, 3, turn]);
    expect(gemma1.decode([old.indexOf("<0xE2>"), tab])).toBe("\ufffd\t");
  });

  it("refuses metadata that does not fit together", () => {
    const changes: [string, MetadataValue][] = [
      ["tokenizer.ggml.model", "gpt2"],
      ["tokenizer.ggml.tokens", 5],
      ["tokenizer.ggml.scores", new Float32Array(3)],
      ["tokenizer.ggml.token_type", "no"],
      ["tokenizer.ggml.bos_token_id", 100_000],
    ];
    for (const [key, value] of changes) {
      expect(() => tokenizerFromGguf(metadata().set(key, value), "model.gguf"), key).toThrow(CheckpointError);
    }
  });
});
