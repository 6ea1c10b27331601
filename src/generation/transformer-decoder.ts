import { InputError } from "../errors.ts";
import { CausalSteps } from "./causal-steps.ts";
import type { Decoder, DecoderCache, DecoderStep, StepOptions } from "./decoder.ts";
import { type DecoderModel, RopeInputs } from "./decoder-model.ts";
import { KeyValueCache } from "./kv-cache.ts";
import { MaskedSteps } from "./masked-steps.ts";
import { checkTokens } from "./step-input.ts";

/** Runs a traced decoder: in place over its cache where it can, else with masks. */
export class TransformerDecoder implements Decoder {
  readonly #model: DecoderModel;
  readonly #causal: CausalSteps;
  readonly #masked: MaskedSteps;

  constructor(model: DecoderModel) {
    this.#model = model;
    const rope = new RopeInputs(model.rope);
    this.#causal = new CausalSteps(model, rope);
    this.#masked = new MaskedSteps(model, rope);
  }

  get vocab_size(): number {
    return this.#model.vocab_size;
  }

  /** Whether tokens see later ones: such a model has no cache. */
  get bidirectional(): boolean {
    return this.#model.bidirectional;
  }

  createCache(batch: number, capacity: number): KeyValueCache {
    if (this.#model.bidirectional)
      throw new InputError("past_key_values: a model whose tokens see later ones has no cache", {
        option: "past_key_values",
      });
    return new KeyValueCache(this.#model.layers, batch, capacity);
  }

  async step(
    rows: readonly (readonly number[])[],
    cache: DecoderCache,
    options: StepOptions = {},
  ): Promise<DecoderStep> {
    if (!(cache instanceof KeyValueCache) || cache.layers !== this.#model.layers)
      throw new InputError("the cache was made by another model");
    if (rows.length !== cache.batch)
      throw new InputError(`${rows.length} rows of tokens for a cache of ${cache.batch} rows`);
    this.#check(rows);
    return needsMask(options)
      ? this.#masked.step(rows, cache, options)
      : this.#causal.step(rows, cache, options);
  }

  /** One step over rows that nothing comes before or after: no cache is kept. */
  async encode(rows: readonly (readonly number[])[], options: StepOptions = {}): Promise<DecoderStep> {
    this.#check(rows);
    if (this.#model.bidirectional || needsMask(options)) return this.#masked.step(rows, undefined, options);
    const cache = this.createCache(rows.length, Math.max(...rows.map((row) => row.length)));
    try {
      return await this.#causal.step(rows, cache, options);
    } finally {
      cache.dispose();
    }
  }

  #check(rows: readonly (readonly number[])[]): void {
    checkTokens(rows, this.#model.vocab_size);
    if (rows.every((row) => row.length === 0)) throw new InputError("no row has a new token");
  }
}

function needsMask({ output_attentions, masks }: StepOptions): boolean {
  return (
    output_attentions === true ||
    masks?.some(({ visible, segments }) => visible?.includes(0) || segments !== undefined) === true
  );
}
