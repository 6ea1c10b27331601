import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { InputError } from "../../errors.ts";
import { utf8 } from "./code-points.ts";
import { type Expression, Expressions } from "./expressions.ts";
import { regexExpression, remembering } from "./regex.ts";
import { parseRegex } from "./regex-parser.ts";

function compile(expressions: Expressions, pattern: string, search = false): Expression {
  const any = utf8(expressions, [[0, 0x10ffff]]);
  return regexExpression(parseRegex(pattern, "regex"), {
    expressions,
    character: remembering((set) => utf8(expressions, set)),
    around: search ? expressions.repeat(any, 0, Number.POSITIVE_INFINITY) : expressions.epsilon,
  });
}

function matches(expressions: Expressions, root: Expression, text: string): boolean {
  let state = root;
  for (const byte of new TextEncoder().encode(text)) state = expressions.derive(state, byte);
  return state.nullable;
}

/** Patterns over a few characters, so that texts match now and then. */
const pattern = fc.letrec<{ any: string; leaf: string }>((tie) => ({
  leaf: fc.constantFrom(
    "a",
    "b",
    "é",
    "😀",
    ".",
    "[ab]",
    "[^a]",
    "\\d",
    "[\\w-]",
    "[a-é]",
    "\\u{1f600}",
    "\\n",
  ),
  any: fc.oneof(
    { depthSize: "small" },
    tie("leaf"),
    fc.tuple(tie("any"), tie("any")).map(([a, b]) => a + b),
    fc.tuple(tie("any"), tie("any")).map(([a, b]) => `(?:${a}|${b})`),
    fc
      .tuple(tie("any"), fc.constantFrom("*", "+", "?", "{2}", "{1,}", "{0,2}", "*?"))
      .map(([a, count]) => `(${a})${count}`),
  ),
})).any;
const text = fc.string({ unit: fc.constantFrom("a", "b", "é", "😀", "1", "-", "\n", "_"), maxLength: 6 });

describe("patterns", () => {
  it("match what JavaScript's own do", () => {
    fc.assert(
      fc.property(pattern, fc.array(text, { minLength: 12, maxLength: 12 }), (source, texts) => {
        const expressions = new Expressions("regex");
        const root = compile(expressions, source);
        const oracle = new RegExp(`^(?:${source})$`, "u");
        for (const one of texts)
          expect([one, matches(expressions, root, one)]).toEqual([one, oracle.test(one)]);
      }),
      { numRuns: 100 },
    );
  });

  it.each([
    "a",
    "^a",
    "a$",
    "^a$",
    "^a|b$",
    "^(a|b)$",
    "(^a|b)",
    "^(a|^b)",
    "(a$|b)",
    "^$",
    "",
    "^",
    "a(b|1$)",
  ])("are searched for within a text: %s", (source) => {
    const expressions = new Expressions("pattern");
    const root = compile(expressions, source, true);
    const oracle = new RegExp(source, "u");
    for (const one of ["", "a", "b", "ab", "ba", "bab", "aba", "1", "ab1", "1ab", "\n"]) {
      expect([one, matches(expressions, root, one)]).toEqual([one, oracle.test(one)]);
    }
  });

  it("know the properties of Unicode, classes and escapes", () => {
    const sources = [
      "\\p{Lu}",
      "\\P{L}",
      "[^\\p{Script=Greek}x]",
      "\\s",
      "\\S",
      "\\W",
      "\\x41",
      "\\u00e9",
      "\\ud83d\\ude00",
    ];
    for (const source of [...sources, "[\\b]", "\\.", "\\/", "\\t", "[\\]\\-a]"]) {
      const expressions = new Expressions("regex");
      const root = compile(expressions, source);
      const oracle = new RegExp(`^(?:${source})$`, "u");
      for (const one of [
        "A",
        "a",
        "é",
        "É",
        "Ω",
        "ω",
        "x",
        " ",
        "\u2003",
        "\ufeff",
        "\b",
        "\t",
        ".",
        "/",
        "]",
        "-",
        "😀",
        "߿",
        "ࠀ",
        "\uffff",
        "𐀀",
      ]) {
        expect([source, one, matches(expressions, root, one)]).toEqual([source, one, oracle.test(one)]);
      }
    }
  });

  it.each([
    ["a(?=b)", "look-around"],
    ["(?<!a)b", "look-around"],
    ["(a)\\1", "\\1"],
    ["\\bword", "\\b"],
    ["\\q", "unknown escape"],
    ["(a", 'a "(" without'],
    ["a)", 'a ")" without'],
    ["[a", 'a "[" without'],
    ["*a", "nothing to repeat"],
    ["a**", "nothing to repeat"],
    ["a{3,2}", "out of order"],
    ["[z-a]", "out of order"],
    ["a{x}", "no count"],
    ["\\p{Nonsense}", "unknown property"],
    ["\\p{L}|\\p{(}", "unknown property"],
    ["a\\", "backslash"],
    ["a^b", "only where the text begins"],
    ["(".repeat(200) + ")".repeat(200), "groups inside each other"],
    ["a".repeat(20_000), "longer than"],
  ])("that can't be used say why: %s", (source, why) => {
    const expressions = new Expressions("regex");
    expect(() => compile(expressions, source)).toThrow(InputError);
    expect(() => compile(expressions, source)).toThrow(why);
  });
});

