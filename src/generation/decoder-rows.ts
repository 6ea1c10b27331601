import { InputError } from "../errors.ts";
import { Tensor } from "../tensor.ts";
import type { CacheWish, Decoder, DecoderCache, DecoderStep, RowAttention, StepOptions } from "./decoder.ts";
import { splitStreams } from "./fetches.ts";
import { type RowMedia, withoutFirst } from "./media.ts";
import type { Prompt } from "./prompt.ts";
import type { CandidateWish, ScoredTokens } from "./split-head.ts";

export interface DecoderRowsOptions {
  /** A cache that holds the beginnings of the rows. It is changed, and stays the caller's. */
  readonly cache: DecoderCache | undefined;
  /** The prompts are only what follows the cache's content. */
  readonly continues: boolean;
  readonly use_cache: boolean;
  /** The cache to make, where none was given. */
  readonly wish: CacheWish;
  /** Positions to reserve for each row. */
  readonly capacity: number;
  /** Tokens of the prompt per step; all at once without. */
  readonly chunk: number | undefined;
  readonly output_hidden_states: boolean;
  readonly output_attentions: boolean;
  readonly signal: AbortSignal | undefined;
}

/** What the model says about the rows' next tokens. */
export interface RowsStep {
  /** Views that the next step overwrites; undefined for rows that were left out. */
  readonly logits: (Float32Array | undefined)[];
  /** Of the only row, in place of its logits, when asked for. */
  readonly candidates?: ScoredTokens | undefined;
  /** One [rows, new positions, hidden_size] per layer, when asked for. */
  readonly hidden_states: Tensor[] | undefined;
  /** One [rows, heads, new positions, keys] per layer, when asked for. */
  readonly attentions: Tensor[] | undefined;
}

/** The rows of one generation on their way through a decoder, with a cache or, where unwanted, without. */
export class DecoderRows {
  readonly #decoder: Decoder;
  readonly #options: DecoderRowsOptions;
  #cache: DecoderCache | undefined;
  /** Whole rows, when there is no cache to hold them, and their media. */
  #rows: number[][] = [];
  #media: readonly RowMedia[] | undefined;

  constructor(decoder: Decoder, options: DecoderRowsOptions) {
    this.#decoder = decoder;
    this.#options = options;
    this.#cache = options.cache;
  }

  /** The cache, if one is in use. */
  get cache(): DecoderCache | undefined {
    return this.#options.use_cache ? this.#cache : undefined;
  }

  /** How many tokens of each of these prompts will not be computed, since the cache holds them. */
  held(prompts: readonly (readonly number[])[]): number[] {
    const { continues, use_cache } = this.#options;
    const lengths = use_cache && !continues ? (this.#cache?.lengths ?? []) : [];
    const held = prompts.map((_, row) => lengths[(row * lengths.length) / prompts.length] ?? 0);
    const again = held.some((length, row) => length === prompts[row]!.length) ? 1 : 0;
    return held.map((length) => Math.max(0, length - again));
  }

  /** Runs the prompts, then makes `copies` rows of each: the prompt is computed once for all of them. */
  async prefill({ tokens, vectors, ids_too, media }: Prompt, wanted: number): Promise<RowsStep> {
    const { continues, use_cache } = this.#options;
    // Vectors and media go whole; the decoder cuts long prompts itself.
    const chunk = vectors === undefined && media === undefined ? this.#options.chunk : undefined;
    // A cache may have the copies already, as HF wants it.
    const copied = use_cache && wanted > 1 && this.#cache?.batch === tokens.length * wanted;
    const spread = <T>(rows: readonly T[]): T[] =>
      copied ? rows.flatMap((row) => new Array<T>(wanted).fill(row)) : [...rows];
    const prompts = spread(tokens);
    const copies = copied ? 1 : wanted;
    let feed = prompts.map((row) => [...row]);
    if (use_cache) {
      if (this.#cache === undefined) {
        const { capacity, wish } = this.#options;
        this.#cache = this.#decoder.createCache(prompts.length, capacity, wish);
      } else if (!continues) {
        feed = uncached(prompts, this.#cache);
      }
    } else {
      this.#rows = feed;
      this.#media = media;
    }
    const longest = Math.max(...feed.map((row) => row.length));
    // Chunks are counted from the end, so that the last one has the last token of every row.
    for (let left = longest; use_cache && chunk !== undefined && left > chunk; left -= chunk) {
      await this.#run(feed.map((row) => row.slice(cut(row, left), cut(row, left - chunk))));
      feed = feed.map((row) => row.slice(cut(row, left - chunk)));
    }
    const sources = prompts.flatMap((_, row) => new Array<number>(copies).fill(row));
    const rest =
      media && spread(media).map((row, r) => withoutFirst(row, prompts[r]!.length - feed[r]!.length));
    const step = await this.#run(feed, {
      ...(vectors && {
        inputs_embeds: vectors,
        ids_too: ids_too === true && this.#decoder.usesIds === true,
      }),
      ...(rest && { media: rest }),
    });
    if (copies > 1) this.reorder(sources);
    return this.#rowsStep(step, feed, sources);
  }

