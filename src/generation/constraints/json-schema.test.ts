import { Ajv2020 } from "ajv/dist/2020.js";
import addFormats from "ajv-formats";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { InputError } from "../../errors.ts";
import { type Expression, Expressions } from "./expressions.ts";
import { jsonSchemaExpression } from "./json-schema.ts";

const ajv = new Ajv2020({ strict: false, allErrors: false });
addFormats.default(ajv);

interface Language {
  readonly expressions: Expressions;
  readonly root: Expression;
}

function language(schema: unknown): Language {
  const expressions = new Expressions("json_schema");
  return { expressions, root: jsonSchemaExpression(expressions, schema) };
}

function accepts({ expressions, root }: Language, text: string): boolean {
  let state = root;
  for (const byte of new TextEncoder().encode(text)) state = expressions.derive(state, byte);
  return state.nullable;
}

/** A random text of the language: random bytes for a while, then the shortest way out. */
function sample({ expressions, root }: Language, random: () => number, length: number): string {
  const bytes: number[] = [];
  let state = root;
  while (!state.nullable || (bytes.length < length && random() < 0.9)) {
    const next = expressions.classes.representatives
      .map((byte) => ({ byte, state: expressions.derive(state, byte) }))
      .filter((one) => one.state !== expressions.empty);
    if (next.length === 0) break;
    const shortest = Math.min(...next.map((one) => one.state.shortest));
    const usable = bytes.length < length ? next : next.filter((one) => one.state.shortest === shortest);
    const chosen = usable[Math.floor(random() * usable.length)]!;
    bytes.push(chosen.byte);
    state = chosen.state;
  }
  return new TextDecoder("utf-8", { fatal: true }).decode(Uint8Array.from(bytes));
}

function randomFrom(seed: number): () => number {
  let state = seed + 1;
  return () => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    return (state >>> 8) / 2 ** 24;
  };
}

const node = {
  type: "object",
  properties: { value: { type: "integer" }, children: { type: "array", items: { $ref: "#/$defs/node" } } },
  required: ["value"],
  additionalProperties: false,
};

const SCHEMAS: Record<string, unknown> = {
  anything: true,
  object: { type: "object" },
  person: {
    $schema: "https://json-schema.org/draft/2020-12/schema",
    title: "Person",
    type: "object",
    properties: {
      name: { type: "string", minLength: 1, maxLength: 20, description: "full name" },
      age: { type: "integer", minimum: 0, maximum: 150 },
      tags: { type: "array", items: { type: "string" }, maxItems: 3 },
      'quoted " é / ~': { type: ["null", "boolean"] },
    },
    required: ["name", "age"],
    additionalProperties: false,
  },
  optional: {
    type: "object",
    properties: { a: { const: 1 }, b: { const: 2 }, c: { const: 3 } },
    required: ["b"],
  },
  map: { type: "object", properties: { id: { type: "integer" } }, additionalProperties: { type: "boolean" } },
  undeclared: { type: "object", properties: { a: { type: "null" } }, required: ["b"] },
  enums: { enum: ["red", "grün", 'say "hi"\n', 4, -1.5, null, true, { a: [1, { b: [] }], c: {} }, []] },
  "enum of a type": { type: "integer", enum: [1, "1", 2.5, 3], maximum: 2 },
  const: { const: { deep: [1, "two", null] } },
  anyOf: {
    anyOf: [{ type: "string", maxLength: 3 }, { type: "array", items: { type: "null" } }, { const: 7 }],
  },
  "anyOf beside keywords": {
    type: "object",
    properties: { kind: { enum: ["a", "b"] }, n: { type: "integer" } },
    anyOf: [{ required: ["kind"] }, { required: ["n"], properties: { n: { minimum: 5 } } }],
  },
  "oneOf by type": { oneOf: [{ type: "integer" }, { type: "string" }, { type: ["null", "boolean"] }] },
  "oneOf by constant": {
    oneOf: [
      {
        type: "object",
        properties: { type: { const: "circle" }, r: { type: "number" } },
        required: ["type", "r"],
      },
      { type: "object", properties: { type: { const: "box" }, w: { type: "number" } }, required: ["type"] },
    ],
  },
  "oneOf by range": {
    oneOf: [
      { type: "integer", maximum: 5 },
      { type: "integer", minimum: 6 },
    ],
  },
  "oneOf by key": {
    oneOf: [
      { type: "object", properties: { a: {} }, required: ["a"], additionalProperties: false },
      { type: "object", properties: { b: {} }, required: ["b"], additionalProperties: false },
    ],
  },
  allOf: {
    allOf: [
      { type: "object", properties: { a: { type: "number", minimum: 1 } }, required: ["a"] },
      { properties: { a: { type: "integer", maximum: 3 }, b: { type: "string" } }, required: ["b"] },
      { $ref: "#/$defs/more" },
    ],
    $defs: { more: { properties: { c: { type: "null" } } } },
  },
  "$ref beside keywords": {
    $ref: "#/definitions/base",
    required: ["b"],
    definitions: { base: { type: "object", properties: { a: { type: "null" }, b: { type: "boolean" } } } },
  },
  tree: { $ref: "#/$defs/node", $defs: { node } },
  "recursion through anyOf": {
    anyOf: [{ type: "integer" }, { type: "array", items: { $ref: "#" }, maxItems: 2 }],
  },
  tuple: {
    type: "array",
    prefixItems: [{ type: "integer" }, { type: "string" }],
    items: { type: "null" },
    minItems: 1,
    maxItems: 4,
  },
  "closed tuple": { type: "array", prefixItems: [{ const: 1 }, { const: 2 }], items: false },
  "tuple, more needed": { type: "array", prefixItems: [{ const: 1 }], minItems: 3 },
  counted: { type: "array", items: { type: "integer", minimum: 0, maximum: 9 }, minItems: 2, maxItems: 4 },
  "empty list": { type: "array", items: false },
  pattern: { type: "string", pattern: "^[A-Z]{2}-\\d{3,5}$" },
  "pattern within": { type: "string", pattern: "b+|\\n", maxLength: 6 },
  "pattern and length": { type: "string", pattern: '^(ab|c")*$', minLength: 3, maxLength: 7 },
  length: { type: "string", minLength: 2, maxLength: 5 },
  "huge counts": { type: "string", minLength: 0, maxLength: 1e9 },
  "implied type": { properties: { x: { minimum: 3 } }, required: ["x"] },
  number: { type: "number" },
  integer: { type: "integer" },
  "number range": { type: "number", minimum: -1.25, exclusiveMaximum: 10.5 },
  "positive number": { type: "number", exclusiveMinimum: 0 },
  "negative integer": { type: "integer", exclusiveMaximum: -3, minimum: -1200 },
  "tiny range": { type: "number", exclusiveMinimum: 0.001, exclusiveMaximum: 0.0015 },
  ...Object.fromEntries(
    ["date", "time", "date-time", "duration", "email", "hostname", "ipv4", "uri", "uuid"].map((format) => [
      format,
      { type: "string", format },
    ]),
  ),
};

