import { InputError } from "../errors.ts";
import { Cache, DynamicCache } from "./cache.ts";
import { CausalSteps } from "./causal-steps.ts";
import type { CacheWish, Decoder, DecoderCache, DecoderStep, StepOptions } from "./decoder.ts";
import { type DecoderModel, RopeInputs } from "./decoder-model.ts";
import { embedTokens } from "./embed-tokens.ts";
import { type HardIds, hasHardIds, withHardIds } from "./hard-ids.ts";
import { KeyValueCache } from "./kv-cache.ts";
import { MaskedSteps } from "./masked-steps.ts";
import { type MediaOptions, MediaSteps } from "./media-steps.ts";
import { QuantizedCache } from "./quantized-cache.ts";
import { StaticCache } from "./static-cache.ts";
import { checkTokens } from "./step-input.ts";

/** Runs a traced decoder: in place over its cache where it can, else with masks. */
export class TransformerDecoder implements Decoder {
  readonly #model: DecoderModel;
  readonly #causal: CausalSteps;
  readonly #masked: MaskedSteps;
  readonly #media: MediaSteps;
  readonly #hardIds: HardIds | undefined;

  constructor(model: DecoderModel, hardIds?: HardIds) {
    this.#model = model;
    this.#hardIds = hardIds;
    const rope = new RopeInputs(model.rope);
    this.#causal = new CausalSteps(model, rope);
    this.#masked = new MaskedSteps(model, rope);
    this.#media = new MediaSteps(model, this.#causal, this.#masked);
  }

  get vocab_size(): number {
    return this.#model.vocab_size;
  }

  get hidden_size(): number {
    return this.#model.hidden_size;
  }

  get streams(): number {
    return this.#model.streams;
  }

  get usesIds(): boolean {
    return this.#model.usesIds;
  }

  /** The vectors of ids: [rows, length, hidden_size]. */
  embed(rows: readonly (readonly number[])[]): Promise<Float32Array> {
    checkTokens(rows, this.#model.vocab_size);
    return embedTokens(this.#model, rows);
  }

  /** Whether tokens see later ones: such a model has no cache. */
  get bidirectional(): boolean {
    return this.#model.bidirectional;
  }

  createCache(batch: number, capacity: number, wish: CacheWish = { kind: "dynamic" }): Cache {
    return this.openCache(newCache(wish, capacity), batch, capacity);
  }

  openCache(
    given: object,
    batch: number,
    capacity: number,
    mask?: readonly (readonly (number | boolean)[])[],
  ): Cache {
    if (this.#model.bidirectional)
      throw new InputError("past_key_values: a model whose tokens see later ones has no cache", {
        option: "past_key_values",
      });
    const cache = Cache.from(given);
    cache.open(this.#model.layers, batch, capacity, mask);
    return cache;
  }

  async step(
    rows: readonly (readonly number[])[],
    given: DecoderCache,
    asked: StepOptions = {},
  ): Promise<DecoderStep> {
    const longest = Math.max(...rows.map((row) => row.length));
    const cache = Cache.from(given).open(this.#model.layers, rows.length, longest);
    if (rows.length !== cache.batch)
      throw new InputError(`${rows.length} rows of tokens for a cache of ${cache.batch} rows`);
    this.#check(rows);
    cache.checkRoom(rows.map((row) => row.length));
    const options = await this.#withHardIds(rows, asked);
    const holes = cache.rows.some(({ hidden }) => hidden.size > 0);
    const masked = holes || needsMask(options);
    if (hasMedia(options))
      return masked ? this.#media.masked(rows, cache, options) : this.#media.step(rows, cache, options);
    return masked ? this.#masked.step(rows, cache, options) : this.#causal.step(rows, cache, options);
  }

  /** One step over rows that nothing comes before or after: no cache is kept. */
  async encode(rows: readonly (readonly number[])[], asked: StepOptions = {}): Promise<DecoderStep> {
    this.#check(rows);
    const options = await this.#withHardIds(rows, asked);
    if (this.#model.bidirectional || needsMask(options))
      return hasMedia(options)
        ? this.#media.masked(rows, undefined, options)
        : this.#masked.step(rows, undefined, options);
    const longest = Math.max(...rows.map((row) => row.length));
    const cache = new KeyValueCache(this.#model.layers, rows.length, longest);
    try {
      return await (hasMedia(options)
        ? this.#media.step(rows, cache, options)
        : this.#causal.step(rows, cache, options));
    } finally {
      cache.dispose();
    }
  }

  /** A caller's own vectors stay as they are. */
  async #withHardIds(rows: readonly (readonly number[])[], options: StepOptions): Promise<StepOptions> {
    const hard = this.#hardIds;
    if (hard === undefined || options.inputs_embeds !== undefined || !hasHardIds(rows, hard)) return options;
    return { ...options, media: await withHardIds(rows, options.media, hard, options.signal) };
  }

  #check(rows: readonly (readonly number[])[]): void {
    checkTokens(rows, this.#model.vocab_size);
    if (rows.every((row) => row.length === 0)) throw new InputError("no row has a new token");
  }
}

function newCache({ kind, config }: CacheWish, capacity: number): Cache {
  if (kind === "static") return new StaticCache({ max_cache_len: capacity });
  return kind === "quantized" ? new QuantizedCache(config) : new DynamicCache();
}

function hasMedia(options: StepOptions): options is MediaOptions {
  return options.media?.some((row) => row.length > 0) === true;
}

/** What the in-place kernel can't do. */
function needsMask({ output_attentions, masks }: StepOptions): boolean {
  const masked = masks?.some(({ visible, segments }) => visible?.includes(0) || segments !== undefined);
  return output_attentions === true || masked === true;
}
