import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ChatSession, type ChatSessionOptions } from "../generation/chat-session.ts";
import type { PreTrainedTokenizer } from "../processing/tokenizer.ts";
import { AutoModelForCausalLM } from "./auto.ts";
import type { CausalLM } from "./causal-lm.ts";
import { AutoTokenizer } from "./tokenizers.ts";

/** A tiny model whose sliding layers see 7 positions, and have dropped what lies more than 64 further back. */
const MODEL = join(import.meta.dirname, "../../test/fixtures/golden-h16/gemma3_text/model");

let model: CausalLM;
let tokenizer: PreTrainedTokenizer;
beforeAll(async () => {
  [model, tokenizer] = await Promise.all([
    AutoModelForCausalLM.from_pretrained(MODEL),
    AutoTokenizer.from_pretrained(MODEL),
  ]);
});
afterAll(() => model.dispose());

async function collect(answer: AsyncIterable<string>): Promise<string> {
  let text = "";
  for await (const piece of answer) text += piece;
  return text;
}

describe("a chat with a model", () => {
  // The tokenizer has fewer tokens than the model.
  const suppress_tokens = [433, 434, 435, 436, 437, 438, 439];
  const greedy = { do_sample: false, max_new_tokens: 12, eos_token_id: [], suppress_tokens };
  const start = (options: ChatSessionOptions = {}): ChatSession =>
    new ChatSession(model, tokenizer, { generation: greedy, ...options });

  async function fromScratch(chat: ChatSession): Promise<string> {
    const fresh = start({ messages: chat.messages, generation: chat.generation });
    return collect(fresh.retry()).finally(() => fresh.dispose());
  }

  it("gives with the kept cache what it gives without", async () => {
    const chat = start({ system: "Be brief." });
    for (const [turn, question] of ["Hello there", "What is new?", "And else?"].entries()) {
      expect(await collect(chat.send(question))).toBe(await fromScratch(chat));
      if (turn > 0) expect(chat.stats!.cached_tokens).toBeGreaterThan(20);
    }
    await collect(chat.retry());
    expect(chat.stats!.prompt_tokens - chat.stats!.cached_tokens).toBe(1);
    chat.undo();
    expect(await collect(chat.send("Else?"))).toBe(await fromScratch(chat));
    expect(chat.stats!.cached_tokens).toBeGreaterThan(40);
    chat.system = "Be long.";
    expect(await collect(chat.send("Why?"))).toBe(await fromScratch(chat));
    chat.dispose();
  });

  it("computes from the beginning what the sliding layers have dropped", async () => {
    const chat = start({ generation: { ...greedy, max_new_tokens: 230 } });
    const answer = await collect(chat.send("Hello there"));
    expect(await collect(chat.retry())).toBe(answer);
    expect(chat.stats).toMatchObject({ cached_tokens: 0, new_tokens: 230 });
    chat.dispose();
  });

  it("goes on after tokens that have no text", async () => {
    const chat = start();
    await collect(chat.send("Hello there"));
    chat.generation = { ...greedy, suppress_tokens: null, sequence_bias: [[[437], 100]] };
    expect(await collect(chat.send("And?"))).toBe("");
    chat.undo();
    chat.generation = greedy;
    expect(await collect(chat.send("And?"))).toBe(await fromScratch(chat));
    chat.dispose();
  });

  it("goes on after an abort", async () => {
    const chat = start({ generation: { ...greedy, max_new_tokens: 200 } });
    const abort = new AbortController();
    const reading = async (): Promise<void> => {
      for await (const _ of chat.send("Hello there", { signal: abort.signal })) abort.abort();
    };
    await expect(reading()).rejects.toThrow(/abort/);
    expect(chat.stats!.finish_reason).toBe("aborted");
    expect(chat.messages).toHaveLength(2);
    chat.generation = greedy;
    expect(await collect(chat.send("Go on"))).toBe(await fromScratch(chat));
    expect(chat.stats!.cached_tokens).toBeGreaterThan(10);
    chat.dispose();
  });
});
