import type { GraphVariant } from "../graph-variant.ts";
import type { Binding, HostTensor, RuntimeValue, Session } from "../runtime/session.ts";
import type { CacheLayer } from "./kv-cache.ts";
import { type RopeSpec, RopeTables } from "./rope-tables.ts";
import type { SplitHead } from "./split-head.ts";

/** A traced decoder and how to run it. */
export interface DecoderModel {
  /** Numbers per position of `logits`: the vocabulary, or the labels of a classifier. */
  readonly logits_size: number;
  readonly vocab_size: number;
  readonly hidden_size: number;
  readonly num_attention_heads: number;
  /** Layers round their inputs, so that a difference in the last digit can grow. */
  readonly quantised: boolean;
  /** Every token sees every other one within the window. Such a model has no cache. */
  readonly bidirectional: boolean;
  readonly layers: readonly CacheLayer[];
  /** For each layer of the model the one of `layers` that has its keys and values. */
  readonly keysOf: readonly number[];
  /** Vectors of hidden_size that a model with several streams (Gemma 3n's AltUp) keeps for each token; else 1. */
  readonly streams: number;
  /** Whether layers look up vectors of their own by the ids, also where the first gets vectors. */
  readonly usesIds: boolean;
  /** By kind of layer. */
  readonly rope: Readonly<Record<string, RopeSpec>>;
  /** The output layer, where it can run apart from the others. */
  readonly head?: SplitHead | undefined;
  /** The session of a variant of the graph; made on first use. */
  session(variant: GraphVariant): Promise<Session>;
  /** The session of the embedding alone: `input_ids` [batch, seq] to `inputs_embeds` [batch, seq, hidden_size]. */
  embedding(): Promise<Session>;
}

/** Cosines and sines of all kinds of layers, as far as positions have gone. */
export class RopeInputs {
  readonly kinds: readonly string[];
  /** Changes whenever tables are other arrays than before. */
  version = 0;
  readonly #tables: ReadonlyMap<string, RopeTables>;

  constructor(rope: Readonly<Record<string, RopeSpec>>) {
    this.#tables = new Map(Object.entries(rope).map(([kind, spec]) => [kind, new RopeTables(spec)]));
    this.kinds = [...this.#tables.keys()];
  }

  /** Makes the tables reach the largest of these positions. */
  cover(position_ids: readonly (readonly number[])[]): void {
    const positions = Math.max(0, ...position_ids.map((row) => Math.max(0, ...row))) + 1;
    for (const table of this.#tables.values()) if (table.ensure(positions)) this.version++;
  }

  /** Feeds the tables to a run. */
  feed(run: RunValues): void {
    for (const [kind, table] of this.#tables) {
      run.feed(`${kind}.cos`, float32(table.cos, [table.positions, table.width]));
      run.feed(`${kind}.sin`, float32(table.sin, [table.positions, table.width]));
    }
  }
}

/** The values of a run, made for a session and released together. */
export class RunValues {
  readonly #session: Session;
  readonly #values: RuntimeValue[] = [];
  readonly #feeds: Record<string, RuntimeValue> = {};
  readonly #fetches: Record<string, RuntimeValue> = {};

  constructor(session: Session) {
    this.#session = session;
  }

  feed(name: string, tensor: HostTensor): void {
    this.#feeds[name] = this.#value(tensor);
  }

  fetch(name: string, tensor: HostTensor): void {
    this.#fetches[name] = this.#value(tensor);
  }

  /** The same memory on both sides: the kernel writes in place. */
  feedAndFetch(input: string, outputs: readonly string[], tensor: HostTensor): void {
    const value = this.#value(tensor);
    this.#feeds[input] = value;
    for (const output of outputs) this.#fetches[output] = value;
  }

  bind(): { binding: Binding; release: () => void } {
    const binding = this.#session.bind(this.#feeds, this.#fetches);
    const release = (): void => {
      binding.dispose();
      for (const value of this.#values.splice(0)) value.dispose();
    };
    return { binding, release };
  }

  async run(signal: AbortSignal | undefined): Promise<void> {
    const { binding, release } = this.bind();
    try {
      await binding.run(signal === undefined ? {} : { signal });
    } finally {
      release();
    }
  }

  #value(tensor: HostTensor): RuntimeValue {
    const value = this.#session.createValue(tensor);
    this.#values.push(value);
    return value;
  }
}

export function float32(data: Float32Array, dims: readonly number[]): HostTensor {
  return { type: "float32", data, dims };
}
