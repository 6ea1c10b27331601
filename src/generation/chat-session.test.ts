import { describe, expect, it } from "vitest";
import { FakeCache, FakeDecoder, FakeTokenizer, hashTable } from "../../test/support/fake-decoder.ts";
import { InputError } from "../errors.ts";
import type { ChatMessage } from "../processing/chat-template.ts";
import {
  type ChatGenerationOptions,
  type ChatModel,
  ChatSession,
  type ChatSessionOptions,
} from "./chat-session.ts";
import { generate } from "./generate.ts";
import { GenerationConfig } from "./generation-config.ts";

/** 256 ends a turn, 257 to 282 are letters, and below are the bytes for everything else. */
const END = 256;
const LETTERS = "abcdefghijklmnopqrstuvwxyz";
const VOCAB = END + 1 + LETTERS.length;

function encode(text: string): number[] {
  return [...text].map((char) =>
    LETTERS.includes(char) ? END + 1 + LETTERS.indexOf(char) : char.charCodeAt(0),
  );
}

/** "u:text|", "s:text|" and "a:text|" are a conversation's turns, "a:" asks for an answer. */
class ChatFakeTokenizer extends FakeTokenizer {
  template = "{{ messages }}";

  constructor() {
    super(["<end>", ...LETTERS]);
  }

  get_chat_template(): string {
    return this.template;
  }

  apply_chat_template(messages: readonly ChatMessage[], options: { tools?: readonly unknown[] }): number[] {
    if (messages[0]?.content === "refuse me") throw new InputError("System role not supported");
    const turns = messages.map(({ role, content }) => `${role[0]}:${content}|`);
    return encode(`${options.tools === undefined ? "" : "t|"}${turns.join("")}a:`);
  }
}

/** Letters and the end at random, as the whole history asks for. */
function letters(history: readonly number[]): number[] {
  return (hashTable(VOCAB)(history) as number[]).map((value, id) => (id < END ? -99 : value));
}

class Fake implements ChatModel {
  readonly decoder = new FakeDecoder(VOCAB, letters);
  readonly config: ChatModel["config"];
  readonly generation_config: GenerationConfig = new GenerationConfig({
    eos_token_id: [END],
    do_sample: false,
  });

  constructor(max_position_embeddings = 10_000) {
    this.config = { get_text_config: () => ({ max_position_embeddings }) };
  }

  generate: ChatModel["generate"] = (options) =>
    generate(this.decoder, options, { generation_config: this.generation_config });

  /** Tokens that each answer began with, since the last call. */
  fed(): string[] {
    const prompts = this.decoder.steps.filter(([row]) => row!.length > 1);
    this.decoder.steps.length = 0;
    return prompts.map(([row]) => new ChatFakeTokenizer().decode(row!));
  }
}

async function collect(answer: AsyncIterable<string>): Promise<string> {
  let text = "";
  for await (const piece of answer) text += piece;
  return text;
}

function start(
  options: ChatSessionOptions = {},
  model: Fake = new Fake(),
): { model: Fake; chat: ChatSession } {
  const generation: ChatGenerationOptions = { max_new_tokens: 20, ...options.generation };
  const cache = (): FakeCache => model.decoder.createCache(1, 0);
  return { model, chat: new ChatSession(model, new ChatFakeTokenizer(), { cache, ...options, generation }) };
}

/** The last answer as a session gives it that has computed nothing before. */
function fromScratch(chat: ChatSession): Promise<string> {
  return collect(start({ messages: chat.messages, generation: chat.generation }).chat.retry());
}

/** Ends the run after so many tokens by aborting, and gives what came. */
async function abortAfter(chat: ChatSession, tokens: number, question: string): Promise<string> {
  const abort = new AbortController();
  const { decoder } = chat.model as Fake;
  const first = decoder.steps.length;
  decoder.onStep = (count) => {
    if (count > first + tokens) abort.abort();
  };
  let text = "";
  const reading = async (): Promise<void> => {
    for await (const piece of chat.send(question, { signal: abort.signal })) text += piece;
  };
  await expect(reading()).rejects.toThrow(expect.objectContaining({ name: "AbortError" }));
  decoder.onStep = () => undefined;
  return text;
}

