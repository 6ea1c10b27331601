import type { Expression } from "./expressions.ts";
import { bound, DIGITS, type JsonText } from "./json-text.ts";

/** Bounds of a number, each with or without the bound itself. */
export interface NumberBounds {
  readonly least?: { readonly value: number; readonly exclusive: boolean } | undefined;
  readonly most?: { readonly value: number; readonly exclusive: boolean } | undefined;
  readonly integer: boolean;
}

/** A bound without its sign: digits before the point, and after it without zeros at the end. */
interface Magnitude {
  readonly whole: string;
  readonly fraction: string;
  readonly exclusive: boolean;
}

const ZERO = { whole: "0", fraction: "" } as const;

/** The numbers within bounds in plain decimals, without exponents. */
export function boundedNumber(json: JsonText, { least, most, integer }: NumberBounds): Expression {
  const { expressions } = json;
  const parts: Expression[] = [];
  if (most === undefined || most.value > 0 || (most.value === 0 && !most.exclusive)) {
    const from = least === undefined || least.value < 0 ? { ...ZERO, exclusive: false } : magnitude(least);
    parts.push(between(json, from, most && magnitude(most), integer));
  }
  if (least === undefined || least.value < 0) {
    // Zero has no minus sign.
    const from = most === undefined || most.value >= 0 ? { ...ZERO, exclusive: true } : magnitude(most);
    const negative = between(json, from, least && magnitude(least), integer);
    parts.push(expressions.seq(expressions.literal("-"), negative));
  }
  return expressions.alt(parts);
}

function between(json: JsonText, from: Magnitude, to: Magnitude | undefined, integer: boolean): Expression {
  const lengths = [from, to].flatMap((one) => (one ? [one.whole.length, one.fraction.length + 1] : []));
  const digits = Math.max(DIGITS, ...lengths);
  const writer = new Decimals(json, digits, integer);
  const above = writer.atLeast(from);
  return to === undefined ? above : json.expressions.and(above, writer.atMost(to));
}

function magnitude({ value, exclusive }: { value: number; exclusive: boolean }): Magnitude {
  const [whole = "0", fraction = ""] = plainDecimal(Math.abs(value)).split(".");
  return { whole, fraction: fraction.replace(/0+$/, ""), exclusive };
}

/** A number's digits without exponent. */
function plainDecimal(value: number): string {
  const match = /^(\d+)(?:\.(\d+))?e([+-]\d+)$/.exec(String(value));
  if (match === null) return String(value);
  const [, whole = "", fraction = "", exponent = "0"] = match;
  const shift = Number(exponent);
  if (shift < 0) return `0.${"0".repeat(-shift - 1)}${whole}${fraction}`;
  return whole + fraction.padEnd(shift, "0");
}

/** Decimal numbers from zero on, compared digit by digit. */
class Decimals {
  readonly #json: JsonText;
  readonly #digits: number;
  readonly #integer: boolean;

  constructor(json: JsonText, digits: number, integer: boolean) {
    this.#json = json;
    this.#digits = digits;
    this.#integer = integer;
  }

  atLeast({ whole, fraction, exclusive }: Magnitude): Expression {
    const { seq, alt, literal } = bound(this.#json.expressions);
    const longer = seq(this.#json.digits("1", "9"), this.#some(whole.length, this.#digits - 1));
    const larger = this.#differing(whole, (digit) => this.#range(digit + 1, 9), true);
    return alt(
      seq(alt(longer, larger), this.#anyFraction()),
      seq(literal(whole), this.#fractionAtLeast(fraction, exclusive)),
    );
  }

  atMost({ whole, fraction, exclusive }: Magnitude): Expression {
    const { seq, alt, literal, repeat } = bound(this.#json.expressions);
    const shorter =
      whole.length === 1
        ? this.#json.expressions.empty
        : alt(literal("0"), seq(this.#json.digits("1", "9"), repeat(this.#json.digit, 0, whole.length - 2)));
    const least = whole.length > 1 ? 1 : 0;
    const smaller = this.#differing(
      whole,
      (digit, place) => this.#range(place === 0 ? least : 0, digit - 1),
      true,
    );
    return alt(
      seq(alt(shorter, smaller), this.#anyFraction()),
      seq(literal(whole), this.#fractionAtMost(fraction, exclusive)),
    );
  }

  /** What may follow equal whole parts for the number to be at least 0.`fraction`, or more. */
  #fractionAtLeast(fraction: string, exclusive: boolean): Expression {
    const { seq, alt, literal } = bound(this.#json.expressions);
    if (fraction === "" && !exclusive) return this.#anyFraction();
    if (this.#integer) return this.#json.expressions.empty;
    const equal = seq(literal(fraction), exclusive ? this.#nonZero() : this.#some(0, this.#digits));
    const larger = this.#differing(fraction, (digit) => this.#range(digit + 1, 9), false);
    return seq(literal("."), alt(equal, larger));
  }

  #fractionAtMost(fraction: string, exclusive: boolean): Expression {
    const { seq, alt, literal, repeat } = bound(this.#json.expressions);
    const { epsilon, empty } = this.#json.expressions;
    if (this.#integer) return fraction === "" && exclusive ? empty : epsilon;
    const zeros = repeat(literal("0"), fraction === "" ? 1 : 0, this.#digits);
    if (fraction === "") return exclusive ? empty : alt(epsilon, seq(literal("."), zeros));
    const shorter = Array.from({ length: fraction.length - 1 }, (_, i) => literal(fraction.slice(0, i + 1)));
    const smaller = this.#differing(fraction, (digit) => this.#range(0, digit - 1), false);
    const equal = exclusive ? [] : [seq(literal(fraction), zeros)];
    return alt(epsilon, seq(literal("."), alt(...shorter, smaller, ...equal)));
  }

  /** Digits that agree with `digits` up to a place, and there are one of `at`. As many follow, or up to the limit. */
  #differing(
    digits: string,
    at: (digit: number, place: number) => Expression,
    sameLength: boolean,
  ): Expression {
    const { seq, alt, literal } = bound(this.#json.expressions);
    return alt(
      ...[...digits].map((digit, place) => {
        const left = digits.length - place - 1;
        const rest = sameLength ? this.#some(left, left) : this.#some(0, this.#digits);
        return seq(literal(digits.slice(0, place)), at(Number(digit), place), rest);
      }),
    );
  }

  #anyFraction(): Expression {
    const { seq, literal, optional } = bound(this.#json.expressions);
    if (this.#integer) return this.#json.expressions.epsilon;
    return optional(seq(literal("."), this.#some(1, this.#digits)));
  }

  /** Digits that are not all zeros. */
  #nonZero(): Expression {
    const { seq } = bound(this.#json.expressions);
    return seq(this.#some(0, this.#digits), this.#json.digits("1", "9"), this.#some(0, this.#digits));
  }

  #some(least: number, most: number): Expression {
    return this.#json.expressions.repeat(this.#json.digit, least, most);
  }

  #range(low: number, high: number): Expression {
    return low > high ? this.#json.expressions.empty : this.#json.digits(String(low), String(high));
  }
}
