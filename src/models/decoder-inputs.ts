import type { Graph, Value } from "../graph/graph.ts";
import {
  groupQueryAttention,
  type KeyValueState,
  maskedAttention,
  type RotaryTables,
  rotaryEmbedding,
} from "../graph/ops/attention.ts";
import { concat, split } from "../graph/ops/shape.ts";
import type { GraphVariant } from "../graph-variant.ts";
import { alignHeadDim, alignRotaryHeads, alignValueHeads, unalignHeads } from "../nn/head-dim.ts";

export type LayerType = "sliding_attention" | "full_attention";

/** One layer's cache as the runtime must allocate it. */
export interface LayerCacheSpec {
  readonly kind: LayerType;
  readonly kv_heads: number;
  /** As stored: rounded up to what the attention kernel takes. */
  readonly head_dim: number;
  /** As in the configuration. */
  readonly true_head_dim: number;
  /** Positions that this layer can see, or null for all. */
  readonly window: number | null;
  /** Later layers that read these keys and values in place of their own. */
  readonly readers?: readonly number[];
}

/** One layer's attention, whatever the way it is computed. */
export interface AttentionSpec {
  readonly kind: LayerType;
  readonly num_heads: number;
  readonly num_key_value_heads: number;
  readonly head_dim: number;
  readonly window: number | null;
  readonly scale: number;
}

/** The inputs of a decoder graph; their names are the runtime's contract, kept here in one place. */
export class DecoderInputs {
  readonly options: GraphVariant;
  readonly #graph: Graph;
  readonly #position_ids: Value;
  readonly #shared: Map<string, Value> = new Map();
  readonly #keys: Map<number, LayerKeys> = new Map();
  /** The positions of each step. */
  #positions: readonly Value[] | undefined;

  constructor(graph: Graph, options: GraphVariant) {
    this.#graph = graph;
    this.options = options;
    this.#position_ids = graph.input("position_ids", "int64", ["batch", sequenceDim(options)]);
  }

  /** Attention of layer `layer`: query [batch, seq, heads*head_dim], key and value [batch, seq, kv_heads*head_dim], not rotated yet. */
  attend(layer: number, spec: AttentionSpec, query: Value, key: Value, value: Value): Value {
    const { num_key_value_heads, head_dim } = spec;
    const masked = this.options.attention === "masked";
    const aligned = alignRotaryHeads(key, num_key_value_heads, head_dim);
    const keys: LayerKeys = {
      key: masked ? rotaryEmbedding(aligned, this.#rotary(spec)) : aligned,
      value: alignValueHeads(value, num_key_value_heads, head_dim),
      past: masked ? this.#past(layer, spec, `${spec.kind}_past`) : this.#cached(layer, spec),
    };
    this.#keys.set(layer, keys);
    if (masked) {
      this.#graph.output(`new.${layer}.key`, keys.key);
      this.#graph.output(`new.${layer}.value`, keys.value);
    }
    return this.#attend(layer, spec, query, keys);
  }

  /** Attention of a layer without keys and values of its own: it reads those of layer `source`, which came before. */
  attendTo(source: number, layer: number, spec: AttentionSpec, query: Value): Value {
    const keys = this.#keys.get(source);
    if (keys === undefined) return this.#graph.fail(`layer ${source} has no keys for layer ${layer}`);
    return this.#attend(layer, spec, query, keys);
  }

  #attend(layer: number, spec: AttentionSpec, query: Value, keys: LayerKeys): Value {
    const { num_heads, head_dim } = spec;
    const heads = alignRotaryHeads(query, num_heads, head_dim);
    const output = {
      causal: () => this.#causal(layer, spec, heads, keys),
      stepwise: () => this.#stepwise(layer, spec, heads, keys),
      masked: () => this.#masked(layer, spec, heads, keys),
    }[this.options.attention]();
    return unalignHeads(output, num_heads, head_dim);
  }

