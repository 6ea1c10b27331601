import { resolve } from "node:path";
import { Ajv2020 } from "ajv/dist/2020.js";
import { beforeAll, describe, expect, it } from "vitest";
import { FakeDecoder, hashTable, scriptTable } from "../../../test/support/fake-decoder.ts";
import { AutoModelForCausalLM } from "../../api/auto.ts";
import { InputError } from "../../errors.ts";
import { loadTokenizer } from "../../processing/load-tokenizer.ts";
import type { PreTrainedTokenizer } from "../../processing/tokenizer.ts";
import { Tensor } from "../../tensor.ts";
import { type GenerateOptions, generate } from "../generate.ts";
import { BaseStreamer } from "../streamer.ts";
import type { ConstraintOptions } from "./constraint.ts";
import { GrammarConstrainedLogitsProcessor } from "./processor.ts";

/** A tiny model with random weights: 433 tokens, rows of 440 logits. */
const TINY = resolve(import.meta.dirname, "../../../test/fixtures/golden-h16/gemma3_text/model");
const WIDTH = 440;
const EOS = [1, 11];
const ajv = new Ajv2020({ strict: false });

const SCHEMA = {
  type: "object",
  properties: {
    name: { type: "string", maxLength: 8 },
    scores: { type: "array", items: { type: "number", minimum: 0, maximum: 10 }, minItems: 1 },
    kind: { enum: ["cat", "dog", null] },
    more: { $ref: "#" },
  },
  required: ["name", "scores"],
  additionalProperties: false,
};
const validate = ajv.compile(SCHEMA);

let tokenizer: PreTrainedTokenizer;
beforeAll(async () => {
  tokenizer = await loadTokenizer({ folder: TINY });
});

/** The texts of all rows, and their ids after the prompt. */
async function texts(
  options: GenerateOptions,
  decoder: FakeDecoder = new FakeDecoder(WIDTH, hashTable(WIDTH)),
): Promise<{ text: string[]; ids: number[][] }> {
  const prompts = (options.input_ids as number[][] | undefined) ?? [[2, 300, 17]];
  const output = (await generate(decoder, {
    max_new_tokens: 120,
    eos_token_id: EOS,
    pad_token_id: 0,
    tokenizer,
    ...options,
    input_ids: prompts,
  })) as Tensor;
  const length = Math.max(...prompts.map((row) => row.length));
  const ids = output.tolist().map((row) => (row as bigint[]).map(Number).slice(length));
  return { ids, text: ids.map((row) => tokenizer.decode(row, { skip_special_tokens: true })) };
}

function expectValid(all: readonly string[]): void {
  for (const text of all) expect([text, validate(JSON.parse(text))]).toEqual([text, true]);
}

