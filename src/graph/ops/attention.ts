import type { Graph, Value } from "../graph.ts";

/** The keys and values of one layer and what positions they hold. */
export interface KeyValueState {
  /** [batch, kv_heads, capacity, head_dim]: written in place when the present output shares its memory. */
  readonly past_key: Value;
  readonly past_value: Value;
  /** int32 [batch]: positions held after this step, minus 1. */
  readonly seqlens_k: Value;
  /** int32 scalar: the largest of them, plus 1. */
  readonly total_sequence_length: Value;
}

export interface RotaryTables {
  /** float32 [positions, head_dim / 2] */
  readonly cos: Value;
  readonly sin: Value;
  /** int64 [batch, seq] */
  readonly position_ids: Value;
}

export interface GroupQueryOptions {
  readonly num_heads: number;
  readonly kv_num_heads: number;
  readonly scale: number;
  /** Keys visible to a query, itself included; absent: all earlier ones. */
  readonly local_window_size?: number;
}

/**
 * Causal attention over a cache that is appended to in place (com.microsoft.GroupQueryAttention), rotating queries
 * and keys on the way. query [batch, seq, heads*head_dim], key and value [batch, seq, kv_heads*head_dim].
 */
export function groupQueryAttention(
  query: Value,
  key: Value,
  value: Value,
  state: KeyValueState,
  rotary: RotaryTables,
  options: GroupQueryOptions,
): { output: Value; present_key: Value; present_value: Value } {
  const graph: Graph = query.graph;
  const head_dim = state.past_key.dim(-1);
  if (typeof head_dim !== "number" || head_dim % 16 !== 0)
    graph.fail(`GroupQueryAttention takes head sizes in steps of 16, not ${head_dim}`);
  if (query.dim(-1) !== options.num_heads * head_dim)
    graph.fail(`query ${query} is not ${options.num_heads} heads of ${head_dim}`);
  if (key.dim(-1) !== options.kv_num_heads * head_dim)
    graph.fail(`key ${key} is not ${options.kv_num_heads} heads of ${head_dim}`);
  const inputs = [
    query,
    key,
    value,
    state.past_key,
    state.past_value,
    state.seqlens_k,
    state.total_sequence_length,
    rotary.cos,
    rotary.sin,
    rotary.position_ids,
  ];
  const attributes = {
    num_heads: options.num_heads,
    kv_num_heads: options.kv_num_heads,
    scale: { float: options.scale },
    do_rotary: 1,
    local_window_size: options.local_window_size,
  };
  const outputs = [query, state.past_key, state.past_value];
  const [output, present_key, present_value] = graph.emit(
    "GroupQueryAttention",
    inputs,
    outputs,
    attributes,
    {
      domain: "com.microsoft",
    },
  );
  return { output: output!, present_key: present_key!, present_value: present_value! };
}
