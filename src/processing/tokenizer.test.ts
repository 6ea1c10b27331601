import path from "node:path";
import { describe, expect, it } from "vitest";
import { InputError } from "../errors.ts";
import { Tensor } from "../tensor.ts";
import { loadTokenizer } from "./load-tokenizer.ts";
import { GemmaTokenizer, PreTrainedTokenizer } from "./tokenizer.ts";

const folder = path.resolve(import.meta.dirname, "../../test/fixtures/tokenizer");
const tokenizer = await loadTokenizer({ folder });
const arrays = { return_tensor: false } as const;

describe("GemmaTokenizer", () => {
  it("has HF's properties", () => {
    expect(tokenizer).toBeInstanceOf(GemmaTokenizer);
    expect(tokenizer).toBeInstanceOf(PreTrainedTokenizer);
    const { bos_token, bos_token_id, eos_token_id, pad_token_id, unk_token_id, padding_side } = tokenizer;
    expect({ bos_token, bos_token_id, eos_token_id, pad_token_id, unk_token_id, padding_side }).toEqual({
      bos_token: "<bos>",
      bos_token_id: 2,
      eos_token_id: 1,
      pad_token_id: 0,
      unk_token_id: 3,
      padding_side: "left",
    });
    expect(tokenizer.model_max_length).toBe(1024);
    expect(tokenizer.special_token_id("image_token")).toBe(512);
    expect(tokenizer.all_special_tokens).toContain("<mask>");
    expect([tokenizer.add_bos_token, tokenizer.add_eos_token]).toEqual([true, false]);
    expect(tokenizer.get_vocab().get("<bos>")).toBe(2);
    expect(tokenizer.get_vocab().size).toBe(tokenizer.vocab_size);
  });

  it("returns tensors, arrays, masks", () => {
    const encoding = tokenizer(["Hello world", "one"], { padding: true });
    expect(encoding.input_ids.type).toBe("int64");
    expect(encoding.input_ids.dims).toEqual([2, 7]);
    expect(encoding.attention_mask[1]!.tolist()).toEqual([0n, 0n, 0n, 0n, 1n, 1n, 1n]);
    expect(encoding.to("cpu")).toBe(encoding);
    expect(Object.keys(encoding)).toEqual(["input_ids", "attention_mask"]);
    expect(Object.keys(tokenizer("one", { return_attention_mask: false }))).toEqual(["input_ids"]);
    expect(tokenizer([], arrays)).toEqual({ input_ids: [], attention_mask: [] });
    expect(() => tokenizer(["Hello world", "one"])).toThrow(/padding: true/);
  });

  it("takes HF's return_tensors for tensors", () => {
    expect(tokenizer("one", { return_tensors: "pt" }).input_ids).toBeInstanceOf(Tensor);
    expect(tokenizer("one", { return_tensors: null, return_tensor: false })).toEqual(
      tokenizer("one", arrays),
    );
    expect(() => tokenizer("one", { return_tensors: "torch" })).toThrow(/return_tensors: expected "pt"/);
    expect(() => tokenizer("one", { ...arrays, return_tensors: "pt" })).toThrow(InputError);
    const messages = [{ role: "user", content: "one" }];
    expect(tokenizer.apply_chat_template(messages, { return_tensors: "pt" })).toBeInstanceOf(Tensor);
  });

  it("pads to max_length and truncates", () => {
    const options = { ...arrays, padding: "max_length", max_length: 5, truncation: true } as const;
    const { input_ids, attention_mask } = tokenizer(["one", "one two three four"], options);
    expect(input_ids.map((row) => row.length)).toEqual([5, 5]);
    expect(attention_mask[0]).toEqual([0, 0, 1, 1, 1]);
    expect(tokenizer("one two three four", { ...arrays, max_length: 4 }).input_ids).toHaveLength(4);
    expect(
      tokenizer("one two three", { ...arrays, max_length: 4, truncation: false }).input_ids.length,
    ).toBeGreaterThan(4);
    const pair = tokenizer("one two three four", {
      ...arrays,
      text_pair: "five",
      truncation: true,
      max_length: 6,
    });
    expect(pair.input_ids).toHaveLength(6);
    expect(() => tokenizer("one", { max_length: 0, truncation: true })).toThrow(InputError);
    expect(() => tokenizer("one", { max_length: -1 })).toThrow(InputError);
  });

  it("truncates pairs from the longer one", () => {
    const count = (first: number, second: number, max_length: number) => {
      const options = {
        ...arrays,
        text_pair: "é".repeat(second),
        truncation: true,
        max_length,
        add_special_tokens: false,
      };
      const { input_ids } = tokenizer("中".repeat(first), options);
      const [a, b] = [tokenizer.convert_tokens_to_ids("中"), tokenizer.convert_tokens_to_ids("é")];
      return [input_ids.filter((id) => id === a).length, input_ids.filter((id) => id === b).length];
    };
    expect([count(6, 2, 5), count(2, 6, 5), count(5, 5, 5), count(4, 5, 9)]).toEqual([
      [3, 2],
      [2, 3],
      [2, 3],
      [4, 5],
    ]);
  });

  it("decodes ids in every form", () => {
    const ids = tokenizer.encode("Hello world");
    const text = "<bos>Hello world";
    expect(tokenizer.decode(ids)).toBe(text);
    expect(tokenizer.decode(ids.map(BigInt))).toBe(text);
    expect(tokenizer.decode(BigInt64Array.from(ids, BigInt))).toBe(text);
    expect(tokenizer.decode(Int32Array.from(ids))).toBe(text);
    expect(tokenizer.decode(tokenizer("Hello world").input_ids)).toBe(text);
    expect(tokenizer.decode(tokenizer("Hello world").input_ids[0]!)).toBe(text);
    expect(tokenizer.decode(ids[1]!)).toBe("He");
    expect(
      tokenizer.batch_decode(tokenizer(["one", "one"]).input_ids, { skip_special_tokens: true }),
    ).toEqual(["one", "one"]);
    expect(tokenizer.batch_decode([ids, [2]])).toEqual([text, "<bos>"]);
    expect(tokenizer.decode([])).toBe("");
    expect(tokenizer.decode(tokenizer.encode("It 's , this ."), { clean_up_tokenization_spaces: true })).toBe(
      "<bos>It's, this.",
    );
  });

  it("refuses wrong input", () => {
    expect(() => tokenizer("a", { paddings: true } as never)).toThrow(
      /unknown option "paddings"; did you mean "padding"/,
    );
    expect(() => tokenizer("a", { padding: "left" as never })).toThrow(InputError);
    expect(() => tokenizer("a", { padding_side: "top" as never })).toThrow(InputError);
    expect(() => tokenizer("a", { truncation: "all" as never })).toThrow(InputError);
    expect(() => tokenizer(5 as never)).toThrow(InputError);
    expect(() => tokenizer(["a"], { text_pair: "b" })).toThrow(InputError);
    expect(tokenizer.decode([513, ...tokenizer.encode("one", { add_special_tokens: false }), 9999])).toBe(
      "one",
    );
    expect(() => tokenizer.decode([-1])).toThrow(/-1 is no token id/);
    expect(() => tokenizer.decode([-1])).toThrow(InputError);
    expect(() => tokenizer.decode([1.5])).toThrow(InputError);
    expect(() => tokenizer.decode(new Tensor("int64", [1, 2, 3, 4], [2, 2]))).toThrow(/batch_decode/);
    expect(tokenizer.decoder().push(9999)).toBe("");
    expect(() => tokenizer.decoder().push(-9)).toThrow(InputError);
    expect(tokenizer.convert_tokens_to_ids(["<bos>", "no token"])).toEqual([2, 3]);
  });
});