describe("a conversation", () => {
  it("goes on turn after turn, and only what is new is computed", async () => {
    const { chat, model } = start({ system: "be brief" });
    let left = "s:be brief";
    for (const question of ["hello", "and then", "why", "oh"]) {
      const answer = await collect(chat.send(question));
      expect(answer).toMatch(/^[a-z]+$/);
      expect(answer).toBe(await fromScratch(chat));
      expect(model.fed()).toEqual([`${left}|u:${question}|a:`]);
      const { new_tokens, prompt_tokens, cached_tokens, finish_reason } = chat.stats!;
      expect(prompt_tokens - cached_tokens).toBe(`${left}|u:${question}|a:`.length);
      expect(finish_reason).toBe(new_tokens === 20 ? "length" : "stop");
      // The last letter of an answer that was cut has been chosen but not computed.
      left = finish_reason === "length" ? answer.at(-1)! : "";
    }
    expect(model.decoder.caches).toHaveLength(1);
    expect(chat.messages.map(({ role }) => role[0]).join("")).toBe("suauauaua");
  });

  it("comes out the same after undo, retry and another system message", async () => {
    const { chat, model } = start();
    const first = await collect(chat.send("one"));
    await collect(chat.send("two"));
    model.fed();
    expect(chat.undo()).toBe(true);
    expect(chat.messages).toEqual([
      { role: "user", content: "one" },
      { role: "assistant", content: first },
    ]);
    const three = await collect(chat.send("three"));
    expect(three).toBe(await fromScratch(chat));
    // "|u:t" of the question that was dropped is still there.
    expect(model.fed()).toEqual(["hree|a:"]);
    expect(await collect(chat.retry())).toBe(three);
    expect(model.decoder.steps[0]).toEqual([[":".charCodeAt(0)]]);
    chat.system = "be kind";
    expect(chat.system).toBe("be kind");
    const four = await collect(chat.send("four"));
    expect(four).toBe(await fromScratch(chat));
    expect(chat.stats?.cached_tokens).toBe(0);
    chat.clear();
    expect(chat.messages).toEqual([{ role: "system", content: "be kind" }]);
    expect(chat.undo()).toBe(false);
    chat.system = undefined;
    expect(chat.messages).toEqual([]);
  });

  it("keeps an answer that was aborted as far as it came", async () => {
    const { chat, model } = start({ generation: { suppress_tokens: [END], max_new_tokens: 40 } });
    const text = await abortAfter(chat, 5, "hello");
    expect(text).toMatch(/^[a-z]{5}$/);
    expect(chat.messages.at(-1)).toEqual({ role: "assistant", content: text });
    expect(chat.stats).toMatchObject({ new_tokens: 5, finish_reason: "aborted" });
    model.fed();
    expect(await collect(chat.send("go on"))).toBe(await fromScratch(chat));
    expect(model.fed()).toEqual([`${text.at(-1)}|u:go on|a:`]);
  });

  it("takes a question back whose answer did not begin, and keeps what was computed of it", async () => {
    const { chat, model } = start();
    await collect(chat.send("one"));
    const before = chat.messages;
    expect(await abortAfter(chat, 0, "two")).toBe("");
    expect(chat.messages).toEqual(before);
    expect(chat.stats).toMatchObject({ new_tokens: 0, finish_reason: "aborted", time_to_first_token: null });
    const aborted = chat.send("three", { signal: AbortSignal.abort(new Error("too late")) });
    await expect(collect(aborted)).rejects.toThrow("too late");
    expect(chat.messages).toEqual(before);
    expect(await collect(chat.send("two"))).toBe(await fromScratch(chat));
    expect(model.decoder.caches).toHaveLength(1);
  });

  it("stops when nobody reads on", async () => {
    const { chat, model } = start({ generation: { suppress_tokens: [END], max_new_tokens: 1000 } });
    for await (const _piece of chat.send("hello")) break;
    expect(model.decoder.steps.length).toBeLessThan(20);
    expect(chat.stats?.finish_reason).toBe("aborted");
    expect(chat.messages.at(-1)?.content).toMatch(/^[a-z]+$/);
    chat.generation = { max_new_tokens: 4 };
    expect(await collect(chat.send("again"))).toBe(await fromScratch(chat));
  });

  it("starts over with another cache where the old one can't go back far enough", async () => {
    const model = new Fake();
    class Forgetful extends FakeCache {
      override crop(length: number): void {
        if (length < this.lengths[0]! - 3) throw new InputError("too far back");
        super.crop(length);
      }
    }
    const { caches } = model.decoder;
    const cache = (): FakeCache => caches[caches.push(new Forgetful(1)) - 1]!;
    const { chat } = start({ cache, generation: { suppress_tokens: [END], max_new_tokens: 9 } }, model);
    await collect(chat.send("one"));
    model.fed();
    expect(await collect(chat.retry())).toBe(await fromScratch(chat));
    expect(model.fed()).toEqual(["u:one|a:"]);
    expect(model.decoder.caches.map((cache) => cache.disposed)).toEqual([true, false]);
    chat.dispose();
    expect(model.decoder.caches.map((cache) => cache.disposed)).toEqual([true, true]);
  });

  it("does without streaming in beam search, and without a cache where none is wanted", async () => {
    const { chat, model } = start();
    await collect(chat.send("one"));
    chat.generation = { num_beams: 3, max_new_tokens: 6 };
    expect(await collect(chat.send("two"))).toBe(await fromScratch(chat));
    expect(chat.stats?.cached_tokens).toBeGreaterThan(6);
    model.fed();
    chat.generation = { max_new_tokens: 6 };
    expect(await collect(chat.send("three"))).toBe(await fromScratch(chat));
    expect(model.fed()).toEqual([`${chat.messages[3]!.content}|u:three|a:`]);
    chat.generation = { use_cache: false, max_new_tokens: 6 };
    expect(await collect(chat.send("four"))).toBe(await fromScratch(chat));
    expect(chat.stats?.cached_tokens).toBe(0);
    expect(model.decoder.caches[0]?.disposed).toBe(false);
  });
});