  #causal(layer: number, spec: AttentionSpec, query: Value, { key, value, past }: LayerKeys): Value {
    return this.#append(layer, spec, { query, key, value }, past, this.#rotary(spec), "").output;
  }

  #stepwise(layer: number, spec: AttentionSpec, query: Value, { key, value, past: first }: LayerKeys): Value {
    const { steps } = this.options;
    const ones = new Array<number>(steps).fill(1);
    const [queries, keys, values] = [query, key, value].map((part) => split(part, ones, 1));
    const rotary = this.#rotary(spec);
    this.#positions ??= split(this.#position_ids, ones);
    let past = first;
    const outputs = ones.map((_, i) => {
      const heads = { query: queries![i]!, key: keys![i]!, value: values![i]! };
      const step = { ...rotary, position_ids: this.#positions![i]! };
      const attention = this.#append(layer, spec, heads, past, step, `.${i}`);
      past = { ...past, past_key: attention.present_key, past_value: attention.present_value };
      return attention.output;
    });
    return concat(outputs, 1);
  }

  #cached(layer: number, spec: AttentionSpec): Past {
    return {
      ...this.#past(layer, spec, `${spec.kind}_capacity`),
      ...(this.options.cache === "int8" ? { scales: this.#scales(layer, spec) } : {}),
    };
  }

  /** Appends to what is held; `step` distinguishes the inputs that say how much that is, and the outputs. */
  #append(
    layer: number,
    { kind, num_heads, num_key_value_heads, scale, window }: AttentionSpec,
    { query, key, value }: Heads,
    past: Past,
    rotary: RotaryTables,
    step: string,
  ): { output: Value; present_key: Value; present_value: Value } {
    const state = {
      ...past,
      seqlens_k: this.#input(`${kind}.seqlens_k${step}`, "int32", ["batch"]),
      total_sequence_length: this.#input(`${kind}.total_sequence_length${step}`, "int32", []),
    };
    return groupQueryAttention(query, key, value, state, rotary, {
      num_heads,
      kv_num_heads: num_key_value_heads,
      scale,
      ...(window === null ? {} : { local_window_size: window }),
      presentNames: [`present.${layer}.key${step}`, `present.${layer}.value${step}`],
    });
  }

  #masked(layer: number, spec: AttentionSpec, query: Value, { key, value, past }: LayerKeys): Value {
    const { kind, num_heads, num_key_value_heads, scale } = spec;
    const attention = maskedAttention(
      rotaryEmbedding(query, this.#rotary(spec)),
      key,
      value,
      {
        past_key: past.past_key,
        past_value: past.past_value,
        mask: this.#input(`${kind}.mask`, "bool", ["batch", 1, "seq", `${kind}_keys`]),
      },
      {
        q_num_heads: num_heads,
        kv_num_heads: num_key_value_heads,
        scale,
        weights: this.options.attentions,
      },
    );
    if (attention.weights !== undefined) this.#graph.output(`attentions.${layer}`, attention.weights);
    return attention.output;
  }

  /** Tables of cosines and sines, [positions, head_dim / 2] of the aligned head size. */
  #rotary({ kind, head_dim }: AttentionSpec): RotaryTables {
    const shape = [`${kind}_positions`, alignHeadDim(head_dim) / 2];
    return {
      cos: this.#input(`${kind}.cos`, "float32", shape),
      sin: this.#input(`${kind}.sin`, "float32", shape),
      position_ids: this.#position_ids,
    };
  }

  #past(
    layer: number,
    { num_key_value_heads, head_dim }: AttentionSpec,
    positions: string,
  ): { past_key: Value; past_value: Value } {
    const shape = ["batch", num_key_value_heads, positions, alignHeadDim(head_dim)];
    return {
      past_key: this.#graph.input(`past_key_values.${layer}.key`, this.options.cache, shape),
      past_value: this.#graph.input(`past_key_values.${layer}.value`, this.options.cache, shape),
    };
  }

  #scales(layer: number, { num_key_value_heads, head_dim }: AttentionSpec): { key: Value; value: Value } {
    const shape = [1, num_key_value_heads, 1, alignHeadDim(head_dim)];
    return {
      key: this.#graph.input(`past_key_values.${layer}.key_scale`, "float32", shape),
      value: this.#graph.input(`past_key_values.${layer}.value_scale`, "float32", shape),
    };
  }

  /** An input that the layers of one kind share. */
  #input(name: string, dtype: Value["dtype"], shape: readonly (string | number)[]): Value {
    const value = this.#shared.get(name) ?? this.#graph.input(name, dtype, shape);
    this.#shared.set(name, value);
    return value;
  }
}

/** The size of a graph's sequence axis. */
export function sequenceDim({ attention, steps }: GraphVariant): string | number {
  return attention === "stepwise" ? steps : "seq";
}

type Past = Pick<KeyValueState, "past_key" | "past_value" | "scales">;

/** The new keys and values of a layer, heads aligned, and what came before them. */
interface LayerKeys {
  /** Rotated already where attention is masked: the kernel that appends rotates itself. */
  readonly key: Value;
  readonly value: Value;
  readonly past: Past;
}

interface Heads {
  readonly query: Value;
  readonly key: Value;
  readonly value: Value;
}
