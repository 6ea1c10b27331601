import type { Tokenizer } from "@huggingface/tokenizers";
import { CheckpointError } from "../errors.ts";
import type { IncrementalDecoder, TokenizerEngine } from "./tokenizer-engine.ts";
import { isObject } from "./tokenizer-settings.ts";

/** @huggingface/tokenizers, for a tokenizer.json whose structure is not the Gemma family's. Slow to load. */
export async function createHfEngine(json: object, config: unknown, file: string): Promise<TokenizerEngine> {
  const { Tokenizer: HfTokenizer } = await import("@huggingface/tokenizers");
  try {
    return new HfEngine(new HfTokenizer(json as never, (isObject(config) ? config : {}) as never));
  } catch (error) {
    throw new CheckpointError(`tokenizer.json can't be used: ${String(error)}`, { file, cause: error });
  }
}

class HfEngine implements TokenizerEngine {
  readonly size: number;
  readonly specialIds: readonly number[];
  readonly #tokenizer: Tokenizer;

  constructor(tokenizer: Tokenizer) {
    this.#tokenizer = tokenizer;
    const added = [...tokenizer.get_added_tokens_decoder()];
    this.specialIds = added.filter(([, token]) => token.special).map(([id]) => id);
    let last = -1;
    for (const id of tokenizer.get_vocab(true).values()) last = Math.max(last, id);
    this.size = last + 1;
  }

  encode(text: string): number[] {
    return this.#tokenizer.encode(text, { add_special_tokens: false }).ids;
  }

  decode(ids: ArrayLike<number>, skip?: ReadonlySet<number>): string {
    const kept = Array.from(ids).filter((id) => !skip?.has(id));
    if (kept.length === 0) return "";
    return this.#tokenizer.decode(kept, { clean_up_tokenization_spaces: false });
  }

  decoder(skip?: ReadonlySet<number>): IncrementalDecoder {
    return new WindowDecoder((ids) => this.decode(ids, skip));
  }

  tokenOf(id: number): string | undefined {
    return this.#tokenizer.id_to_token(id);
  }

  idOf(token: string): number | undefined {
    return this.#tokenizer.token_to_id(token);
  }
}

/**
 * Decodes by difference over a short window: the window's text with the new ids, less its text without them, since
 * such decoders look at neighbours (a leading space, bytes of one character).
 */
class WindowDecoder implements IncrementalDecoder {
  readonly #decode: (ids: readonly number[]) => string;
  #window: number[] = [];
  #settled = 0;

  constructor(decode: (ids: readonly number[]) => string) {
    this.#decode = decode;
  }

  push(id: number): string {
    this.#window.push(id);
    return this.#emit(false);
  }

  flush(): string {
    const rest = this.#emit(true);
    this.#window = [];
    this.#settled = 0;
    return rest;
  }

  #emit(final: boolean): string {
    const before = this.#decode(this.#window.slice(0, this.#settled));
    const now = this.#decode(this.#window);
    if (!final && (now.endsWith("\ufffd") || now.length <= before.length)) return "";
    // The last settled ids stay in the window as context for what follows.
    this.#window = this.#window.slice(this.#settled);
    this.#settled = this.#window.length;
    return now.slice(before.length);
  }
}