describe("the context", () => {
  const answers = { suppress_tokens: [END], max_new_tokens: 10 };

  it("bounds an answer, and a conversation that leaves no room for one", async () => {
    const { chat } = start({ generation: answers }, new Fake(40));
    await collect(chat.send("one"));
    expect(chat.stats).toMatchObject({ new_tokens: 10, finish_reason: "length", context_length: 40 });
    await collect(chat.send("two"));
    expect(chat.stats).toMatchObject({ new_tokens: 10, prompt_tokens: 27, cached_tokens: 17 });
    const before = chat.messages;
    await expect(collect(chat.send("three"))).rejects.toThrow(/48 tokens of 40.*\(trim\)/);
    expect(chat.messages).toEqual(before);
    chat.clear();
    expect(await collect(chat.send("x".repeat(33)))).toHaveLength(2);
    expect(chat.stats?.finish_reason).toBe("context");
    chat.clear();
    await expect(collect(chat.send("x".repeat(36)))).rejects.toThrow(/question must be shorter/);
    chat.generation = { max_length: 12, suppress_tokens: [END] };
    expect(await collect(chat.send("one"))).toHaveLength(4);
  });

  it("is made free from the oldest exchanges where that is allowed", async () => {
    const { chat } = start({ generation: answers, system: "ok", trim: true }, new Fake(64));
    for (const question of ["one", "two", "six"]) await collect(chat.send(question));
    expect(chat.stats?.dropped_messages).toBe(0);
    await collect(chat.send("ten"));
    expect(chat.stats).toMatchObject({ dropped_messages: 4, cached_tokens: 7 });
    expect(chat.messages.map(({ content }) => content).slice(0, 2)).toEqual(["ok", "six"]);
    expect(chat.messages.map(({ role }) => role[0]).join("")).toBe("suaua");
    expect(chat.messages.at(-1)?.content).toBe(await fromScratch(chat));
    await expect(collect(chat.send("x".repeat(64)))).rejects.toThrow(/question must be shorter/);
  });
});

