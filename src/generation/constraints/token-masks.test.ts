import { resolve } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { loadTokenizer } from "../../processing/load-tokenizer.ts";
import type { PreTrainedTokenizer } from "../../processing/tokenizer.ts";
import { Automaton, DEAD } from "./automaton.ts";
import { type ConstraintOptions, compileConstraint, constraintSource } from "./constraint.ts";
import { Expressions } from "./expressions.ts";
import { TokenMasks } from "./token-masks.ts";
import { type ConstraintTokenizer, Vocabulary } from "./vocabulary.ts";

let tokenizer: PreTrainedTokenizer;
let vocabulary: Vocabulary;
/** Tokens that reach beyond the ends of strings, and into others. */
const CROSSING = [
  ...Array.from({ length: 95 }, (_, i) => String.fromCharCode(32 + i)),
  ...[
    '"}',
    '":',
    '", "',
    '":"',
    '"," a',
    'a"}',
    '":"a',
    'the"',
    '\\"',
    "\\u00",
    'é"',
    "name",
    '{"name"',
    '"tag":"',
    '"]',
    '\\"}',
  ],
];
const crossing: ConstraintTokenizer = {
  vocab_size: CROSSING.length,
  decode: (ids) => ids.map((id) => CROSSING[id]).join(""),
};
beforeAll(async () => {
  tokenizer = await loadTokenizer({
    folder: resolve(import.meta.dirname, "../../../test/fixtures/tokenizer"),
  });
  vocabulary = new Vocabulary(tokenizer);
});

function hasBit(bits: Uint32Array, id: number): boolean {
  return ((bits[id >> 5]! >>> (id & 31)) & 1) === 1;
}

function randomNumbers(): () => number {
  let seed = 1;
  return () => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    return seed / 2 ** 32;
  };
}

describe("Vocabulary", () => {
  it("has the bytes that the tokenizer decodes, and none for special tokens", () => {
    expect(vocabulary.size).toBe(tokenizer.vocab_size);
    for (let id = 0; id < vocabulary.size; id++) {
      const byte = /^<0x(..)>$/.exec(tokenizer.convert_ids_to_tokens(id));
      const expected =
        byte === null
          ? new TextEncoder().encode(tokenizer.decode([id], { skip_special_tokens: true }))
          : Uint8Array.of(Number.parseInt(byte[1]!, 16));
      expect([id, ...vocabulary.bytesOf(id)]).toEqual([id, ...expected]);
    }
    expect(vocabulary.bytesOf(tokenizer.eos_token_id!)).toHaveLength(0);
    expect(vocabulary.bytesOf(vocabulary.size)).toHaveLength(0);
  });

  it("is the same from any tokenizer that decodes alike", () => {
    const plain = new Vocabulary({
      vocab_size: tokenizer.vocab_size,
      decode: (ids, options) => tokenizer.decode(ids, options),
      convert_ids_to_tokens: (ids) => tokenizer.convert_ids_to_tokens(ids),
    });
    expect(plain.ids).toEqual(vocabulary.ids);
    expect(plain.label).toEqual(vocabulary.label);
    expect(plain.after).toEqual(vocabulary.after);
  });

  it("holds every token in a trie, once, under its bytes", () => {
    const { label, depth, after, first, ids } = vocabulary;
    const found: number[] = [];
    const path: number[] = [];
    for (let node = 0; node < label.length; node++) {
      path.length = depth[node]!;
      path.push(label[node]!);
      expect(after[node]).toBeGreaterThan(node);
      for (let i = first[node]!; i < first[node + 1]!; i++) {
        found.push(ids[i]!);
        expect([...vocabulary.bytesOf(ids[i]!)]).toEqual(path);
      }
    }
    const all = Array.from({ length: vocabulary.size }, (_, id) => id);
    expect(found.sort((a, b) => a - b)).toEqual(all.filter((id) => vocabulary.bytesOf(id).length > 0));
  });
});

describe("TokenMasks", () => {
  const constraints: ConstraintOptions[] = [
    { json_schema: true },
    {
      json_schema: {
        type: "object",
        properties: {
          name: { type: "string", maxLength: 12 },
          age: { type: "integer" },
          tag: { enum: ["the", "then"] },
        },
        required: ["name", "tag"],
        additionalProperties: { type: "string", pattern: "^[a-z ]+$", maxLength: 9 },
      },
    },
    { json_schema: { type: "array", items: { type: "string", minLength: 3 }, minItems: 3 } },
    { regex: "(the |a ){0,90}[^x]{2,4}\\d?" },
    { regex: /\s*.+end/s },
  ];

  const cases = constraints.flatMap((options) => [false, true].map((crosses) => ({ options, crosses })));
  it.each(cases)("allow a token exactly where its bytes lead on: %j", ({ options, crosses }) => {
    const masks = compileConstraint(constraintSource(options)!, crosses ? crossing : tokenizer);
    const { automaton, vocabulary } = masks;
    const tokens = [...vocabulary.ids];
    const random = randomNumbers();
    for (let text = 0; text < 6; text++) {
      let state = automaton.start;
      const budget = 14 + text * 9;
      for (let left = budget; left > 0; left--) {
        const after = tokens.map((id) => automaton.after(state, vocabulary.bytesOf(id)));
        const inTime = (to: number): boolean => to !== DEAD && automaton.shortest[to]! < left;
        const hasTime = automaton.shortest[state]! <= left && after.some(inTime);
        const [all, timely] = [masks.allowed(state), masks.allowed(state, left)];
        const check = (bits: Uint32Array, allows: (to: number) => boolean): void => {
          const wrong = tokens.filter((id, i) => hasBit(bits, id) !== allows(after[i]!));
          expect(wrong).toEqual([]);
        };
        check(all.bits, (to) => to !== DEAD);
        check(timely.bits, hasTime ? inTime : (to) => to !== DEAD);
        const possible = tokens.filter((id) => hasBit(timely.bits, id));
        expect(timely.empty).toBe(possible.length === 0);
        if (possible.length === 0) break;
        state = automaton.after(state, vocabulary.bytesOf(possible[Math.floor(random() * possible.length)]!));
      }
      if (automaton.shortest[automaton.start]! <= budget) expect(automaton.nullable[state]).toBe(1);
    }
  });

  it("leave a way that takes one token less, from every state", () => {
    const expressions = new Expressions("test", (text) => vocabulary.tokensFor(text));
    const texts = ["the quick brown fox", '{"name": "', "the the then", "x".repeat(150), "日本語 🎉"];
    const root = expressions.alt(
      texts.map((text) => expressions.seq(expressions.text(text), expressions.text("!"))),
    );
    const automaton = new Automaton(expressions, root);
    const masks = new TokenMasks(automaton, vocabulary);
    for (let state = automaton.start; automaton.nullable[state] === 0; ) {
      const needed = automaton.shortest[state]!;
      const next = [...vocabulary.ids]
        .filter((id) => hasBit(masks.allowed(state, needed).bits, id))
        .map((id) => automaton.after(state, vocabulary.bytesOf(id)));
      expect(next.length).toBeGreaterThan(0);
      expect(next.every((to) => automaton.shortest[to]! <= needed - 1)).toBe(true);
      state = next[0]!;
    }
    expect(automaton.shortest[automaton.start]).toBeLessThan(20);
  });

  it("are kept from one call to the next", () => {
    const source = constraintSource({ json_schema: { type: "integer" } })!;
    const again = constraintSource({ json_schema: '{"type": "integer"}' })!;
    expect(compileConstraint(again, tokenizer)).toBe(compileConstraint(source, tokenizer));
  });
});
