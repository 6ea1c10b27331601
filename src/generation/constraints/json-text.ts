import { type CodePoints, complement, includes, utf8, without } from "./code-points.ts";
import type { Expression, Expressions } from "./expressions.ts";

/** Characters that a JSON string can't hold as they are, and how they are written. */
const SHORT_ESCAPES: ReadonlyMap<number, string> = new Map([
  [0x22, '\\"'],
  [0x5c, "\\\\"],
  [8, "\\b"],
  [9, "\\t"],
  [10, "\\n"],
  [12, "\\f"],
  [13, "\\r"],
]);
const ESCAPED: CodePoints = [
  [0, 0x1f],
  [0x22, 0x22],
  [0x5c, 0x5c],
];
/** Digits of a number before its point, and after it: what a double keeps exactly. */
export const DIGITS = 15;
/** Deepest indentation. Without bounds a model could go on with spaces for ever. */
const INDENT = { spaces: 40, tabs: 10 };

/** The parts of JSON texts as expressions. */
export class JsonText {
  readonly expressions: Expressions;
  /** One character of a string, escaped or not. */
  readonly character: Expression;
  /** Nothing, a space, or a new line with its indentation. */
  readonly space: Expression;
  readonly colon: Expression;
  readonly comma: Expression;
  readonly digit: Expression;
  readonly integer: Expression;
  readonly number: Expression;
  readonly anyString: Expression;
  #anyValue: Expression | undefined;

  constructor(expressions: Expressions) {
    this.expressions = expressions;
    const { seq, alt, literal, repeat, optional } = bound(expressions);
    this.character = anyCharacter(expressions);
    this.space = alt(
      optional(literal(" ")),
      seq(literal("\n"), alt(repeat(literal(" "), 0, INDENT.spaces), repeat(literal("\t"), 0, INDENT.tabs))),
    );
    this.colon = seq(literal(":"), optional(literal(" ")));
    this.comma = seq(literal(","), this.space);
    this.digit = this.digits("0", "9");
    const whole = alt(literal("0"), seq(this.digits("1", "9"), repeat(this.digit, 0, DIGITS - 1)));
    const minus = optional(literal("-"));
    this.integer = alt(literal("0"), seq(minus, this.digits("1", "9"), repeat(this.digit, 0, DIGITS - 1)));
    const sign = optional(alt(literal("+"), literal("-")));
    const exponent = seq(alt(literal("e"), literal("E")), sign, repeat(this.digit, 1, 2));
    this.number = seq(
      minus,
      whole,
      optional(seq(literal("."), repeat(this.digit, 1, DIGITS))),
      optional(exponent),
    );
    this.anyString = this.string(repeat(this.character, 0, Number.POSITIVE_INFINITY));
  }

  /** One digit of a range. */
  digits(low: string, high: string): Expression {
    const [from, to] = [low.charCodeAt(0), high.charCodeAt(0)];
    return this.expressions.bytes((byte) => byte >= from && byte <= to);
  }

  /** A string with this content. */
  string(content: Expression): Expression {
    const quote = this.expressions.literal('"');
    return this.expressions.lexeme(this.expressions.seq(quote, content, quote));
  }

  /** One character of a set in its plainest form: escaped only where JSON has no other way. */
  plainCharacter(set: CodePoints): Expression {
    const { expressions } = this;
    const escapes: Expression[] = [];
    for (let point = 0; point <= 0x5c; point++) {
      if (includes(ESCAPED, point) && includes(set, point)) {
        escapes.push(expressions.literal(SHORT_ESCAPES.get(point) ?? `\\u${hex4(point)}`));
      }
    }
    return expressions.alt([utf8(expressions, without(set, ESCAPED)), ...escapes]);
  }

  /** A list in brackets: `first`, then what `rest` says, or nothing at all where `mayBeEmpty`. */
  enclosed(open: string, content: Expression, close: string, mayBeEmpty: boolean): Expression {
    const { seq, literal, optional } = bound(this.expressions);
    const filled = seq(this.space, content);
    return seq(literal(open), mayBeEmpty ? optional(filled) : filled, this.space, literal(close));
  }

