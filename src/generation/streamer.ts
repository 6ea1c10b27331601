import { InputError } from "../errors.ts";
import { isByteToken, type TokenDecoder } from "./stopping.ts";

/** Base of what generate pushes tokens to: first the prompt (padding included), then each step's tokens. */
export abstract class BaseStreamer {
  /** `value[row]` holds the new ids of a row. */
  abstract put(value: bigint[][]): void;

  /** Called when generation is over. */
  abstract end(): void;

  /** Called instead of `end` when generation failed or was aborted. */
  fail(_error: unknown): void {
    this.end();
  }
}

/** Options of text streamers, as in Transformers.js. */
export interface TextStreamerOptions {
  /** Leaves out the prompt; false. */
  skip_prompt?: boolean;
  /** Leaves out special tokens; true. */
  skip_special_tokens?: boolean;
  /** Further options of the tokenizer's `decode`. */
  decode_kwargs?: Record<string, unknown>;
  /** Gets each piece of text; without it text goes to standard output, with a newline at the end. */
  callback_function?: ((text: string) => void) | null;
  /** Gets the ids of each step. */
  token_callback_function?: ((tokens: bigint[]) => void) | null;
}

/** Tokens of context at most, when the last ones have no text of their own. */
const CONTEXT = 8;

/**
 * Turns tokens into text as they come. A piece is emitted as soon as no later token can change it: at once, except
 * that tokens of single bytes wait for the end of their run, since one byte too many makes the whole run invalid.
 * Only the last few tokens are decoded again, so the cost of a token does not grow with the text.
 */
export class TextStreamer extends BaseStreamer {
  readonly tokenizer: TokenDecoder;
  readonly skip_prompt: boolean;
  readonly callback_function: (text: string) => void;
  readonly token_callback_function: ((tokens: bigint[]) => void) | null;
  readonly decode_kwargs: Record<string, unknown>;
  readonly #printsToStdout: boolean;
  /** Tokens already printed, kept as context, and then those that wait. */
  #window: number[] = [];
  #printed = "";
  #waiting = 0;
  #nextIsPrompt = true;

  constructor(tokenizer: TokenDecoder, options: TextStreamerOptions & Record<string, unknown> = {}) {
    super();
    const {
      skip_prompt,
      skip_special_tokens,
      callback_function,
      token_callback_function,
      decode_kwargs,
      ...more
    } = options;
    if (typeof (tokenizer as Partial<TokenDecoder> | undefined)?.decode !== "function") {
      throw new InputError("TextStreamer: the first argument must be a tokenizer", { option: "tokenizer" });
    }
    this.tokenizer = tokenizer;
    this.skip_prompt = skip_prompt ?? false;
    this.callback_function = callback_function ?? writeToStdout;
    this.#printsToStdout = this.callback_function === writeToStdout;
    this.token_callback_function = token_callback_function ?? null;
    this.decode_kwargs = { skip_special_tokens: skip_special_tokens ?? true, ...decode_kwargs, ...more };
  }

  override put(value: bigint[][]): void {
    if (value.length > 1) {
      throw new InputError(`TextStreamer takes one row, got ${value.length}`, { option: "streamer" });
    }
    const isPrompt = this.#nextIsPrompt;
    this.#nextIsPrompt = false;
    if (isPrompt && this.skip_prompt) return;
    const tokens = value[0] ?? [];
    this.token_callback_function?.(tokens);
    for (const token of tokens) this.#window.push(Number(token));
    this.#waiting += tokens.length;
    const last = this.#window.at(-1);
    if (last !== undefined && !this.#mustWait(last)) this.#flush();
  }

  override end(): void {
    this.#flush();
    this.#window = [];
    this.#printed = "";
    this.#nextIsPrompt = true;
    this.on_finalized_text("", true);
  }

  override fail(error: unknown): void {
    // Nothing to finish, not even a line, where nothing has begun.
    if (!this.#nextIsPrompt) super.fail(error);
  }

  /** Gets the text piece by piece; override it to send it elsewhere. */
  on_finalized_text(text: string, stream_end: boolean): void {
    if (text !== "") this.callback_function(text);
    if (stream_end && this.#printsToStdout) this.callback_function("\n");
  }

  /** Whether later tokens can change the text of this one, or of those that wait for it. */
  #mustWait(id: number): boolean {
    if (isByteToken(this.tokenizer, id)) return true;
    // A token without text (a special one) does not end a run of bytes: decode leaves it out before it joins them.
    return this.#waiting > 1 && this.#decode([id]) === "";
  }

  #flush(): void {
    if (this.#waiting === 0) return;
    this.#waiting = 0;
    const text = this.#decode(this.#window);
    const fresh = text.slice(this.#printed.length);
    this.#keepContext(text);
    if (fresh !== "") this.on_finalized_text(fresh, false);
  }

  /** Keeps the last token with a text, so that the next one is not decoded as the first of a text. */
  #keepContext(text: string): void {
    for (let n = 1; n <= Math.min(CONTEXT, this.#window.length); n++) {
      const tail = this.#window.slice(-n);
      const tailText = this.#decode(tail);
      if (tailText === "" && n < this.#window.length) continue;
      [this.#window, this.#printed] = [tail, tailText];
      return;
    }
    this.#printed = text;
  }

  #decode(ids: number[]): string {
    return this.tokenizer.decode(ids, this.decode_kwargs);
  }
}

/** Text as an async iterable: `for await (const text of streamer)`. Ends with generation, throws where that fails. */
export class TextIteratorStreamer extends TextStreamer implements AsyncIterable<string> {
  #queue: string[] = [];
  #over = false;
  #error: { readonly reason: unknown } | undefined;
  #wake: (() => void) | undefined;

  override on_finalized_text(text: string, stream_end: boolean): void {
    if (text !== "") this.#queue.push(text);
    this.#over ||= stream_end;
    this.#wake?.();
  }

  override fail(error: unknown): void {
    this.#error = { reason: error };
    try {
      super.fail(error);
    } finally {
      this.#wake?.();
    }
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<string, void, undefined> {
    for (;;) {
      while (this.#queue.length > 0) yield this.#queue.shift()!;
      if (this.#error !== undefined) throw this.#error.reason;
      if (this.#over) return;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }
}

function writeToStdout(text: string): void {
  if (typeof process === "object" && process.stdout !== undefined) process.stdout.write(text);
  else console.log(text);
}