describe("options", () => {
  it("are those of generate, as far as a chat has use for them", async () => {
    const { chat } = start();
    const set = (options: object): void => {
      chat.generation = options;
    };
    expect(() => set({ temprature: 1 })).toThrow(/did you mean "temperature"/);
    expect(() => set({ temperature: -1 })).toThrow(/temperature/);
    expect(() => set({ num_return_sequences: 2 })).toThrow(/num_return_sequences can't be set in a chat/);
    expect(chat.generation).toEqual({ max_new_tokens: 20 });
    await expect(collect(chat.send("x", { input_ids: [[1]] } as object))).rejects.toThrow(/input_ids/);
    let calls = 0;
    chat.generation = { stopping_criteria: () => ++calls === 3 };
    expect(await collect(chat.send("x", { suppress_tokens: [END] }))).toHaveLength(3);
    expect(chat.stats?.finish_reason).toBe("stop");
  });

  it("are refused where they don't fit together", async () => {
    const tokenizer = new ChatFakeTokenizer();
    const tools = [{ name: "f" }];
    expect(() => start({ sytem: "x" } as object)).toThrow(/did you mean "system"/);
    expect(() => new ChatSession(new Fake(), tokenizer, { tools })).toThrow(/template does not read them/);
    tokenizer.template = "{{ tools }}";
    const model = new Fake();
    const cache = (): FakeCache => model.decoder.createCache(1, 0);
    const chat = new ChatSession(model, tokenizer, { tools, cache, generation: { max_new_tokens: 2 } });
    await collect(chat.send("x"));
    expect(model.fed()[0]).toMatch(/^t\|u:x/);
    expect(() => {
      chat.system = "refuse me";
    }).toThrow("System role not supported");
    expect(chat.messages).toHaveLength(2);
  });

  it("leave one answer at a time", async () => {
    const { chat } = start();
    const answer = chat.send("one");
    await answer.next();
    await expect(chat.send("two").next()).rejects.toThrow(/being written/);
    expect(() => chat.clear()).toThrow(/being written/);
    await answer.return(undefined);
    expect(chat.messages).toHaveLength(2);
    await expect(start().chat.retry().next()).rejects.toThrow(/no question/);
    const loaded = start({ messages: [{ role: "user", content: "well?" }] }).chat;
    await expect(loaded.send("hello?").next()).rejects.toThrow(/retry/);
    expect(await collect(loaded.retry())).toMatch(/^[a-z]+$/);
  });
});

describe("messages from elsewhere", () => {
  const user = { role: "user", content: "a" };
  const assistant = { role: "assistant", content: [{ type: "text", text: "b" }] };

  it.each([
    [{}, /list of/],
    [[user, user], /messages\[1\] has the role "user", expected "assistant"/],
    [[assistant], /messages\[0\].*expected "user"/],
    [[user, { role: "system", content: "x" }], /messages\[1\] has the role "system"/],
    [[{ role: "user" }], /messages\[0\] must have a role and a text/],
    [[null], /messages\[0\]/],
    [[{ role: "user", content: [{ type: "image" }] }], /text as its content/],
  ])("are refused: %j", (messages, error) => {
    expect(() => start({ messages: messages as ChatMessage[] })).toThrow(error);
  });

  it("are kept as they are", () => {
    const messages = [{ role: "system", content: "s" }, { ...user, name: "Ann" }, assistant];
    expect(start({ messages }).chat.messages).toEqual(messages);
  });
});
