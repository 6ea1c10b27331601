import type { IncrementalDecoder } from "./tokenizer-engine.ts";

/**
 * Joins tokens to text. A run of byte tokens is one unit, as in HF: valid UTF-8 or one U+FFFD a byte, so it is held
 * back until a token of another kind ends it.
 */
export class ByteFallbackDecoder implements IncrementalDecoder {
  readonly #bytes: ReadonlyMap<number, number>;
  readonly #piece: (id: number) => string;
  readonly #skip: ReadonlySet<number> | undefined;
  readonly #utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  #run: number[] = [];

  /** `bytes`: the byte of each byte token's id; `piece`: the text of any other token. */
  constructor(bytes: ReadonlyMap<number, number>, piece: (id: number) => string, skip?: ReadonlySet<number>) {
    this.#bytes = bytes;
    this.#piece = piece;
    this.#skip = skip;
  }

  push(id: number): string {
    if (this.#skip?.has(id)) return "";
    const byte = this.#bytes.get(id);
    if (byte === undefined) return this.#run.length === 0 ? this.#piece(id) : this.flush() + this.#piece(id);
    this.#run.push(byte);
    return "";
  }

  flush(): string {
    if (this.#run.length === 0) return "";
    const run = Uint8Array.from(this.#run);
    this.#run = [];
    try {
      return this.#utf8.decode(run);
    } catch {
      return "\ufffd".repeat(run.length);
    }
  }
}