describe("every text of a schema's language", () => {
  it.each(Object.keys(SCHEMAS))("is JSON that satisfies it: %s", (name) => {
    const schema = SCHEMAS[name] as object;
    const validate = ajv.compile(schema);
    const language_ = language(schema);
    const seen = new Set<string>();
    for (let seed = 0; seed < 40; seed++) {
      const text = sample(language_, randomFrom(seed * 7919), seed * 2);
      const value: unknown = JSON.parse(text);
      expect([text, validate(value), validate.errors]).toEqual([text, true, null]);
      seen.add(text);
    }
    expect(seen.size).toBeGreaterThan(["enum of a type", "const", "empty list"].includes(name) ? 0 : 1);
  });
});

describe("the language of a schema", () => {
  it.each<[string, string[], string[]]>([
    [
      "anything",
      ["1", '"a\\u00e9\\ud83d\\ude00\\/"', '{"a": [true, {}]}', "[ ]", "[\n  1,\n  2\n]"],
      ["", " 1", "01", '"\\ud83d"', "[1,]", '"\n"', "{a:1}", "1 "],
    ],
    [
      "person",
      [
        '{"name": "Ann", "age": 42}',
        '{\n  "name": "é",\n  "age": 0,\n  "tags": []\n}',
        '{"name":"a","age":1,"quoted \\" é / ~":null}',
      ],
      [
        '{"age": 1, "name": "a"}',
        '{"name": "", "age": 1}',
        '{"name": "a", "age": 151}',
        '{"name": "a"}',
        '{"name": "a", "age": 1, "x": 1}',
      ],
    ],
    [
      "optional",
      ['{"b":2}', '{"a":1,"b":2}', '{"b":2,"c":3}', '{ "a":1, "b":2, "c":3 }'],
      ["{}", '{"a":1}', '{"b":2,}', '{,"b":2}', '{"b":2,"d":1}'],
    ],
    [
      "map",
      [
        "{}",
        '{"id":1}',
        '{"id":1,"x":true,"y":false}',
        '{"ID":true}',
        '{"i":true,"id2":false}',
        '{"\\"\\n":true}',
      ],
      ['{"id":true}', '{"x":true,"id":1}', '{"x":1}', '{"id":1,"id":true}', '{"\\u0069d":true}'],
    ],
    [
      "enums",
      [
        '"red"',
        '"grün"',
        '"say \\"hi\\"\\n"',
        "4",
        "-1.5",
        "null",
        '{"a":[1,{"b":[]}],"c":{}}',
        '{ "a": [1, {"b": []}], "c": {} }',
      ],
      ['"blue"', "4.0", "{}", '{"c":{},"a":[1,{"b":[]}]}'],
    ],
    ["enum of a type", ["1"], ["3", '"1"', "2.5"]],
    ["tuple", ["[1]", '[1,"a"]', '[1,"a",null,null]'], ["[]", '["a"]', '[1,"a",null,null,null]', "[1,null]"]],
    ["pattern within", ['"b"', '"abba"', '"\\n"', '"x\\ny"'], ['"a"', '"abcdefg"', '""']],
    ["pattern and length", ['"abc\\""', '"abab"', '"c\\"c\\""'], ['"ab"', '"abababab"', '"abx"']],
    [
      "length",
      ['"ab"', '"éé"', '"😀😀"', '"\\u00e9\\ud83d\\ude00"', '"\\n\\n\\n\\n\\n"'],
      ['"a"', '"abcdef"', '"\\ud83d\\ude00"'],
    ],
    [
      "date",
      ['"2024-02-29"', '"2000-02-29"', '"2023-12-31"'],
      ['"2023-02-29"', '"1900-02-29"', '"2023-04-31"', '"2023-13-01"'],
    ],
    ["integer", ["0", "-12", "123456789012345"], ["-0", "1.0", "1e3", "00", "+1"]],
    ["number", ["0", "-0.5", "1e10", "3.25E-7"], [".5", "1.", "1e", "1e999"]],
    [
      "tree",
      ['{"value":1}', '{"value":1,"children":[{"value":2,"children":[]}]}'],
      ['{"value":1,"children":[{}]}'],
    ],
    [
      "allOf",
      ['{"a":2,"b":"x"}', '{"a":1,"b":"","c":null}'],
      ['{"a":0,"b":""}', '{"a":4,"b":""}', '{"a":1.5,"b":""}', '{"a":1}'],
    ],
  ])("has the right texts: %s", (name, inside, outside) => {
    const language_ = language(SCHEMAS[name]);
    for (const text of inside) expect([text, accepts(language_, text)]).toEqual([text, true]);
    for (const text of outside) expect([text, accepts(language_, text)]).toEqual([text, false]);
  });

  it("has the decimals within bounds, and no others", () => {
    const bound = fc.oneof(
      fc.integer({ min: -130, max: 130 }),
      fc.integer({ min: -2000, max: 2000 }).map((n) => n / 100),
    );
    const values = fc.array(
      fc.oneof(
        fc.integer({ min: -2500, max: 2500 }).map((n) => n / 100),
        fc.integer({ min: -140, max: 140 }),
      ),
      { minLength: 20, maxLength: 20 },
    );
    fc.assert(
      fc.property(
        bound,
        bound,
        fc.boolean(),
        fc.boolean(),
        fc.boolean(),
        values,
        (a, b, openLow, openHigh, integer, all) => {
          const [low, high] = [Math.min(a, b), Math.max(a, b) + 1];
          const schema = {
            type: integer ? "integer" : "number",
            [openLow ? "exclusiveMinimum" : "minimum"]: low,
            [openHigh ? "exclusiveMaximum" : "maximum"]: high,
          };
          const language_ = language(schema);
          for (const value of [...all, low, high]) {
            const valid = ajv.validate(schema, value);
            expect([schema, value, accepts(language_, String(value))]).toEqual([schema, value, valid]);
            if (!integer && Number.isInteger(value) && value !== 0)
              expect(accepts(language_, `${value}.00`)).toBe(valid);
          }
        },
      ),
      { numRuns: 60 },
    );
    expect(
      accepts(language({ type: "integer", minimum: 1e15, maximum: 1e21 }), "999999999999999999999"),
    ).toBe(true);
    expect(accepts(language({ type: "number", minimum: 1e-7 }), "0.0000001")).toBe(true);
    expect(accepts(language({ type: "number", minimum: 1e-7 }), "0.00000009")).toBe(false);
  });
});

