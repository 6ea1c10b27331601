import { type CodePoints, complement } from "./code-points.ts";
import type { Expression, Expressions } from "./expressions.ts";
import { FORMATS } from "./json-formats.ts";
import { boundedNumber, type NumberBounds } from "./json-numbers.ts";
import { bound, type JsonText } from "./json-text.ts";
import { regexExpression, remembering } from "./regex.ts";
import { parseRegex } from "./regex-parser.ts";
import { escaped, type JsonType, type Schema } from "./schema-keywords.ts";
import { type Keywords, saidOf } from "./schema-merge.ts";

/** Writes the values of single types that satisfy keywords. */
export class TypedValues {
  readonly #json: JsonText;
  readonly #expressions: Expressions;
  readonly #character: (set: CodePoints) => Expression;
  readonly #compile: (schema: unknown, path: string) => Expression;

  /** `compile` makes the expression of a schema inside. */
  constructor(json: JsonText, compile: (schema: unknown, path: string) => Expression) {
    this.#json = json;
    this.#expressions = json.expressions;
    this.#compile = compile;
    this.#character = remembering((set) => json.plainCharacter(set));
  }

  /** The values of one type. */
  typed(type: JsonType, keywords: Keywords, path: string): Expression {
    const { literal, alt } = bound(this.#expressions);
    switch (type) {
      case "null":
        return literal("null");
      case "boolean":
        return alt(literal("true"), literal("false"));
      case "string":
        return this.#string(keywords);
      case "array":
        return this.#array(keywords, path);
      case "object":
        return this.#object(keywords, path);
      default:
        return this.#number(keywords, type === "integer");
    }
  }

  #string(keywords: Keywords): Expression {
    const { expressions } = this.#json;
    const [least, most] = [
      keywords.minLength ?? 0,
      keywords.maxLength ?? Number.POSITIVE_INFINITY,
    ] as number[];
    const patterns = [keywords.pattern ?? []].flat() as string[];
    const formats = [keywords.format ?? []].flat().map((format) => FORMATS.get(format as string)!);
    if (patterns.length + formats.length === 0) {
      if (least === 0 && most === Number.POSITIVE_INFINITY) return this.#json.anyString;
      return this.#json.string(expressions.repeat(this.#json.character, least!, most!));
    }
    const any = this.#character(complement([]));
    const matching = (pattern: string, around: Expression): Expression =>
      regexExpression(parseRegex(pattern, expressions.option), {
        expressions,
        character: this.#character,
        around,
      });
    const everything = expressions.repeat(any, 0, Number.POSITIVE_INFINITY);
    const conditions = [
      ...formats.map((format) => matching(format, expressions.epsilon)),
      ...patterns.map((pattern) => matching(pattern, everything)),
    ];
    if (least !== 0 || most !== Number.POSITIVE_INFINITY)
      conditions.push(expressions.repeat(any, least!, most!));
    return this.#json.string(conditions.reduce((all, one) => expressions.and(all, one)));
  }

  #number(keywords: Keywords, integer: boolean): Expression {
    const bounds: NumberBounds = {
      least: tighter(keywords.minimum, keywords.exclusiveMinimum, (a, b) => a > b),
      most: tighter(keywords.maximum, keywords.exclusiveMaximum, (a, b) => a < b),
      integer,
    };
    if (bounds.least === undefined && bounds.most === undefined)
      return integer ? this.#json.integer : this.#json.number;
    return boundedNumber(this.#json, bounds);
  }

  #array(keywords: Keywords, path: string): Expression {
    const { expressions, space, comma } = this.#json;
    const { seq, repeat, optional } = bound(expressions);
    const least = (keywords.minItems ?? 0) as number;
    const most = (keywords.maxItems ?? Number.POSITIVE_INFINITY) as number;
    const prefix = ((keywords.prefixItems ?? []) as unknown[])
      .slice(0, most)
      .map((item, i) => this.#compile(item, `${path}/prefixItems/${i}`));
    const others = keywords.items ?? (prefix.length === 0 || least > prefix.length);
    const element = this.#compile(others, `${path}/items`);
    if (prefix.length === 0) return this.#json.list(element, least, most);
    const { length } = prefix;
    let tail = repeat(seq(space, comma, element), Math.max(0, least - length), most - length);
    for (let i = length - 1; i > 0; i--) {
      const more = seq(space, comma, prefix[i]!, tail);
      tail = least <= i ? optional(more) : more;
    }
    const content = seq(prefix[0]!, tail);
    const filled = content === expressions.empty ? content : this.#json.enclosed("[", content, "]", false);
    return expressions.alt(least === 0 ? [this.#json.list(element, 0, 0), filled] : [filled]);
  }

  #object(keywords: Keywords, path: string): Expression {
    const { expressions, space, comma, colon } = this.#json;
    const { seq, text, repeat, optional } = bound(expressions);
    const properties = (keywords.properties ?? {}) as Readonly<Record<string, Schema>>;
    const required = new Set((keywords.required ?? []) as string[]);
    const names = [...new Set([...Object.keys(properties), ...required])];
    const mayHaveOthers = (keywords.additionalProperties ?? names.length === 0) as Schema;
    const other =
      mayHaveOthers === false
        ? expressions.empty
        : seq(this.#otherKey(names), colon, this.#compile(mayHaveOthers, `${path}/additionalProperties`));
    // From the last property to the first: what may follow once there is one before.
    let next = repeat(seq(space, comma, other), 0, Number.POSITIVE_INFINITY);
    // What an object may begin with: any property before the first required one, or that one.
    let first = [seq(other, next), expressions.epsilon];
    for (const name of names.toReversed()) {
      const schema = saidOf(name, properties, keywords) ?? true;
      const value = this.#compile(schema, `${path}/properties/${escaped(name)}`);
      const here = seq(text(JSON.stringify(name)), colon, value);
      const after = seq(space, comma, here);
      if (required.has(name)) first = [];
      first.push(seq(here, next));
      next = seq(required.has(name) ? after : optional(after), next);
    }
    return this.#json.enclosed("{", expressions.alt(first), "}", false);
  }

  /** A key that is none of `names`. */
  #otherKey(names: readonly string[]): Expression {
    if (names.length === 0) return this.#json.anyString;
    const expressions = this.#expressions;
    const any = this.#character(complement([]));
    const taken = names.map((name) => expressions.text(JSON.stringify(name).slice(1, -1)));
    const free = expressions.not(expressions.alt(taken));
    return this.#json.string(expressions.and(expressions.repeat(any, 0, Number.POSITIVE_INFINITY), free));
  }
}

type Bound = NumberBounds["least"];

/** The bound that leaves less room, of an inclusive and an exclusive one. */
function tighter(inclusive: unknown, exclusive: unknown, narrower: (a: number, b: number) => boolean): Bound {
  if (exclusive === undefined) {
    return inclusive === undefined ? undefined : { value: inclusive as number, exclusive: false };
  }
  const open = { value: exclusive as number, exclusive: true };
  if (inclusive === undefined || !narrower(inclusive as number, open.value)) return open;
  return { value: inclusive as number, exclusive: false };
}
