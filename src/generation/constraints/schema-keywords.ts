import { InputError } from "../../errors.ts";
import { isPlainObject } from "../checks.ts";
import { FORMATS } from "./json-formats.ts";

/** A JSON Schema: an object of keywords, true for any value, false for none. */
export type Schema = boolean | Readonly<Record<string, unknown>>;

export const TYPES = ["object", "array", "string", "number", "integer", "boolean", "null"] as const;
export type JsonType = (typeof TYPES)[number];

/** Keywords that say nothing of which values are valid. */
const ANNOTATIONS = new Set([
  ..."title description default examples example deprecated readOnly writeOnly".split(" "),
  ..."$schema $id $comment $defs definitions".split(" "),
]);

type Check = (value: unknown) => boolean;
const count: Check = (value) => Number.isSafeInteger(value) && (value as number) >= 0;
const finite: Check = (value) => Number.isFinite(value);
const text: Check = (value) => typeof value === "string";
const schema: Check = (value) => typeof value === "boolean" || isPlainObject(value);
const someSchemas: Check = (value) => Array.isArray(value) && value.length > 0 && value.every(schema);
const isType: Check = (value) => (TYPES as readonly unknown[]).includes(value);
const texts: Check = (value) => Array.isArray(value) && value.every(text);

/** The keywords that count, and what their values must be. */
const KEYWORDS: Record<string, readonly [Check, string]> = {
  type: [
    (value) => isType(value) || (Array.isArray(value) && value.length > 0 && value.every(isType)),
    `one or more of ${TYPES.join(", ")}`,
  ],
  enum: [(value) => Array.isArray(value) && value.length > 0, "a list that is not empty"],
  const: [() => true, "any value"],
  anyOf: [someSchemas, "a list of schemas that is not empty"],
  oneOf: [someSchemas, "a list of schemas that is not empty"],
  allOf: [someSchemas, "a list of schemas that is not empty"],
  $ref: [text, "a text"],
  properties: [(value) => isPlainObject(value) && Object.values(value).every(schema), "an object of schemas"],
  required: [texts, "a list of names"],
  additionalProperties: [schema, "a schema"],
  items: [schema, "a schema (for a list of them use prefixItems)"],
  prefixItems: [someSchemas, "a list of schemas that is not empty"],
  minItems: [count, "a count"],
  maxItems: [count, "a count"],
  uniqueItems: [(value) => value === false, "false: true isn't supported"],
  minLength: [count, "a count"],
  maxLength: [count, "a count"],
  pattern: [text, "a text"],
  format: [
    (value) => FORMATS.has(value as string),
    `one of ${[...FORMATS.keys()].join(", ")}: others aren't supported`,
  ],
  minimum: [finite, "a number"],
  maximum: [finite, "a number"],
  exclusiveMinimum: [finite, "a number"],
  exclusiveMaximum: [finite, "a number"],
};

/** For each type the keywords that speak of it alone. */
export const KEYWORDS_OF: Record<JsonType, readonly string[]> = {
  object: ["properties", "required", "additionalProperties"],
  array: ["items", "prefixItems", "minItems", "maxItems", "uniqueItems"],
  string: ["minLength", "maxLength", "pattern", "format"],
  number: ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"],
  integer: ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"],
  boolean: [],
  null: [],
};

/** Keywords whose value is made of other schemas, or stands for one. */
export const COMBINATORS = ["anyOf", "oneOf", "allOf", "$ref"] as const;

/** A schema without its annotations, its keywords checked. `path` says where it stands, for messages. */
export function checkedSchema(value: unknown, path: string, option: string): Schema {
  if (typeof value === "boolean") return value;
  if (!isPlainObject(value)) throw schemaError(option, path, "a schema must be an object, true or false");
  const kept: [string, unknown][] = [];
  for (const [keyword, given] of Object.entries(value)) {
    if (given === undefined || ANNOTATIONS.has(keyword)) continue;
    if (!Object.hasOwn(KEYWORDS, keyword)) {
      throw schemaError(option, path, `the keyword "${keyword}" isn't supported`);
    }
    const [check, expected] = KEYWORDS[keyword]!;
    if (!check(given)) throw schemaError(option, path, `${keyword} must be ${expected}`);
    kept.push([keyword, given]);
  }
  return Object.fromEntries(kept);
}

export function schemaError(option: string, path: string, problem: string): InputError {
  return new InputError(`${option}${path === "" ? "" : ` at ${path}`}: ${problem}`, { option });
}

/** A key as a part of a JSON pointer (RFC 6901). */
export function escaped(key: string): string {
  return key.replaceAll("~", "~0").replaceAll("/", "~1");
}

/** The key that a part of a JSON pointer in a URI fragment stands for. */
export function unescaped(part: string): string {
  let key = part;
  try {
    key = decodeURIComponent(part);
  } catch {
    // A lone % stands for itself.
  }
  return key.replaceAll("~1", "/").replaceAll("~0", "~");
}
