import type { Graph, Value } from "../graph/graph.ts";
import type { KeyValueState, RotaryTables } from "../graph/ops/attention.ts";
import { alignHeadDim } from "../nn/head-dim.ts";
import type { LayerType } from "./gemma3/config.ts";

/** One layer's cache as the runtime must allocate it. */
export interface LayerCacheSpec {
  readonly kind: LayerType;
  readonly kv_heads: number;
  /** As stored: rounded up to what the attention kernel takes. */
  readonly head_dim: number;
  /** Positions that this layer can see, or null for all. */
  readonly window: number | null;
}

/** The inputs of a decoder graph; their names are the runtime's contract, kept here in one place. */
export class DecoderInputs {
  readonly input_ids: Value;
  readonly #graph: Graph;
  readonly #position_ids: Value;
  readonly #rotary: Map<LayerType, RotaryTables> = new Map();
  readonly #lengths: Map<LayerType, { seqlens_k: Value; total_sequence_length: Value }> = new Map();

  constructor(graph: Graph) {
    this.#graph = graph;
    this.input_ids = graph.input("input_ids", "int64", ["batch", "seq"]);
    this.#position_ids = graph.input("position_ids", "int64", ["batch", "seq"]);
  }

  /** Tables of cosines and sines, [positions, head_dim / 2] of the aligned head size. */
  rotary(kind: LayerType, head_dim: number): RotaryTables {
    let tables = this.#rotary.get(kind);
    if (tables === undefined) {
      const shape = [`${kind}_positions`, alignHeadDim(head_dim) / 2];
      tables = {
        cos: this.#graph.input(`${kind}.cos`, "float32", shape),
        sin: this.#graph.input(`${kind}.sin`, "float32", shape),
        position_ids: this.#position_ids,
      };
      this.#rotary.set(kind, tables);
    }
    return tables;
  }

  keyValueState(layer: number, spec: LayerCacheSpec): KeyValueState {
    let lengths = this.#lengths.get(spec.kind);
    if (lengths === undefined) {
      lengths = {
        seqlens_k: this.#graph.input(`${spec.kind}.seqlens_k`, "int32", ["batch"]),
        total_sequence_length: this.#graph.input(`${spec.kind}.total_sequence_length`, "int32", []),
      };
      this.#lengths.set(spec.kind, lengths);
    }
    const shape = ["batch", spec.kv_heads, `${spec.kind}_capacity`, spec.head_dim];
    return {
      past_key: this.#graph.input(`past_key_values.${layer}.key`, "float32", shape),
      past_value: this.#graph.input(`past_key_values.${layer}.value`, "float32", shape),
      ...lengths,
    };
  }
}
