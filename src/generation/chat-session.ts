import { InputError, rejectUnknownOptions } from "../errors.ts";
import { isMediaPart, withoutSources } from "../processing/chat-media.ts";
import { checkMessages } from "../processing/chat-messages.ts";
import { type ChatMessage, templateMentions } from "../processing/chat-template.ts";
import type { ChatTemplateOptions } from "../processing/tokenizer.ts";
import { Tensor } from "../tensor.ts";
import { DynamicCache } from "./cache.ts";
import { type ChatProcessor, type ChatPrompt, promptWithMedia } from "./chat-prompt.ts";
import { type ChatEnd, type ChatQuestion, ChatReply, type ChatStats, chatStats } from "./chat-reply.ts";
import type { DecoderCache } from "./decoder.ts";
import { configure, type GenerateOptions, type GenerateResult } from "./generate.ts";
import type { GenerationConfig } from "./generation-config.ts";
import { PrefixCache } from "./prefix-cache.ts";
import { InterruptableStoppingCriteria, StoppingCriteriaList, type TokenDecoder } from "./stopping.ts";

/** What a chat needs of a model. */
export interface ChatModel {
  readonly config: { get_text_config(): { readonly max_position_embeddings: number } };
  readonly generation_config: GenerationConfig;
  generate(options: GenerateOptions): Promise<GenerateResult>;
}

/** What a chat needs of a tokenizer. */
export interface ChatTokenizer extends TokenDecoder {
  get_chat_template(wanted?: string, tools?: readonly unknown[]): string;
  apply_chat_template(
    messages: readonly ChatMessage[],
    options: ChatTemplateOptions & { return_tensor: false },
  ): number[];
}

/** Options of generate that a chat sets itself, or has no use for. */
const OWN = [
  "input_ids",
  "inputs",
  "attention_mask",
  "inputs_embeds",
  "past_key_values",
  "cache_implementation",
  "cache_config",
  "max_cache_len",
  "streamer",
  "num_return_sequences",
  "return_dict_in_generate",
  "output_scores",
  "output_logits",
  "output_hidden_states",
  "output_attentions",
] as const;

/** Options of generate for the answers of a chat. */
export type ChatGenerationOptions = Omit<GenerateOptions, (typeof OWN)[number]>;

export interface ChatSessionOptions {
  /** The conversation so far, as `messages` takes it. */
  messages?: readonly ChatMessage[];
  /** The system message, in place of one in `messages`. */
  system?: string;
  /** JSON schemas of functions, for templates that read `tools`. */
  tools?: readonly unknown[];
  /** Whether the oldest exchanges may be dropped when the conversation fills the context; false. */
  trim?: boolean;
  /** For every answer. Without max_new_tokens and max_length an answer may fill the context. */
  generation?: ChatGenerationOptions;
  /** Makes the cache, empty; a DynamicCache without it. */
  cache?: () => DecoderCache;
  /** The model's processor: users may then show images, and sounds where it has an audio_token. */
  processor?: ChatProcessor;
  /** Options of the processor's call, do_pan_and_scan above all. */
  processor_kwargs?: Readonly<Record<string, unknown>>;
}

const SESSION_OPTIONS: readonly (keyof ChatSessionOptions)[] = [
  "messages",
  "system",
  "tools",
  "trim",
  "generation",
  "cache",
  "processor",
  "processor_kwargs",
];

/**
 * A conversation with a model, and with a processor about images and sounds. It keeps the keys and values of what was said, so that each turn computes only what is
 * new: a changed system message or a dropped answer costs what follows it. One answer at a time.
 */
export class ChatSession {
  readonly model: ChatModel;
  readonly tokenizer: ChatTokenizer;
  readonly processor: ChatProcessor | undefined;
  readonly tools: readonly unknown[] | undefined;
  trim: boolean;
  /** Figures of the last answer, also of one that was broken off. */
  stats: ChatStats | undefined;
  readonly #cache: PrefixCache;
  #messages: readonly ChatMessage[] = [];
  #generation: ChatGenerationOptions = {};
  readonly #processing: Readonly<Record<string, unknown>>;
  #answering = false;

  constructor(model: ChatModel, tokenizer: ChatTokenizer, options: ChatSessionOptions = {}) {
    rejectUnknownOptions(options, SESSION_OPTIONS, "ChatSession");
    this.model = model;
    this.tokenizer = tokenizer;
    this.processor = options.processor;
    this.#processing = options.processor_kwargs ?? {};
    this.tools = options.tools;
    this.trim = options.trim ?? false;
    const template = tokenizer.get_chat_template(undefined, this.tools);
    if (this.tools !== undefined && !templateMentions(template, "tools"))
      throw new InputError("tools: the model's chat template does not read them", { option: "tools" });
    this.#cache = new PrefixCache(options.cache ?? (() => new DynamicCache()));
    this.generation = options.generation ?? {};
    this.messages = options.messages ?? [];
    if (options.system !== undefined) this.system = options.system;
  }

