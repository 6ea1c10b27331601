import type { Decoder, DecoderCache, DecoderStep, LogitsWanted } from "../../src/generation/decoder.ts";

/** Keeps the tokens themselves, where a real cache keeps what was computed from them. */
export class FakeCache implements DecoderCache {
  history: number[][];
  disposed = false;

  constructor(batch: number) {
    this.history = Array.from({ length: batch }, () => []);
  }

  get batch(): number {
    return this.history.length;
  }

  get lengths(): number[] {
    return this.history.map((row) => row.length);
  }

  get byteLength(): number {
    return this.history.flat().length * 4;
  }

  reorder(indices: readonly number[]): void {
    this.history = indices.map((row) => [...this.history[row]!]);
  }

  crop(length: number): void {
    this.history = this.history.map((row) =>
      row.slice(0, length < 0 ? Math.max(0, row.length + length) : length),
    );
  }

  dispose(): void {
    if (this.disposed) throw new Error("disposed twice");
    this.disposed = true;
  }
}

/** Logits as a function of all tokens before: any slip in feeding or cache bookkeeping changes them. */
export type Table = (history: readonly number[]) => ArrayLike<number>;

/** A model without weights. */
export class FakeDecoder implements Decoder {
  readonly vocab_size: number;
  readonly caches: FakeCache[] = [];
  /** What each step was given. */
  readonly steps: number[][][] = [];
  /** Called before each step answers. */
  onStep: (count: number) => void = () => undefined;
  readonly #table: Table;
  /** As real decoders do, every step overwrites the logits of the one before. */
  #logits = new Float32Array(0);

  constructor(vocab_size: number, table: Table = hashTable(vocab_size)) {
    this.vocab_size = vocab_size;
    this.#table = table;
  }

  openCache(given: object): FakeCache {
    return given as FakeCache;
  }

  createCache(batch: number, _capacity: number): FakeCache {
    const cache = new FakeCache(batch);
    this.caches.push(cache);
    return cache;
  }

  async step(
    rows: readonly (readonly number[])[],
    cache: DecoderCache,
    options: { logits?: LogitsWanted; output_hidden_states?: boolean; signal?: AbortSignal } = {},
  ): Promise<DecoderStep> {
    const { history, disposed } = cache as FakeCache;
    if (disposed) throw new Error("the cache is disposed");
    if (rows.length !== history.length)
      throw new Error(`${rows.length} rows for a cache of ${history.length}`);
    if (rows.every((row) => row.length === 0)) throw new Error("nothing to do");
    this.steps.push(rows.map((row) => [...row]));
    await new Promise((resolve) => setImmediate(resolve));
    this.onStep(this.steps.length);
    options.signal?.throwIfAborted();
    this.#logits.fill(Number.NaN);
    const logits: number[] = [];
    const states: number[] = [];
    rows.forEach((row, r) => {
      for (const token of row) {
        history[r]!.push(token);
        states.push(token, history[r]!.length);
        if (options.logits === "all") logits.push(...Array.from(this.#table(history[r]!)));
      }
      if (row.length > 0 && options.logits !== "all") logits.push(...Array.from(this.#table(history[r]!)));
    });
    this.#logits = Float32Array.from(logits);
    return {
      logits: this.#logits,
      ...(options.output_hidden_states === true && {
        hidden_states: [Float32Array.from(states), Float32Array.from(states, (value) => -value)],
      }),
    };
  }
}

/** Pseudo-random logits in [-4, 4) from the whole history. */
export function hashTable(vocab_size: number, seed = 0): Table {
  return (history) => {
    let state = (seed + 0x9e3779b9) >>> 0;
    for (const token of history) state = mix(state ^ (token + 1));
    return Array.from(
      { length: vocab_size },
      (_, token) => (mix(state + token * 0x85ebca6b) / 2 ** 32) * 8 - 4,
    );
  };
}

function mix(value: number): number {
  let z = (value + 0x9e3779b9) >>> 0;
  z = Math.imul(z ^ (z >>> 16), 0x85ebca6b);
  z = Math.imul(z ^ (z >>> 13), 0xc2b2ae35);
  return (z ^ (z >>> 16)) >>> 0;
}

/** Makes these tokens follow each other whatever else, then `last` for ever. */
export function scriptTable(vocab_size: number, next: (history: readonly number[]) => number): Table {
  return (history) => {
    const logits = new Float32Array(vocab_size).fill(-5);
    logits[next(history)] = 5;
    return logits;
  };
}

/** Ids 0 to 255 are bytes, decoded in runs as the Gemma tokenizer's fallback does; others have words. */
export class FakeTokenizer {
  readonly words: readonly string[];
  decodes = 0;
  decoded = 0;

  constructor(words: readonly string[]) {
    this.words = words;
  }

  /** The ids of a text in UTF-8, a token a byte. */
  static bytes(text: string): number[] {
    return [...new TextEncoder().encode(text)];
  }

  decode(ids: number[], { skip_special_tokens = false }: { skip_special_tokens?: boolean } = {}): string {
    this.decodes++;
    this.decoded += ids.length;
    let text = "";
    let run: number[] = [];
    const flush = (): void => {
      const decoded = new TextDecoder().decode(Uint8Array.from(run));
      text += decoded.includes("\uFFFD") ? "\uFFFD".repeat(run.length) : decoded;
      run = [];
    };
    for (const id of ids) {
      const word = this.words[id - 256];
      if (id < 256) run.push(id);
      else if (!(skip_special_tokens && word?.startsWith("<"))) {
        flush();
        text += word ?? "";
      }
    }
    flush();
    return text;
  }

  convert_ids_to_tokens(ids: number[]): string[] {
    return ids.map((id) =>
      id < 256 ? `<0x${id.toString(16).padStart(2, "0")}>` : (this.words[id - 256] ?? ""),
    );
  }
}
