import type { InputError } from "../../errors.ts";
import type { Expression, Expressions } from "./expressions.ts";
import { JsonText } from "./json-text.ts";
import { TypedValues } from "./json-values.ts";
import {
  COMBINATORS,
  checkedSchema,
  type JsonType,
  KEYWORDS_OF,
  type Schema,
  schemaError,
  TYPES,
  unescaped,
} from "./schema-keywords.ts";
import { type Keywords, merged, saidOf } from "./schema-merge.ts";

const MAX_DEPTH = 100;
/** Objects and lists inside each other, those in enum and const included. */
const MAX_NESTING = 500;
const MAX_SCHEMAS = 20_000;
/** Alternatives that allOf and anyOf beside other keywords may multiply to. */
const MAX_ALTERNATIVES = 256;

/**
 * The JSON texts that satisfy a schema, as an expression. Not all of them: properties come in the schema's order,
 * properties and elements that it doesn't mention are left out unless it says that they may be there, and spaces are
 * bounded. Every keyword counts; one that isn't supported is an InputError.
 */
export function jsonSchemaExpression(expressions: Expressions, schema: unknown): Expression {
  return new SchemaCompiler(expressions, schema).compile();
}

class SchemaCompiler {
  readonly #root: unknown;
  readonly #expressions: Expressions;
  readonly #json: JsonText;
  readonly #values: TypedValues;
  readonly #defined = new Set<string>();
  /** Where the schema can't be satisfied, as far as a single place shows it. */
  #dead: string | undefined;
  #depth = 0;
  #count = 0;

  constructor(expressions: Expressions, root: unknown) {
    this.#root = root;
    this.#expressions = expressions;
    this.#json = new JsonText(expressions);
    this.#values = new TypedValues(this.#json, (schema, path) => this.#value(schema, path));
  }