  /** The conversation, the system message first if there is one. Set it to go on from another. */
  get messages(): readonly ChatMessage[] {
    return this.#messages;
  }

  set messages(messages: readonly ChatMessage[]) {
    this.#checkIdle();
    const checked = this.#check(messages);
    // A template may refuse what it is given, system messages above all; that must come out now.
    this.#render(checked.at(-1)?.role === "user" ? checked : [...checked, { role: "user", content: "?" }]);
    this.#messages = checked;
  }

  /** The system message's text; undefined takes it away. */
  get system(): string | undefined {
    const first = this.#messages[0];
    if (first?.role !== "system") return undefined;
    return typeof first.content === "string" ? first.content : first.content.map(({ text }) => text).join("");
  }

  set system(text: string | undefined) {
    const rest = this.#messages.slice(systemLength(this.#messages));
    this.messages = text === undefined ? rest : [{ role: "system", content: text }, ...rest];
  }

  /** Options of generate for every answer. */
  get generation(): ChatGenerationOptions {
    return this.#generation;
  }

  set generation(options: ChatGenerationOptions) {
    this.#configure(options);
    this.#generation = options;
  }

  /**
   * Asks, and gives the answer's text piece by piece. Aborting (`signal`) throws the signal's reason; an answer that
   * was broken off stays in the conversation as far as it came, and a question that got no answer does not.
   */
  async *send(
    content: ChatMessage["content"],
    options: ChatGenerationOptions = {},
  ): AsyncGenerator<string, void, undefined> {
    if (this.#messages.at(-1)?.role === "user")
      throw new InputError("the last message is a question without an answer: retry() answers it");
    const [question] = this.#check([{ role: "user", content }]);
    yield* this.#answer([...this.#messages, question!], options);
  }

  /** Answers the last question once more, in place of the answer that it got. */
  async *retry(options: ChatGenerationOptions = {}): AsyncGenerator<string, void, undefined> {
    const question = this.#messages.findLastIndex(({ role }) => role === "user");
    if (question === -1) throw new InputError("there is no question to answer again");
    yield* this.#answer(this.#messages.slice(0, question + 1), options);
  }

  /** Drops the last question with its answer. Returns whether there was one. */
  undo(): boolean {
    this.#checkIdle();
    const question = this.#messages.findLastIndex(({ role }) => role === "user");
    if (question !== -1) this.#messages = this.#messages.slice(0, question);
    return question !== -1;
  }

  /** Starts a new conversation under the same system message. */
  clear(): void {
    this.#checkIdle();
    this.#messages = this.#messages.slice(0, systemLength(this.#messages));
  }

  /** Gives the cache's memory back. The session can go on, with a new one. */
  dispose(): void {
    this.#checkIdle();
    this.#cache.dispose();
  }

  #check(messages: readonly ChatMessage[]): ChatMessage[] {
    return checkMessages(messages, { media: this.processor !== undefined });
  }

  #checkIdle(): void {
    if (this.#answering) throw new InputError("an answer is being written: wait for its end, or abort it");
  }

