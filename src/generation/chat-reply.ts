import type { ChatMessage } from "../processing/chat-template.ts";
import { tokenIds } from "./checks.ts";
import type { GenerationConfig } from "./generation-config.ts";
import type { TokenDecoder } from "./stopping.ts";
import { TextIteratorStreamer } from "./streamer.ts";

/** An answer as it comes: a stream of text that remembers its text, its tokens and their times. */
export class ChatReply extends TextIteratorStreamer {
  text = "";
  readonly tokens: number[] = [];
  readonly #started: number = performance.now();
  #first = 0;
  #last = 0;

  constructor(tokenizer: TokenDecoder) {
    super(tokenizer, { skip_prompt: true, token_callback_function: (ids) => this.#take(ids) });
  }

  /** Seconds from the beginning to the first token; null before it. */
  get timeToFirstToken(): number | null {
    return this.tokens.length === 0 ? null : (this.#first - this.#started) / 1000;
  }

  /** Tokens a second after the first one; null where there are none. */
  get tokensPerSecond(): number | null {
    const seconds = (this.#last - this.#first) / 1000;
    return seconds > 0 ? (this.tokens.length - 1) / seconds : null;
  }

  override on_finalized_text(text: string, stream_end: boolean): void {
    this.text += text;
    super.on_finalized_text(text, stream_end);
  }

  /** The failure itself matters, not that the text's end can't be decoded either. */
  override fail(error: unknown): void {
    try {
      super.fail(error);
    } catch {
      // Readers get `error`.
    }
  }

  #take(ids: readonly bigint[]): void {
    this.#last = performance.now();
    if (this.tokens.length === 0) this.#first = this.#last;
    for (const id of ids) this.tokens.push(Number(id));
  }
}

/** A conversation that is ready to be answered. */
export interface ChatQuestion {
  readonly messages: readonly ChatMessage[];
  readonly prompt: readonly number[];
  /** The prompt with other numbers where images and sounds are: equal ones are equal pictures. */
  readonly key: readonly number[];
  /** What the model takes besides ids, where there are images or sounds. */
  readonly media: Readonly<Record<string, unknown>>;
  /** Messages left out to make room. */
  readonly dropped: number;
  readonly config: GenerationConfig;
  /** Positions that prompt and answer may take together. */
  readonly limit: number;
  /** Tokens that the answer may have. */
  readonly room: number;
}

/** How an answer ended: by itself, by its reader's wish, or by a failure. */
export type ChatEnd = "over" | "aborted" | "error";

/** Figures of an answer. */
export interface ChatStats {
  /** Tokens of the conversation with its template, before the answer. */
  readonly prompt_tokens: number;
  /** How many of these were in the cache already. */
  readonly cached_tokens: number;
  readonly new_tokens: number;
  /** Seconds from the question to the first token; null if none came. */
  readonly time_to_first_token: number | null;
  /** Tokens a second; null where there were none to count. */
  readonly prefill: number | null;
  readonly decode: number | null;
  /** Bytes of keys and values held. */
  readonly cache_bytes: number;
  /** Positions that the conversation may take, answers included. */
  readonly context_length: number;
  /** Messages dropped before this answer, because the context was full. */
  readonly dropped_messages: number;
  /** What ended it: the model, max_new_tokens, a full context, the caller, or an error. */
  readonly finish_reason: "stop" | "length" | "context" | "aborted" | "error";
}

/** Figures of an answer; `cached`: tokens of the prompt that were in the cache, which now takes `bytes`. */
export function chatStats(
  { prompt, dropped, config, limit, room }: ChatQuestion,
  reply: ChatReply,
  end: ChatEnd,
  { cached, bytes }: { cached: number; bytes: number },
): ChatStats {
  const seconds = reply.timeToFirstToken;
  const ended = tokenIds("eos_token_id", config.eos_token_id ?? []).includes(reply.tokens.at(-1)!);
  const full = room === limit - prompt.length ? "context" : "length";
  return {
    prompt_tokens: prompt.length,
    cached_tokens: cached,
    new_tokens: reply.tokens.length,
    time_to_first_token: seconds,
    prefill: seconds ? (prompt.length - cached) / seconds : null,
    decode: reply.tokensPerSecond,
    cache_bytes: bytes,
    context_length: limit,
    dropped_messages: dropped,
    finish_reason: end !== "over" ? end : ended || reply.tokens.length < room ? "stop" : full,
  };
}