describe("apply_chat_template", () => {
  const messages = [{ role: "user", content: "Hello" }];

  it("gives text, ids, dictionaries and batches", () => {
    const text = tokenizer.apply_chat_template(messages, { tokenize: false, add_generation_prompt: true });
    expect(text).toBe("<bos><start_of_turn>user\nHello<end_of_turn>\n<start_of_turn>model\n");
    const ids = tokenizer.apply_chat_template(messages, { add_generation_prompt: true });
    expect(ids.dims).toEqual([1, tokenizer.encode(text, { add_special_tokens: false }).length]);
    expect(tokenizer.decode(ids)).toBe(text);
    const both = [messages, [{ role: "user", content: "Hello world" }]];
    const batch = tokenizer.apply_chat_template(both, { padding: true, return_dict: true });
    expect(batch.attention_mask.dims).toEqual(batch.input_ids.dims);
    expect(tokenizer.apply_chat_template(both, { tokenize: false })).toHaveLength(2);
  });

  it("takes templates by text and by name, and their variables", async () => {
    const options = { tokenize: false } as const;
    const template = "{{ bos_token }}{{ mood }}{% if tools %}tools{% endif %}";
    expect(
      tokenizer.apply_chat_template(messages, { ...options, chat_template: template, mood: "calm" }),
    ).toBe("<bos>calm");
    expect(() => tokenizer.apply_chat_template(messages, { ...options, add_generation_promt: true })).toThrow(
      /did you mean "add_generation_prompt"/,
    );
    const chat_template = { default: "one", tool_use: "two" };
    const named = await loadTokenizer({ folder, overrides: { chat_template } });
    expect(named.apply_chat_template(messages, options)).toBe("one");
    expect(named.apply_chat_template(messages, { ...options, tools: [] })).toBe("two");
    expect(named.apply_chat_template(messages, { ...options, chat_template: "tool_use" })).toBe("two");
    expect(named.apply_chat_template(messages, { ...options, chat_template: "{{ 1 }}" })).toBe("1");
  });

  it("continues the last message", () => {
    const open = (content: string) =>
      tokenizer.apply_chat_template([{ role: "user", content }], {
        tokenize: false,
        continue_final_message: true,
      });
    expect(open("Hello ")).toBe("<bos><start_of_turn>user\nHello");
    expect(() =>
      tokenizer.apply_chat_template(messages, { continue_final_message: true, add_generation_prompt: true }),
    ).toThrow(InputError);
  });

  it("turns every failure into an InputError and bounds what a template may do", () => {
    const render = (chat_template: string) => () =>
      tokenizer.apply_chat_template(messages, { tokenize: false, chat_template });
    expect(render("{{ raise_exception('no such role') }}")).toThrow(new InputError("no such role"));
    expect(render("{% for %}")).toThrow(InputError);
    expect(render("x".repeat(300_000))).toThrow(/at most/);
    expect(render("{% for i in range(10000000000) %}{% endfor %}")).toThrow(/range/);
    const doubling = `{% set ns = namespace(s='aaaaaaaa') %}${"{% set ns.s = ns.s + ns.s %}".repeat(40)}{{ ns.s }}`;
    expect(render(doubling)).toThrow(InputError);
    const loop = "{% for i in range(9999) %}";
    expect(render(`${loop.repeat(3)}{{ i }}${"{% endfor %}".repeat(3)}`)).toThrow(/takes over 5 seconds/);
  }, 60_000);

  it("prints lists and dicts as Python does where a text filter takes them", () => {
    const content = [
      { type: "text", text: 'it\'s\n"é"\u0001' },
      { type: "image", n: 1, f: 1.5, b: true, x: null },
    ];
    const text = tokenizer.apply_chat_template([{ role: "user", content }], {
      tokenize: false,
      chat_template: "{{ messages[0]['content'] | trim }}",
    });
    expect(text).toBe(
      `[{'type': 'text', 'text': 'it\\'s\\n"é"\\x01'}, {'type': 'image', 'n': 1, 'f': 1.5, 'b': True, 'x': None}]`,
    );
  });
});