  /** Appends a token to each row, none where it is undefined; `wish` says what is wanted of the next ones. */
  async append(tokens: readonly (number | undefined)[], wish?: CandidateWish): Promise<RowsStep> {
    let feed = tokens.map((token) => (token === undefined ? [] : [token]));
    if (!this.#options.use_cache) {
      feed = feed.map((row, r) => (row.length === 0 ? [] : [...this.#rows[r]!, ...row]));
      this.#rows = this.#rows.map((row, r) => (feed[r]!.length === 0 ? row : feed[r]!));
    }
    const media = this.#media?.map((row, r) => (feed[r]!.length === 0 ? [] : row));
    const step = await this.#run(feed, { ...(media && { media }), ...(wish && { candidates: wish }) });
    if (step.candidates !== undefined)
      return { logits: [], candidates: step.candidates, hidden_states: undefined, attentions: undefined };
    return this.#rowsStep(
      step,
      feed,
      feed.map((_, row) => row),
    );
  }

  /** Appends several tokens to the only row in one run, and says about each of them what comes next. */
  async extend(tokens: readonly number[]): Promise<RowsStep[]> {
    if (tokens.length === 1) return [await this.append(tokens)];
    const { logits, hidden_states } = await this.#run([[...tokens]], { logits: "all", stepwise: true });
    const part = (values: Float32Array, i: number): Float32Array => {
      const width = values.length / tokens.length;
      return values.subarray(i * width, (i + 1) * width);
    };
    return tokens.map((_, i) => ({
      logits: [part(logits, i)],
      hidden_states: this.#options.output_hidden_states
        ? hidden_states?.map((layer) => padStates(part(layer, i), [[0]], [0], this.#decoder.streams))
        : undefined,
      attentions: undefined,
    }));
  }

  /** Takes back the last `count` tokens of every row. */
  retract(count: number): void {
    if (count > 0) this.#cache!.crop(-count);
  }

  /** Row r becomes a copy of the former row `indices[r]`. */
  reorder(indices: readonly number[]): void {
    if (!this.#options.use_cache) {
      this.#rows = indices.map((row) => this.#rows[row]!);
      this.#media &&= indices.map((row) => this.#media![row]!);
    } else if (indices.length !== this.#cache!.batch || indices.some((from, to) => from !== to)) {
      this.#cache!.reorder(indices);
    }
  }

  /** Keeps other calls off the caller's cache until the function that it returns is called. */
  hold(): () => void {
    return this.#options.cache?.hold?.() ?? (() => undefined);
  }

  /** Releases the cache, unless it is the caller's. */
  dispose(): void {
    if (this.#cache !== this.#options.cache) this.#cache?.dispose();
  }

  async #run(rows: number[][], more: StepOptions = {}): Promise<DecoderStep> {
    const { signal, output_hidden_states, output_attentions, use_cache } = this.#options;
    signal?.throwIfAborted();
    const options = {
      output_hidden_states,
      output_attentions,
      ...(signal === undefined ? {} : { signal }),
      ...more,
    };
    if (use_cache) return this.#decoder.step(rows, this.#cache!, options);
    const cache = this.#decoder.createCache(rows.length, Math.max(...rows.map((row) => row.length)));
    try {
      return await this.#decoder.step(rows, cache, options);
    } finally {
      cache.dispose();
    }
  }

  #rowsStep(step: DecoderStep, fed: readonly number[][], sources: readonly number[]): RowsStep {
    const width = this.#decoder.vocab_size;
    let next = 0;
    const views = fed.map((row) => {
      if (row.length === 0) return undefined;
      next += width;
      return step.logits.subarray(next - width, next);
    });
    const hidden = this.#options.output_hidden_states ? step.hidden_states : undefined;
    return {
      logits: sources.map((row) => views[row]),
      hidden_states: hidden?.map((layer) => padStates(layer, fed, sources, this.#decoder.streams)),
      attentions: step.attentions?.map((layer) => padAttentions(layer, fed, sources)),
    };
  }
}

/** The index in `row` that `fromEnd` tokens follow. */
function cut(row: readonly number[], fromEnd: number): number {
  return Math.max(0, row.length - fromEnd);
}

/** What of each row the cache does not hold yet: one token at least, since logits come from somewhere. */
function uncached(rows: readonly number[][], cache: DecoderCache): number[][] {
  if (cache.batch !== rows.length) {
    throw new InputError(`past_key_values holds ${cache.batch} rows, input_ids has ${rows.length}`, {
      option: "past_key_values",
    });
  }
  rows.forEach((row, r) => {
    if (cache.lengths[r]! > row.length) {
      throw new InputError(
        `past_key_values holds ${cache.lengths[r]} positions of row ${r}, input_ids only ${row.length}: it must hold the whole sequence`,
        { option: "past_key_values" },
      );
    }
  });
  if (rows.some((row, r) => cache.lengths[r] === row.length)) cache.crop(-1);
  return rows.map((row, r) => row.slice(cache.lengths[r]!));
}

/** From [all new tokens, hidden_size] to [rows, new positions, hidden_size], rows aligned at the right; streams come first. */
function padStates(
  states: Float32Array,
  fed: readonly number[][],
  sources: readonly number[],
  streams = 1,
): Tensor {
  const total = fed.reduce((sum, row) => sum + row.length, 0);
  const width = states.length / total;
  const length = Math.max(...fed.map((row) => row.length));
  const starts = fed.map((_, r) => fed.slice(0, r).reduce((sum, row) => sum + row.length, 0) * width);
  const out = new Float32Array(sources.length * length * width);
  sources.forEach((source, r) => {
    const count = fed[source]!.length;
    const from = starts[source]!;
    out.set(states.subarray(from, from + count * width), (r * length + length - count) * width);
  });
  return splitStreams(new Tensor("float32", out, [sources.length, length, width]), streams);
}

/** Rows' weights [heads, new positions, keys] as [rows, heads, new positions, keys], aligned at the right of both. */
function padAttentions(
  layer: readonly RowAttention[],
  fed: readonly number[][],
  sources: readonly number[],
): Tensor {
  const active = fed.flatMap((row, r) => (row.length === 0 ? [] : [r]));
  const length = Math.max(...fed.map((row) => row.length));
  const width = Math.max(...layer.map(({ keys }) => keys));
  const heads = layer[0]!.data.length / (fed[active[0]!]!.length * layer[0]!.keys);
  const out = new Float32Array(sources.length * heads * length * width);
  for (const [r, source] of sources.entries()) {
    const row = layer[active.indexOf(source)];
    if (row === undefined) continue;
    const count = fed[source]!.length;
    for (let line = 0; line < heads * count; line++) {
      const [head, query] = [Math.floor(line / count), line % count];
      const to = ((r * heads + head) * length + length - count + query) * width + width - row.keys;
      out.set(row.data.subarray(line * row.keys, (line + 1) * row.keys), to);
    }
  }
  return new Tensor("float32", out, [sources.length, heads, length, width]);
}
