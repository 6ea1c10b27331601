import { join, resolve } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { ChatSession } from "../generation/chat-session.ts";
import { AutoModelForImageTextToText } from "./auto.ts";
import type { CausalLM } from "./causal-lm.ts";
import { Gemma3Processor } from "./processors.ts";

const CASE = resolve(import.meta.dirname, "../../test/fixtures/multimodal/gemma3_mm");
const image = (name: string) => ({ type: "image", image: join(CASE, `images/${name}.png`) });
const text = (words: string) => ({ type: "text", text: words });
const generation = { do_sample: false, max_new_tokens: 6, eos_token_id: [] };

let model: CausalLM;
let processor: Gemma3Processor;
beforeAll(async () => {
  processor = await Gemma3Processor.from_pretrained(join(CASE, "model"));
  model = await AutoModelForImageTextToText.from_pretrained(join(CASE, "model"), { dtype: "fp32" });
});
afterAll(() => model.dispose());

function session(): ChatSession {
  return new ChatSession(model, processor.tokenizer, { processor, generation });
}

async function say(chat: ChatSession, content: Parameters<ChatSession["send"]>[0]): Promise<string> {
  let answer = "";
  for await (const piece of chat.send(content)) answer += piece;
  return answer;
}

/** The answer to a conversation computed at once, without a cache from before. */
async function fresh(chat: ChatSession): Promise<string> {
  const inputs = await processor.apply_chat_template(chat.messages.slice(0, -1), {
    add_generation_prompt: true,
    tokenize: true,
    return_dict: true,
  });
  const output = await model.generate({ ...inputs, ...generation });
  return processor.decode(output.at(0)!.slice([inputs.input_ids.dims[1]!, null]), {
    skip_special_tokens: true,
  });
}

it("shows images in any turn, over the kept cache", async () => {
  const chat = session();
  await say(chat, "Hello");
  const first = await say(chat, [image("shapes"), text("What is this?")]);
  expect(first).toBe(await fresh(chat));
  expect(chat.stats?.cached_tokens).toBeGreaterThan(5);
  const second = await say(chat, [image("alpha"), text("And this?")]);
  expect(second).toBe(await fresh(chat));
  expect(chat.stats?.cached_tokens).toBeGreaterThan(25);
  const third = await say(chat, "Compare.");
  expect(third).toBe(await fresh(chat));
  chat.dispose();
});

it("does not take one picture's keys and values for another's", async () => {
  const chat = session();
  await say(chat, [image("shapes"), text("What?")]);
  chat.undo();
  const other = await say(chat, [image("wide"), text("What?")]);
  expect(other).toBe(await fresh(chat));
  // Up to the image all is the same.
  expect(chat.stats?.cached_tokens).toBeLessThan(10);
  chat.undo();
  await say(chat, [image("wide"), text("What?")]);
  expect(chat.stats?.cached_tokens).toBeGreaterThan(10);
  chat.dispose();
});

it("takes text alone without a processor, and tells of files that are not there", async () => {
  const plain = new ChatSession(model, processor.tokenizer, { generation });
  await expect(say(plain, [image("shapes"), text("What?")])).rejects.toThrow("a text as its content");
  const chat = session();
  await expect(say(chat, [image("nowhere"), text("What?")])).rejects.toThrow("no such image file");
  expect(chat.messages).toEqual([]);
  expect(await say(chat, "Hello")).toBe(await fresh(chat));
});