describe("any text", () => {
  it("is a pattern as in JavaScript or refused with a reason", () => {
    const parts = fc.constantFrom(
      ..."a ( ) [ ] { } ? * + | ^ $ \\ . - , 1 : p L u x 0 d w < > = ! é 😀".split(" "),
    );
    fc.assert(
      fc.property(
        fc.string({ unit: parts, maxLength: 12 }),
        fc.array(text, { minLength: 5, maxLength: 8 }),
        (source, texts) => {
          const expressions = new Expressions("regex");
          let root: Expression;
          try {
            root = compile(expressions, source);
          } catch (error) {
            if (error instanceof InputError) return;
            throw error;
          }
          const oracle = oracleOf(source);
          for (const one of texts) {
            if (oracle !== undefined)
              expect([one, matches(expressions, root, one)]).toEqual([one, oracle.test(one)]);
          }
        },
      ),
      { numRuns: 200 },
    );
  });
});

/** JavaScript itself refuses a few needless escapes that are let pass. */
function oracleOf(source: string): RegExp | undefined {
  try {
    return new RegExp(`^(?:${source})$`, "u");
  } catch {
    return undefined;
  }
}

describe("expressions", () => {
  it("intersect and complement", () => {
    const expressions = new Expressions("test");
    const words = compile(expressions, "[a-z]{2,5}");
    const both = expressions.and(words, expressions.not(compile(expressions, "a.*|.*z")));
    for (const one of ["a", "bb", "ab", "bz", "bcdef", "bcdefg", "b"]) {
      expect([one, matches(expressions, both, one)]).toEqual([one, /^(?=[a-z]{2,5}$)(?!a|.*z$)/.test(one)]);
    }
    expect(both.shortest).toBe(2);
    expect(expressions.and(words, compile(expressions, "\\d+"))).toBe(expressions.empty);
    expect(expressions.and(compile(expressions, "a{3,9}"), compile(expressions, "a{1,2}|a{12}"))).toBe(
      expressions.empty,
    );
    expect(expressions.and(compile(expressions, "(ab)+"), compile(expressions, "(aba|b)+")).shortest).toBe(4);
  });

  it("say how many bytes still suffice, one less after the right one", () => {
    fc.assert(
      fc.property(pattern, pattern, (a, b) => {
        const expressions = new Expressions("test");
        let state = expressions.and(compile(expressions, a), compile(expressions, `(?:${b})|(?:${a})b?`));
        while (state !== expressions.empty && !state.nullable) {
          const next = [...Array(256).keys()].map((byte) => expressions.derive(state, byte));
          const best = next.reduce((x, y) => (y.shortest < x.shortest ? y : x));
          expect(best.shortest).toBeLessThanOrEqual(state.shortest - 1);
          state = best;
        }
      }),
      { numRuns: 30 },
    );
  });

  it("keep to their limits however large the counts", () => {
    const expressions = new Expressions("regex");
    const huge = compile(expressions, "((a{1000000000}|b){0,999999999}c){5}");
    expect(matches(expressions, huge, "bbcbcbcbcc")).toBe(true);
    expect(() => compile(expressions, `${"(?:".repeat(9)}.{99}${"){99}".repeat(9)}`)).not.toThrow();
    const doubling = compile(expressions, "(?:.*a.{3000}){3}");
    expect(() => matches(expressions, doubling, "aab".repeat(4000))).toThrow("too complex");
    expect(() => expressions.and(compile(expressions, "a{90000}"), compile(expressions, "(aa)*"))).toThrow(
      "too complex",
    );
  });

  it("refuse rules that begin with themselves, and drop those that nothing matches", () => {
    const loop = new Expressions("test");
    const rule = loop.rule("r");
    loop.define("r", loop.alt([loop.seq(rule, loop.literal("a")), loop.literal("b")]));
    expect(() => loop.resolve(rule)).toThrow("refers to itself");
    const endless = new Expressions("test");
    const never = endless.rule("never");
    endless.define("never", endless.seq(endless.literal("("), never));
    const root = endless.resolve(endless.alt([never, endless.literal("x")]));
    expect(matches(endless, root, "x")).toBe(true);
    expect(endless.derive(root, 40)).toBe(endless.empty);
  });
});