  /** An object whose keys and values are free but for what these expressions say. */
  map(key: Expression, value: Expression): Expression {
    const { seq, repeat } = bound(this.expressions);
    const pair = seq(key, this.colon, value);
    const more = repeat(seq(this.space, this.comma, pair), 0, Number.POSITIVE_INFINITY);
    return this.enclosed("{", seq(pair, more), "}", true);
  }

  /** `least` to `most` elements. */
  list(element: Expression, least: number, most: number): Expression {
    const { seq, repeat, literal } = bound(this.expressions);
    const empty = seq(literal("["), this.space, literal("]"));
    if (most === 0) return least === 0 ? empty : this.expressions.empty;
    const more = repeat(seq(this.space, this.comma, element), Math.max(0, least - 1), most - 1);
    const content = seq(element, more);
    // Where there can be no element, the empty list is left.
    if (content === this.expressions.empty) return least === 0 ? empty : content;
    return this.enclosed("[", content, "]", least === 0);
  }

  /** A value as JSON.stringify has it, with the spaces that other values may have. */
  constant(value: unknown): Expression {
    const { seq, text, literal } = bound(this.expressions);
    if (typeof value !== "object" || value === null) return text(JSON.stringify(value));
    const entries = Array.isArray(value)
      ? value.map((item) => this.constant(item))
      : Object.entries(value).map(([key, item]) =>
          seq(text(JSON.stringify(key)), this.colon, this.constant(item)),
        );
    const [open, close] = Array.isArray(value) ? ["[", "]"] : ["{", "}"];
    if (entries.length === 0) return literal(open + close);
    const joined = entries.flatMap((entry, i) => (i === 0 ? [entry] : [this.space, this.comma, entry]));
    return this.enclosed(open, seq(...joined), close, false);
  }

  /** Any JSON value. */
  get anyValue(): Expression {
    if (this.#anyValue === undefined) {
      const { expressions } = this;
      this.#anyValue = expressions.rule("any value");
      expressions.define(
        "any value",
        expressions.alt([
          this.map(this.anyString, this.#anyValue),
          this.list(this.#anyValue, 0, Number.POSITIVE_INFINITY),
          this.anyString,
          this.number,
          ...["true", "false", "null"].map((word) => expressions.literal(word)),
        ]),
      );
    }
    return this.#anyValue;
  }
}

/** Raw, or any of the escapes; halves of surrogate pairs only as pairs. */
function anyCharacter(expressions: Expressions): Expression {
  const { seq, alt, literal, repeat } = bound(expressions);
  const hex = (allowed: RegExp): Expression =>
    expressions.bytes((byte) => allowed.test(String.fromCharCode(byte)));
  const any = hex(/[0-9a-fA-F]/);
  const unit = alt(
    seq(hex(/[0-9a-cA-CefEF]/), repeat(any, 3, 3)),
    seq(hex(/[dD]/), hex(/[0-7]/), repeat(any, 2, 2)),
    seq(hex(/[dD]/), hex(/[89abAB]/), any, any, literal("\\u"), hex(/[dD]/), hex(/[c-fC-F]/), any, any),
  );
  return alt(
    utf8(expressions, without(complement([]), ESCAPED)),
    seq(literal("\\"), hex(/["\\/bfnrt]/)),
    seq(literal("\\u"), unit),
  );
}

/** The methods of expressions under short names. */
export function bound(expressions: Expressions): {
  seq: (...parts: readonly Expression[]) => Expression;
  alt: (...options: readonly Expression[]) => Expression;
  literal: (text: string) => Expression;
  text: (text: string) => Expression;
  repeat: (item: Expression, least: number, most: number) => Expression;
  optional: (item: Expression) => Expression;
} {
  return {
    seq: (...parts) => expressions.seq(...parts),
    alt: (...options) => expressions.alt(options),
    literal: (text) => expressions.literal(text),
    text: (text) => expressions.text(text),
    repeat: (item, least, most) => expressions.repeat(item, least, most),
    optional: (item) => expressions.optional(item),
  };
}

function hex4(point: number): string {
  return point.toString(16).padStart(4, "0");
}