describe("generate with json_schema", () => {
  it("gives valid JSON whatever the model likes", async () => {
    for (let seed = 0; seed < 8; seed++) {
      const decoder = new FakeDecoder(WIDTH, hashTable(WIDTH, seed));
      expectValid((await texts({ json_schema: SCHEMA }, decoder)).text);
    }
  });

  it("draws from what is allowed, each row for itself", async () => {
    const { text } = await texts({
      input_ids: [[2, 5], [2, 300, 17, 40], [2]],
      json_schema: JSON.stringify(SCHEMA),
      do_sample: true,
      temperature: 1.5,
      num_return_sequences: 4,
      seed: 3,
    });
    expectValid(text);
    expect(new Set(text).size).toBe(12);
  });

  it("holds in every beam", async () => {
    for (const do_sample of [false, true]) {
      const { text } = await texts({
        json_schema: SCHEMA,
        num_beams: 4,
        num_return_sequences: 3,
        do_sample,
        seed: 1,
      });
      expectValid(text);
    }
  });

  it("completes the text before max_new_tokens runs out, if there is room", async () => {
    for (const max_new_tokens of [40, 45, 60]) {
      for (let seed = 0; seed < 4; seed++) {
        const decoder = new FakeDecoder(WIDTH, hashTable(WIDTH, seed));
        const { text, ids } = await texts({ json_schema: SCHEMA, max_new_tokens }, decoder);
        expectValid(text);
        expect(ids[0]!.length).toBeLessThanOrEqual(max_new_tokens);
      }
    }
    const { text, ids } = await texts({ json_schema: SCHEMA, max_new_tokens: 5 });
    expect(ids[0]).toHaveLength(5);
    expect(text[0]).toMatch(/^\{/);
  });

  it("keeps to OpenAI's response_format", async () => {
    expectValid(
      (await texts({ response_format: { type: "json_schema", json_schema: { name: "x", schema: SCHEMA } } }))
        .text,
    );
    const { text } = await texts({ response_format: { type: "json_object" } });
    expect(JSON.parse(text[0]!)).toBeTypeOf("object");
    const free = { response_format: { type: "text" }, max_new_tokens: 9 } as const;
    expect((await texts(free)).ids).toEqual((await texts({ max_new_tokens: 9 })).ids);
  });

  it("comes to the same text when tokens are guessed ahead", async () => {
    const decoder = (): FakeDecoder => new FakeDecoder(WIDTH, hashTable(WIDTH, 2));
    const plain = await texts({ json_schema: SCHEMA }, decoder());
    for (const guessing of [{ prompt_lookup_num_tokens: 4 }, { assistant_model: { decoder: decoder() } }]) {
      const guessed = await texts({ json_schema: SCHEMA, ...guessing }, decoder());
      expect(guessed.ids).toEqual(plain.ids);
    }
    expectValid(plain.text);
  });

  it("works with a real graph, its sampling settings included", async () => {
    const model = await AutoModelForCausalLM.from_pretrained(TINY);
    try {
      const output = (await model.generate({
        input_ids: [
          [2, 300, 17],
          [2, 9, 9],
        ],
        max_new_tokens: 60,
        json_schema: SCHEMA,
        tokenizer,
        seed: 5,
      })) as Tensor;
      const rows = output.tolist().map((row) => (row as bigint[]).slice(3));
      expectValid(rows.map((row) => tokenizer.decode(row, { skip_special_tokens: true })));
    } finally {
      await model.dispose();
    }
  });
});

describe("generate with regex", () => {
  it.each(["[a-c]{3,40}", " ?(the|café|日本) \\d+!?", /(?:\w+ ){2,6}\p{L}+\./u, "x", "(a|\\n|😀){4}"])(
    "gives a text that matches: %s",
    async (regex) => {
      for (let seed = 0; seed < 5; seed++) {
        const { text } = await texts({ regex, do_sample: true, seed, num_return_sequences: 2 });
        const oracle = new RegExp(`^(?:${typeof regex === "string" ? regex : regex.source})$`, "u");
        for (const one of text) expect([one, oracle.test(one)]).toEqual([one, true]);
      }
    },
  );

  it("ends a row with an end token as soon as nothing can follow, and not before", async () => {
    const eager = new FakeDecoder(
      WIDTH,
      scriptTable(WIDTH, () => 11),
    );
    const { text, ids } = await texts({ regex: "[ab]{3}|[ab]{3}c{9}" }, eager);
    expect(text[0]).toMatch(/^[ab]{3}$/);
    expect(ids[0]!.at(-1)).toBe(11);
    const shy = new FakeDecoder(WIDTH, (history) =>
      Array.from(hashTable(WIDTH)(history)).map((score, id) => score - (EOS.includes(id) ? 99 : 0)),
    );
    const finished = await texts({ regex: "[ab]{3}" }, shy);
    expect(EOS).toContain(finished.ids[0]!.at(-1));
    expect(finished.text[0]).toMatch(/^[ab]{3}$/);
  });

  it("ends complete rows even without end tokens", async () => {
    const { text } = await texts({
      regex: "[ab]{3}",
      eos_token_id: [],
      input_ids: [
        [2, 5],
        [2, 6],
      ],
    });
    for (const one of text) expect(one).toMatch(/^[ab]{3}$/);
  });

  it("wins over options that would leave no token, and over min_new_tokens", async () => {
    const { text } = await texts({
      regex: "aaaa|abab",
      no_repeat_ngram_size: 1,
      suppress_tokens: [...tokenizer.encode("a", { add_special_tokens: false })],
      min_new_tokens: 50,
      repetition_penalty: 3,
    });
    expect(["aaaa", "abab"]).toContain(text[0]);
  });

  it("returns beams that differ only as far as the pattern allows", async () => {
    const { text } = await texts({ regex: "yes|no", num_beams: 3, num_return_sequences: 2 });
    expect(text.sort()).toEqual(["no", "yes"]);
  });

  it("streams what it returns", async () => {
    const streamed: bigint[] = [];
    class Recorder extends BaseStreamer {
      override put(rows: bigint[][]): void {
        streamed.push(...rows[0]!);
      }
      override end(): void {}
    }
    const { text } = await texts({ regex: "\\d{2}:\\d{2}", streamer: new Recorder() });
    expect(tokenizer.decode(streamed.slice(3), { skip_special_tokens: true })).toBe(text[0]);
  });
});

describe("the options of constraints", () => {
  it.each<[ConstraintOptions & { tokenizer?: null }, string, string]>([
    [{ regex: "a", json_schema: true }, "json_schema and regex can't be used together", "regex"],
    [{ regex: "a", tokenizer: null }, "regex needs the tokenizer", "regex"],
    [{ regex: 3 as never }, "regex must be a string or a RegExp", "regex"],
    [{ regex: /a/i }, 'the flag "i" isn\'t supported', "regex"],
    [{ regex: "[^\\s\\S]" }, "no text can match", "regex"],
    [{ json_schema: "{" }, "json_schema is no JSON", "json_schema"],
    [{ json_schema: 5 as never }, "json_schema must be a JSON Schema", "json_schema"],
    [{ json_schema: { not: {} } }, '"not" isn\'t supported', "json_schema"],
    [{ json_schema: { title: "x".repeat(1_000_001) } }, "longer than", "json_schema"],
    [{ response_format: { type: "yaml" } as never }, "response_format must be", "response_format"],
    [{ response_format: { type: "json_schema" } as never }, "response_format must be", "response_format"],
  ])("are checked: %j", async (options, why, option) => {
    const decoder = new FakeDecoder(WIDTH);
    const call = texts({ ...options } as GenerateOptions, decoder);
    await expect(call).rejects.toThrow(why);
    await expect(call).rejects.toMatchObject({ name: "InputError", option });
    expect(decoder.steps).toHaveLength(0);
  });

  it("rejects a schema that contains itself", async () => {
    const loop: Record<string, unknown> = { type: "array" };
    loop.items = loop;
    await expect(texts({ json_schema: loop })).rejects.toThrow(InputError);
  });

  it("say so when the vocabulary has no token to go on with", async () => {
    const letters = { vocab_size: 3, decode: (ids: number[]): string => ids.map((id) => "abc"[id]).join("") };
    const processor = new GrammarConstrainedLogitsProcessor({
      tokenizer: letters,
      prompt_length: 1,
      regex: "ax",
    });
    const scores = (): Tensor => new Tensor("float32", [1, 2, 3, 4], [1, 4]);
    expect([...processor([[0]], scores()).data]).toEqual([
      1,
      ...Array<number>(3).fill(Number.NEGATIVE_INFINITY),
    ]);
    expect(() => processor([[0, 0]], scores())).toThrow("no token of the vocabulary continues");
  });
});