  async *#answer(
    messages: readonly ChatMessage[],
    given: ChatGenerationOptions,
  ): AsyncGenerator<string, void, undefined> {
    this.#checkIdle();
    const options = { ...this.#generation, ...given };
    this.#answering = true;
    const question = await this.#prepare(messages, options).catch((error: unknown) => {
      this.#answering = false;
      throw error;
    });
    const reply = new ChatReply(this.tokenizer);
    const stop = new InterruptableStoppingCriteria();
    const cache = question.config.use_cache === false ? undefined : this.#cache.open(question.key);
    const cached = cache?.lengths[0] ?? 0;
    const generation = this.#generate(question, options, { cache, reply, stop });
    let end: ChatEnd = "aborted";
    try {
      yield* reply;
      end = "over";
    } catch (error) {
      if (options.signal?.aborted !== true) end = "error";
      throw error;
    } finally {
      // Whoever stops reading wants no more of it.
      stop.interrupt();
      await generation;
      if (cache !== undefined) this.#cache.settle(computed(question, reply));
      if (end === "over" || reply.text !== "")
        this.#messages = [...question.messages, { role: "assistant", content: reply.text }];
      this.stats = chatStats(question, reply, end, { cached, bytes: this.#cache.byteLength });
      this.#answering = false;
    }
  }

  /** Generates into `reply`, which learns of failures too. */
  async #generate(
    { prompt, media, config, room }: ChatQuestion,
    options: ChatGenerationOptions,
    to: { cache: DecoderCache | undefined; reply: ChatReply; stop: InterruptableStoppingCriteria },
  ): Promise<void> {
    const { max_length: _length, ...rest } = options;
    const beams = (config.num_beams ?? 1) > 1;
    try {
      const sequences = await this.model.generate({
        ...rest,
        ...media,
        input_ids: new Tensor("int64", prompt.map(BigInt), [1, prompt.length]),
        // Every token of the template counts, whatever it is.
        attention_mask: [new Array<number>(prompt.length).fill(1)],
        max_new_tokens: room,
        past_key_values: to.cache,
        tokenizer: rest.tokenizer ?? this.tokenizer,
        stopping_criteria: [...new StoppingCriteriaList(rest.stopping_criteria ?? []), to.stop],
        num_return_sequences: 1,
        return_dict_in_generate: false,
        ...(beams ? {} : { streamer: to.reply }),
      });
      if (!beams) return;
      const [row] = (sequences as Tensor).tolist() as bigint[][];
      to.reply.put([row!.slice(0, prompt.length)]);
      to.reply.put([row!.slice(prompt.length)]);
      to.reply.end();
    } catch (error) {
      to.reply.fail(error);
    }
  }

  /** Tokens and limits of the next answer; drops the oldest exchanges where that is allowed and needed. */
  async #prepare(messages: readonly ChatMessage[], options: ChatGenerationOptions): Promise<ChatQuestion> {
    const config = this.#configure(options);
    const positions = this.model.config.get_text_config().max_position_embeddings;
    const given = config.max_new_tokens === null ? config.max_length : null;
    const limit = Math.min(positions, given ?? positions);
    const all = { messages, ...(await this.#encode(messages, options.signal)) };
    const fits = all.prompt.length < limit;
    const { messages: kept, ...encoded } =
      fits || !this.trim ? all : await this.#trimmed(messages, limit, options.signal);
    const { prompt } = encoded;
    if (prompt.length >= limit) {
      const advice =
        kept.length > 2
          ? "start a new one, or let the oldest exchanges go (trim)"
          : "the question must be shorter";
      throw new InputError(
        `the conversation takes ${prompt.length} tokens of ${limit}, which leaves no room for an answer: ${advice}`,
      );
    }
    const room = Math.min(limit - prompt.length, config.max_new_tokens ?? Number.POSITIVE_INFINITY);
    return { messages: kept, ...encoded, dropped: messages.length - kept.length, config, limit, room };
  }

  /**
   * The conversation without so many of its oldest exchanges that it takes half of the context: what remains moves to
   * other positions and is computed anew, which should not happen with every turn.
   */
  async #trimmed(
    messages: readonly ChatMessage[],
    limit: number,
    signal: AbortSignal | null | undefined,
  ): Promise<{ readonly messages: readonly ChatMessage[] } & ChatPrompt> {
    const head = systemLength(messages);
    const without = (exchanges: number): readonly ChatMessage[] => [
      ...messages.slice(0, head),
      ...messages.slice(head + 2 * exchanges),
    ];
    let [low, high] = [1, Math.floor((messages.length - head) / 2)];
    while (low < high) {
      const middle = Math.floor((low + high) / 2);
      if ((await this.#encode(without(middle), signal)).prompt.length <= limit / 2) high = middle;
      else low = middle + 1;
    }
    const kept = without(Math.max(0, high));
    return { messages: kept, ...(await this.#encode(kept, signal)) };
  }

  /** Tokens of a conversation; its images and sounds are read, if there are any. */
  async #encode(
    messages: readonly ChatMessage[],
    signal: AbortSignal | null | undefined,
  ): Promise<ChatPrompt> {
    const { processor, tools } = this;
    if (processor === undefined || !messages.some(hasMedia)) {
      const prompt = this.#render(messages);
      return { prompt, key: prompt, media: {} };
    }
    const inputs = await processor.apply_chat_template(messages, {
      ...this.#processing,
      ...(tools && { tools }),
      ...(signal && { signal }),
      add_generation_prompt: true,
      tokenize: true,
      return_dict: true,
    });
    return promptWithMedia(inputs);
  }

  #render(messages: readonly ChatMessage[]): number[] {
    const { tools } = this;
    const options = { add_generation_prompt: true, return_tensor: false, ...(tools && { tools }) } as const;
    return this.tokenizer.apply_chat_template(withoutSources(messages), options);
  }

  #configure(options: ChatGenerationOptions): GenerationConfig {
    for (const option of OWN) {
      if ((options as GenerateOptions)[option] != null)
        throw new InputError(`${option} can't be set in a chat`, { option });
    }
    return configure(options, { generation_config: this.model.generation_config });
  }
}

/** The tokens that a run has computed at most. */
function computed({ key, config }: ChatQuestion, reply: ChatReply): number[] {
  // Beams go different ways after the prompt, and the last token of an answer is chosen but not computed.
  const beams = (config.num_beams ?? 1) > 1;
  return beams ? [...key] : [...key, ...reply.tokens.slice(0, -1)];
}

function hasMedia({ content }: ChatMessage): boolean {
  return Array.isArray(content) && content.some(isMediaPart);
}

/** Messages before the first turn. */
function systemLength(messages: readonly ChatMessage[]): number {
  return messages[0]?.role === "system" ? 1 : 0;
}