describe("schemas that can't be used", () => {
  it.each<[unknown, string]>([
    [{ type: "array", items: { not: {} } }, 'json_schema at /items: the keyword "not" isn\'t supported'],
    [{ properties: { a: { patternProperties: {} } } }, 'at /properties/a: the keyword "patternProperties"'],
    [{ properties: { "a/b~": { multipleOf: 3 } } }, 'at /properties/a~1b~0: the keyword "multipleOf"'],
    [{ type: "array", uniqueItems: true }, "uniqueItems"],
    [{ type: "string", format: "regex" }, "format must be one of date,"],
    [{ type: "strnig" }, "type must be one or more of"],
    [{ type: "string", pattern: "(?=a)" }, "look-around"],
    [{ type: "string", maxLength: -1 }, "maxLength must be a count"],
    [{ minimum: "3" }, "minimum must be a number"],
    [{ items: [{ type: "string" }] }, "prefixItems"],
    [{ enum: [] }, "enum must be a list that is not empty"],
    [{ $ref: "other.json#/a" }, "only references within the schema"],
    [{ $ref: "#/$defs/none" }, "leads nowhere"],
    [{ $ref: "#/constructor" }, "leads nowhere"],
    [{ $ref: "#" }, "without end"],
    [{ anyOf: [{ $ref: "#" }, { type: "null" }] }, "without end"],
    [{ allOf: [{ $ref: "#" }, { type: "null" }] }, "without end"],
    [{ oneOf: [{ type: "number" }, { type: "integer" }] }, "oneOf: schemas 0 and 1 may hold"],
    [{ oneOf: [{ required: ["a"] }, { required: ["b"] }] }, "oneOf: schemas 0 and 1 may hold"],
    [{ oneOf: [{ pattern: "^a" }, { type: "string", pattern: "b$" }] }, "oneOf: schemas 0 and 1 may hold"],
    [false, "no value can satisfy"],
    [{ type: "string", minLength: 3, maxLength: 2 }, "no value can satisfy"],
    [{ type: "string", pattern: "^a{5}$", maxLength: 4 }, "no value can satisfy"],
    [{ type: "integer", minimum: 0.2, maximum: 0.8 }, "no value can satisfy"],
    [{ type: "array", items: false, minItems: 1 }, "no value can satisfy"],
    [
      { properties: { a: false, b: { type: "integer", enum: ["x"] } }, required: ["b"] },
      "at /properties/b: no value",
    ],
    [{ allOf: [{ type: "string" }, { type: "null" }] }, "no value can satisfy"],
    [
      {
        ...node,
        required: ["value", "me"],
        properties: { ...node.properties, me: { $ref: "#" } },
        $defs: { node },
      },
      "no value can satisfy",
    ],
    ["text", "must be an object"],
    [{ properties: { a: 3 } }, "properties must be an object of schemas"],
  ])("say why: %j", (schema, why) => {
    expect(() => language(schema)).toThrow(InputError);
    expect(() => language(schema)).toThrow(why);
  });

  it("never fail in another way, whatever they are", () => {
    const leaf = fc.oneof(
      fc.constantFrom<unknown>(...Object.values(SCHEMAS)),
      fc.jsonValue(),
      fc.constantFrom(
        "#",
        "#/properties/a",
        "string",
        "object",
        "^a",
        "b{2}$",
        "date",
        true,
        false,
        0,
        1,
        5,
        -3,
        1e9,
      ),
    );
    const keyword = fc.constantFrom(
      ..."type enum const anyOf oneOf allOf $ref properties required additionalProperties items prefixItems".split(
        " ",
      ),
      ..."minItems maxItems minLength maxLength pattern format minimum exclusiveMaximum a b".split(" "),
    );
    const schema = fc
      .letrec<{ any: unknown; inner: unknown }>((tie) => ({
        inner: fc.oneof({ depthSize: "small" }, leaf, tie("any"), fc.array(tie("any"), { maxLength: 3 })),
        any: fc.dictionary(keyword, tie("inner"), { maxKeys: 4 }),
      }))
      .any.map((given) => JSON.parse(JSON.stringify(given)) as object);
    let usable = 0;
    fc.assert(
      fc.property(schema, (given) => {
        let made: Language;
        try {
          made = language(given);
        } catch (error) {
          if (error instanceof InputError) return;
          throw error;
        }
        if (!ajv.validateSchema(given) || made.root.shortest > 1000) return;
        usable++;
        const text = sample(made, randomFrom(usable), usable % 30);
        const value: unknown = JSON.parse(text);
        expect([given, text, ajv.compile(given)(value)]).toEqual([given, text, true]);
      }),
      { numRuns: 150 },
    );
    expect(usable).toBeGreaterThan(20);
  });

  it("are refused when they are too large", () => {
    let deep: object = {};
    for (let i = 0; i < 200; i++) deep = { type: "array", items: deep };
    expect(() => language(deep)).toThrow("deep");
    let nested: unknown = 1;
    for (let i = 0; i < 5000; i++) nested = [nested];
    expect(() => language({ const: nested })).toThrow("nested more than 500 deep");
    const many = Object.fromEntries(Array.from({ length: 30_000 }, (_, i) => [`p${i}`, { type: "null" }]));
    expect(() => language({ type: "object", properties: many })).toThrow("more than 20000 schemas");
    const pair = { anyOf: [{ type: "object" }, { type: "object", required: ["a"] }] };
    expect(() => language({ allOf: Array.from({ length: 20 }, () => pair) })).toThrow("combinations");
  });
});
