import { InputError, rejectUnknownOptions } from "../../errors.ts";
import { invalid, isPlainObject } from "../checks.ts";
import { Automaton } from "./automaton.ts";
import { utf8 } from "./code-points.ts";
import { type Expression, Expressions } from "./expressions.ts";
import { jsonSchemaExpression } from "./json-schema.ts";
import { regexExpression, remembering } from "./regex.ts";
import { parseRegex } from "./regex-parser.ts";
import { TokenMasks } from "./token-masks.ts";
import { type ConstraintTokenizer, Vocabulary } from "./vocabulary.ts";

/**
 * Constraints on the text: from an option to an expression (json-schema.ts, regex.ts), from that to states
 * (automaton.ts) and to the tokens that each allows (token-masks.ts). Own code, since the published library for
 * JavaScript doesn't load in Node, is slow to prepare and passes over keywords in silence: docs/constrained.md.
 */

/** OpenAI's way to ask for JSON. */
export type ResponseFormat =
  | { readonly type: "text" | "json_object" }
  | {
      readonly type: "json_schema";
      readonly json_schema: { readonly schema: object | boolean; readonly [key: string]: unknown };
    };

/** Options of generate that constrain the text; one of them at a time. */
export interface ConstraintOptions {
  /** The text is JSON that satisfies this JSON Schema, an object or its JSON; true or {} for any JSON. */
  json_schema?: object | boolean | string | null | undefined;
  /** The whole text matches this pattern of JavaScript. Of flags only "s", "u" and those of matching are allowed. */
  regex?: string | RegExp | null | undefined;
  /** `json_schema` as OpenAI's API has it. */
  response_format?: ResponseFormat | null | undefined;
}

export const CONSTRAINT_OPTION_NAMES = ["json_schema", "regex", "response_format"] as const;

/** A constraint that was asked for, checked as far as it goes without being compiled. */
export interface ConstraintSource {
  readonly option: string;
  /** Equal for equal constraints. */
  readonly key: string;
  readonly compile: (expressions: Expressions) => Expression;
}

/** The text of a schema, at most. */
const MAX_SCHEMA_LENGTH = 1_000_000;
/** Compiled constraints kept for a tokenizer, with what was found out while generating. */
const KEPT = 4;

/** The constraint of a call, if it has one. */
export function constraintSource(options: ConstraintOptions): ConstraintSource | undefined {
  const given = CONSTRAINT_OPTION_NAMES.filter(
    (name) => options[name] !== undefined && options[name] !== null,
  );
  if (given.length > 1) {
    throw new InputError(`${given.join(" and ")} can't be used together: give one`, { option: given[1]! });
  }
  if (given[0] === "regex") return regexSource(options.regex);
  if (given[0] === "json_schema") return schemaSource(options.json_schema, "json_schema");
  return given[0] === undefined ? undefined : formatSource(options.response_format);
}

function regexSource(value: unknown): ConstraintSource {
  const option = "regex";
  if (typeof value !== "string" && !(value instanceof RegExp))
    throw invalid(option, "a string or a RegExp", value);
  const { source, flags } = typeof value === "string" ? { source: value, flags: "" } : value;
  const unsupported = /[^dgsuy]/.exec(flags)?.[0];
  if (unsupported !== undefined) {
    throw new InputError(`regex: the flag "${unsupported}" isn't supported`, { option });
  }
  const dotAll = flags.includes("s");
  return {
    option,
    key: `regex ${dotAll} ${source}`,
    compile: (expressions) => {
      const root = regexExpression(parseRegex(source, option, dotAll), {
        expressions,
        character: remembering((set) => utf8(expressions, set)),
        around: expressions.epsilon,
      });
      if (root === expressions.empty)
        throw new InputError("regex: no text can match the pattern", { option });
      return root;
    },
  };
}

function schemaSource(value: unknown, option: string): ConstraintSource {
  const key = schemaText(value, option);
  if (key.length > MAX_SCHEMA_LENGTH) {
    throw new InputError(`${option} is longer than ${MAX_SCHEMA_LENGTH} characters`, { option });
  }
  return {
    option,
    key: `json ${key}`,
    compile: (expressions) => jsonSchemaExpression(expressions, JSON.parse(key)),
  };
}

function schemaText(value: unknown, option: string): string {
  if (typeof value !== "string" && typeof value !== "boolean" && !isPlainObject(value)) {
    throw invalid(option, "a JSON Schema: an object, its JSON, true or false", value);
  }
  try {
    return typeof value === "string" ? JSON.stringify(JSON.parse(value)) : JSON.stringify(value);
  } catch (cause) {
    throw new InputError(`${option} is no JSON: ${(cause as Error).message}`, { option, cause });
  }
}

function formatSource(value: unknown): ConstraintSource | undefined {
  const option = "response_format";
  const format = isPlainObject(value) ? value : {};
  if (format.type === "text") return undefined;
  if (format.type === "json_object") return schemaSource({ type: "object" }, option);
  const schema = isPlainObject(format.json_schema) ? format.json_schema : {};
  if (format.type !== "json_schema" || schema.schema === undefined) {
    const forms = '{ type: "json_object" } or { type: "json_schema", json_schema: { schema } }';
    throw invalid(option, forms, value);
  }
  rejectUnknownOptions(format, ["type", "json_schema"], option);
  rejectUnknownOptions(schema, ["schema", "name", "description", "strict"], `${option}.json_schema`);
  return schemaSource(schema.schema, option);
}

interface Known {
  readonly vocabulary: Vocabulary;
  readonly compiled: Map<string, TokenMasks>;
}

const knownTokenizers = new WeakMap<object, Known>();

/** The constraint for a tokenizer. What one call finds out about it serves the next ones. */
export function compileConstraint(source: ConstraintSource, tokenizer: ConstraintTokenizer): TokenMasks {
  let known = knownTokenizers.get(tokenizer);
  if (known === undefined) {
    known = { vocabulary: new Vocabulary(tokenizer), compiled: new Map() };
    knownTokenizers.set(tokenizer, known);
  }
  const { vocabulary, compiled } = known;
  const kept = compiled.get(source.key);
  compiled.delete(source.key);
  const fresh = kept === undefined || kept.automaton.expressions.worn;
  const masks = fresh ? compile(source, vocabulary) : kept;
  compiled.set(source.key, masks);
  if (compiled.size > KEPT) compiled.delete(compiled.keys().next().value!);
  return masks;
}

function compile(source: ConstraintSource, vocabulary: Vocabulary): TokenMasks {
  const expressions = new Expressions(source.option, (text) => vocabulary.tokensFor(text));
  return new TokenMasks(new Automaton(expressions, source.compile(expressions)), vocabulary);
}