  compile(): Expression {
    if (!isShallow(this.#root, MAX_NESTING))
      throw this.#error("", `its JSON is nested more than ${MAX_NESTING} deep`);
    const root = this.#expressions.resolve(this.#value(this.#root, ""));
    if (root !== this.#expressions.empty) return root;
    throw this.#error(this.#dead ?? "", "no value can satisfy the schema");
  }

  #value(given: unknown, path: string): Expression {
    const schema = this.#checked(given, path);
    if (schema === false) return this.#expressions.empty;
    if (schema === true || Object.keys(schema).length === 0) return this.#json.anyValue;
    if (++this.#depth > MAX_DEPTH) throw this.#error(path, `schemas lie more than ${MAX_DEPTH} deep`);
    const expression = this.#satisfying(schema, path);
    this.#depth--;
    if (expression === this.#expressions.empty) this.#dead ??= path;
    return expression;
  }

  #satisfying(schema: Keywords, path: string): Expression {
    const names = Object.keys(schema);
    if (!COMBINATORS.some((name) => names.includes(name))) return this.#plain(schema, path);
    // Alone they need no merging, and references may recur.
    if (names.length === 1) {
      if (schema.$ref !== undefined) return this.#rule(schema.$ref as string, path);
      const keyword = names[0]!;
      const branches = schema[keyword] as readonly unknown[];
      if (keyword === "oneOf") this.#checkExclusive(branches, path);
      if (keyword !== "allOf" || branches.length === 1) {
        return this.#expressions.alt(
          branches.map((branch, i) => this.#value(branch, `${path}/${keyword}/${i}`)),
        );
      }
    }
    return this.#expressions.alt(this.#alternatives(schema, path).map((one) => this.#plain(one, path)));
  }

  /** The schema as one of several without combinators. */
  #alternatives(given: unknown, path: string): Keywords[] {
    const schema = this.#checked(given, path);
    if (typeof schema === "boolean") return schema ? [{}] : [];
    if (++this.#depth > MAX_DEPTH)
      throw this.#error(path, "allOf, anyOf and $ref refer to each other without end");
    const { $ref: reference, anyOf, oneOf, allOf, ...own } = schema;
    let found: Keywords[] = [withEnum(own)];
    const meet = (others: readonly Keywords[]): void => {
      found = found.flatMap((one) => others.map((other) => merged(one, other)));
      if (found.length > MAX_ALTERNATIVES)
        throw this.#error(path, `more than ${MAX_ALTERNATIVES} combinations`);
    };
    if (reference !== undefined) meet(this.#alternatives(this.#target(reference as string, path), path));
    for (const [i, part] of ((allOf ?? []) as unknown[]).entries()) {
      meet(this.#alternatives(part, `${path}/allOf/${i}`));
    }
    if (oneOf !== undefined) this.#checkExclusive(oneOf as unknown[], path);
    for (const branches of [anyOf, oneOf] as (readonly unknown[] | undefined)[]) {
      if (branches !== undefined) meet(branches.flatMap((branch) => this.#alternatives(branch, path)));
    }
    this.#depth--;
    return found;
  }

  #rule(reference: string, path: string): Expression {
    const rule = this.#expressions.rule(reference);
    if (!this.#defined.has(reference)) {
      this.#defined.add(reference);
      this.#expressions.define(reference, this.#value(this.#target(reference, path), reference));
    }
    return rule;
  }

  #target(reference: string, path: string): unknown {
    if (!/^#(\/|$)/.test(reference)) {
      throw this.#error(path, `$ref "${reference}": only references within the schema (#/…) are supported`);
    }
    let at: unknown = this.#root;
    for (const part of reference.split("/").slice(1)) {
      const key = unescaped(part);
      const inside = typeof at === "object" && at !== null && Object.hasOwn(at, key);
      if (!inside) throw this.#error(path, `$ref "${reference}" leads nowhere`);
      at = (at as Record<string, unknown>)[key];
    }
    return at;
  }

  /** What satisfies keywords without combinators. */
  #plain(keywords: Keywords, path: string): Expression {
    const { enum: values, ...rest } = withEnum(keywords);
    if (values !== undefined) return this.#constants(values as unknown[], rest, path);
    if (Object.keys(rest).length === 0) return this.#json.anyValue;
    return this.#expressions.alt(typesOf(rest).map((type) => this.#values.typed(type, rest, path)));
  }

  #constants(values: readonly unknown[], rest: Keywords, path: string): Expression {
    const { type: _type, ...others } = rest;
    const allowed = values.filter((value) => {
      if (Object.keys(rest).length === 0) return true;
      if (typeof value !== "object" || value === null) {
        return this.#accepts(this.#plain(rest, path), JSON.stringify(value));
      }
      if (Object.keys(others).length > 0) {
        throw this.#error(
          path,
          `objects and lists in enum beside ${Object.keys(others)[0]} aren't supported`,
        );
      }
      return typesOf(rest).includes(Array.isArray(value) ? "array" : "object");
    });
    return this.#expressions.alt(allowed.map((value) => this.#json.constant(value)));
  }

  #accepts(expression: Expression, text: string): boolean {
    let state = expression;
    for (const byte of new TextEncoder().encode(text)) state = this.#expressions.derive(state, byte);
    return state.nullable;
  }

  /** oneOf holds only if a value can't satisfy two of its schemas: that must be plain to see. */
  #checkExclusive(branches: readonly unknown[], path: string): void {
    const expanded = branches.map((branch) => this.#alternatives(branch, path));
    expanded.forEach((later, j) => {
      const i = expanded.slice(0, j).findIndex((earlier) => !this.#exclusive(earlier, later, path));
      if (i === -1) return;
      throw this.#error(
        path,
        `oneOf: schemas ${i} and ${j} may hold for the same value: use anyOf, or make them differ`,
      );
    });
  }

  #exclusive(some: readonly Keywords[], others: readonly Keywords[], path: string): boolean {
    return some.every((a) => others.every((b) => this.#excludes(a, b, path)));
  }

  #excludes(a: Keywords, b: Keywords, path: string): boolean {
    const both = merged(withEnum(a), withEnum(b));
    if (both.enum !== undefined) return this.#plain(both, path) === this.#expressions.empty;
    // Keywords of one type leave all others free.
    const types = [both.type ?? TYPES].flat() as JsonType[];
    return types.every((type) => {
      if (type === "object") return this.#objectsExclude(a, b, path);
      return type !== "array" && this.#values.typed(type, both, path) === this.#expressions.empty;
    });
  }

  /** Whether a property that one of them requires can't satisfy both. */
  #objectsExclude(a: Keywords, b: Keywords, path: string): boolean {
    if (++this.#depth > MAX_DEPTH) throw this.#error(path, `schemas lie more than ${MAX_DEPTH} deep`);
    const [ours, theirs] = [a, b].map((one) => (one.properties ?? {}) as Record<string, Schema>) as [
      Record<string, Schema>,
      Record<string, Schema>,
    ];
    const required = [a.required ?? [], b.required ?? []].flat() as string[];
    const excluding = required.some((name) =>
      this.#exclusive(
        this.#alternatives(saidOf(name, ours, a) ?? true, path),
        this.#alternatives(saidOf(name, theirs, b) ?? true, path),
        path,
      ),
    );
    this.#depth--;
    return excluding;
  }

  #checked(schema: unknown, path: string): Schema {
    if (++this.#count > MAX_SCHEMAS) throw this.#error(path, `more than ${MAX_SCHEMAS} schemas`);
    return checkedSchema(schema, path, this.#expressions.option);
  }

  #error(path: string, problem: string): InputError {
    return schemaError(this.#expressions.option, path, problem);
  }
}

/** The types that keywords speak of, if they name none themselves. */
function typesOf(keywords: Keywords): readonly JsonType[] {
  if (keywords.type !== undefined) return [keywords.type].flat() as JsonType[];
  const implied = TYPES.filter((type) => KEYWORDS_OF[type].some((keyword) => keyword in keywords));
  return implied.includes("number") ? implied.filter((type) => type !== "integer") : implied;
}

function withEnum(keywords: Keywords): Keywords {
  const { const: constant, ...rest } = keywords;
  return "const" in keywords ? merged(rest, { enum: [constant] }) : keywords;
}

function isShallow(value: unknown, levels: number): boolean {
  if (typeof value !== "object" || value === null) return true;
  return levels > 0 && Object.values(value).every((inner) => isShallow(inner, levels - 1));
}
