import { isPlainObject } from "../checks.ts";
import type { Schema } from "./schema-keywords.ts";

/** Keywords of one schema, without combinators. */
export type Keywords = Readonly<Record<string, unknown>>;
type Merge = (a: never, b: never) => unknown;

const larger = (a: number, b: number): number => Math.max(a, b);
const smaller = (a: number, b: number): number => Math.min(a, b);
const union = (a: unknown, b: unknown): unknown[] => [...new Set([a, b].flat())];

/** What two values of a keyword come to when both hold. Patterns and formats become lists. */
const MERGES: Record<string, Merge> = {
  type: (a: string | string[], b: string | string[]) => commonTypes([a].flat(), [b].flat()),
  enum: (a: unknown[], b: unknown[]) => a.filter((value) => b.some((other) => sameJson(value, other))),
  required: union,
  minItems: larger,
  maxItems: smaller,
  uniqueItems: (a: boolean) => a,
  minLength: larger,
  maxLength: smaller,
  pattern: union,
  format: union,
  minimum: larger,
  maximum: smaller,
  exclusiveMinimum: larger,
  exclusiveMaximum: smaller,
};

/** The keywords that hold where both schemas do. */
export function merged(a: Keywords, b: Keywords): Keywords {
  const result: Record<string, unknown> = { ...a, ...b };
  for (const keyword of Object.keys(a)) {
    if (!Object.hasOwn(b, keyword) || MERGES[keyword] === undefined) continue;
    result[keyword] = MERGES[keyword](a[keyword] as never, b[keyword] as never);
  }
  return { ...result, ...mergedObjects(a, b), ...mergedLists(a, b) };
}

/** A property holds what both say of it, be it by name or as an additional one. */
function mergedObjects(a: Keywords, b: Keywords): Keywords {
  const [ours, theirs] = [propertiesOf(a), propertiesOf(b)];
  const names = [...new Set([...Object.keys(ours), ...Object.keys(theirs)])];
  const properties = names.map((name) => [name, both(saidOf(name, ours, a), saidOf(name, theirs, b))]);
  return {
    ...(names.length > 0 && { properties: Object.fromEntries(properties) }),
    ...mergedSchemas("additionalProperties", a, b),
  };
}

function mergedLists(a: Keywords, b: Keywords): Keywords {
  const [ours, theirs] = [a, b].map((one) => (one.prefixItems ?? []) as readonly Schema[]) as [
    Schema[],
    Schema[],
  ];
  const prefix = Array.from({ length: Math.max(ours.length, theirs.length) }, (_, i) =>
    both(ours[i] ?? (a.items as Schema | undefined), theirs[i] ?? (b.items as Schema | undefined)),
  );
  return { ...(prefix.length > 0 && { prefixItems: prefix }), ...mergedSchemas("items", a, b) };
}

function mergedSchemas(keyword: string, a: Keywords, b: Keywords): Keywords {
  if (a[keyword] === undefined || b[keyword] === undefined) return {};
  return { [keyword]: both(a[keyword] as Schema, b[keyword] as Schema) };
}

function propertiesOf(keywords: Keywords): Readonly<Record<string, Schema>> {
  return (keywords.properties ?? {}) as Readonly<Record<string, Schema>>;
}

/** What a schema says of a property, if anything. */
export function saidOf(
  name: string,
  properties: Readonly<Record<string, Schema>>,
  keywords: Keywords,
): Schema | undefined {
  if (Object.hasOwn(properties, name)) return properties[name];
  return keywords.additionalProperties as Schema | undefined;
}

function both(a: Schema | undefined, b: Schema | undefined): Schema {
  if (a === false || b === false) return false;
  if (a === undefined || a === true) return b ?? true;
  if (b === undefined || b === true) return a;
  return { allOf: [a, b] };
}

function commonTypes(a: readonly string[], b: readonly string[]): string[] {
  const allows = (types: readonly string[], type: string): boolean =>
    types.includes(type) || (type === "integer" && types.includes("number"));
  return [...new Set([...a, ...b])].filter((type) => allows(a, type) && allows(b, type));
}

/** Equality of JSON values; the order of keys does not count. */
export function sameJson(a: unknown, b: unknown): boolean {
  if (Array.isArray(a) && Array.isArray(b)) {
    return a.length === b.length && a.every((item, i) => sameJson(item, b[i]));
  }
  if (!isPlainObject(a) || !isPlainObject(b)) return a === b;
  const keys = Object.keys(a);
  return (
    keys.length === Object.keys(b).length &&
    keys.every((key) => Object.hasOwn(b, key) && sameJson(a[key], b[key]))
  );
}
