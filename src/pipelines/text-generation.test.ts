import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { InputError } from "../errors.ts";
import { TextStreamer } from "../generation/streamer.ts";
import { pipeline } from "./pipeline.ts";
import type { TextGenerationPipeline } from "./text-generation.ts";

const FIXTURES = resolve(import.meta.dirname, "../../test/fixtures");
const MODEL = `${FIXTURES}/golden-h16/gemma3_text/model`;
/** Made by tools/oracle/pipelines.py with transformers' own pipelines. */
const expected = (
  JSON.parse(readFileSync(`${FIXTURES}/pipelines.json`, "utf8")) as { generation: Record<string, unknown> }
).generation;

const TEXT = "Hello world";
const TEXTS = [TEXT, "What is the capital of France?"];
const CHAT = [{ role: "user", content: TEXT }];
const PREFILL = [...CHAT, { role: "assistant", content: "This is" }];
const GREEDY = { do_sample: false, max_new_tokens: 12 };

describe("text-generation", () => {
  let pipe: TextGenerationPipeline;
  beforeAll(async () => {
    pipe = await pipeline("text-generation", MODEL);
  });
  afterAll(() => pipe.dispose());

  it("continues a text, and a padded batch of texts, as HF does", async () => {
    expect(await pipe(TEXT, GREEDY)).toEqual(expected["text"]);
    expect(await pipe(TEXTS, GREEDY)).toEqual(expected["texts"]);
    expect(await pipe([TEXT], GREEDY)).toEqual([expected["text"]]);
    expect(await pipe([])).toEqual([]);
  });

  it("gives the continuation alone, ids, or a text without special tokens", async () => {
    expect(await pipe(TEXT, { ...GREEDY, return_full_text: false })).toEqual(expected["new_text"]);
    expect(await pipe(TEXT, { ...GREEDY, return_tensors: true })).toEqual(expected["ids"]);
    expect(await pipe(TEXT, { ...GREEDY, add_special_tokens: false })).toEqual(expected["without_special"]);
  });

  it("keeps a row's ids free of the batch's padding", async () => {
    const alone = await pipe(TEXT, { ...GREEDY, return_tensors: true });
    const [together] = await pipe(TEXTS, { ...GREEDY, return_tensors: true });
    expect(together).toEqual(alone);
  });

  it("gives several continuations of each text", async () => {
    const options = { do_sample: false, max_new_tokens: 8, num_beams: 3, num_return_sequences: 2 };
    expect(await pipe(TEXT, options)).toEqual(expected["beams"]);
    const both = await pipe(TEXTS, { max_new_tokens: 4, do_sample: true, seed: 1, num_return_sequences: 3 });
    expect(both.map((row) => row.map(({ generated_text }) => generated_text.startsWith("Hello")))).toEqual([
      [true, true, true],
      [false, false, false],
    ]);
  });

  it("answers a chat with the whole list of messages", async () => {
    const output = await pipe(CHAT, GREEDY);
    expect(output).toEqual(expected["chat"]);
    expect(output[0]!.generated_text.at(-1)!.role).toBe("assistant");
    expect(await pipe([CHAT, CHAT], GREEDY)).toEqual([expected["chat"], expected["chat"]]);
    const [alone] = await pipe(CHAT, { ...GREEDY, return_full_text: false });
    expect(alone!.generated_text).toBe(output[0]!.generated_text.at(-1)!.content);
  });

  it("goes on with an assistant's message, or adds one", async () => {
    expect(await pipe(PREFILL, GREEDY)).toEqual(expected["prefill"]);
    expect(await pipe(PREFILL, { ...GREEDY, continue_final_message: false })).toEqual(expected["new_turn"]);
    const parts = [...CHAT, { role: "assistant", content: [{ type: "text", text: "This is" }] }];
    const [output] = await pipe(parts, GREEDY);
    const [prefilled] = expected["prefill"] as { generated_text: { content: string }[] }[];
    expect(output!.generated_text.at(-1)!.content).toEqual([
      { type: "text", text: prefilled!.generated_text.at(-1)!.content },
    ]);
  });

  it("writes 256 tokens where nothing says how many", async () => {
    const [output] = await pipe(TEXT, { do_sample: false, return_tensors: true });
    expect(output!.generated_token_ids).toHaveLength(expected["default_length"] as number);
    const [short] = await pipe(TEXT, { do_sample: false, return_tensors: true, max_length: 12 });
    expect(short!.generated_token_ids).toHaveLength(12);
  });

  it("streams, and stops at strings", async () => {
    let text = "";
    const streamer = new TextStreamer(pipe.tokenizer, {
      skip_prompt: true,
      callback_function: (piece) => {
        text += piece;
      },
    });
    const [output] = await pipe(TEXT, { ...GREEDY, streamer, return_full_text: false });
    expect(text).toBe(output!.generated_text);
    const [stopped] = await pipe("What is the capital of France?", { ...GREEDY, stop_strings: "n" });
    expect(stopped!.generated_text).toMatch(/\ufffdn$/);
  });

  it("rejects with the signal's reason", async () => {
    await expect(pipe(TEXT, { signal: AbortSignal.abort(new Error("enough")) })).rejects.toThrow("enough");
  });

  it("refuses what it can't take", async () => {
    await expect(pipe(TEXT, { max_new_token: 3 } as object)).rejects.toThrow(/did you mean "max_new_tokens"/);
    await expect(pipe(3 as never)).rejects.toThrow(InputError);
    await expect(pipe([TEXT, CHAT] as never)).rejects.toThrow(/list of messages/);
    await expect(pipe(TEXT, { return_dict_in_generate: true })).rejects.toThrow(/model\.generate/);
    await expect(pipe(TEXT, { input_ids: [1] } as object)).rejects.toThrow(/unknown option/);
  });
});
