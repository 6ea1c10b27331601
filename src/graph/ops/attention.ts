import type { Graph, Value } from "../graph.ts";
import { concat, reshape, transpose } from "./shape.ts";

/** The keys and values of one layer and what positions they hold. */
export interface KeyValueState {
  /**
   * float32, or int8 with `scales`, [batch, kv_heads, capacity, head_dim]: written in place when the present output
   * shares its memory.
   */
  readonly past_key: Value;
  readonly past_value: Value;
  /** float32 [1, kv_heads, 1, head_dim]: what the 8-bit numbers are multiples of. */
  readonly scales?: { readonly key: Value; readonly value: Value };
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
  /** Names of the present keys and values, as graph outputs: an Identity between would copy the whole cache. */
  readonly presentNames: readonly [key: string, value: string];
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
    undefined,
    undefined,
    state.scales?.key,
    state.scales?.value,
  ];
  const quantized = state.scales && { k_quant_type: "PER_CHANNEL", v_quant_type: "PER_CHANNEL" };
  const attributes = {
    ...quantized,
    kv_cache_bit_width: quantized && 8,
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
      outputNames: [undefined, ...options.presentNames],
    },
  );
  graph.output(options.presentNames[0], present_key!);
  graph.output(options.presentNames[1], present_value!);
  return { output: output!, present_key: present_key!, present_value: present_value! };
}

/** Rotates each head of x [batch, seq, heads*head_dim] by its position: halves are paired, as in HF (com.microsoft.RotaryEmbedding). */
export function rotaryEmbedding(x: Value, { cos, sin, position_ids }: RotaryTables): Value {
  const graph: Graph = x.graph;
  const half = cos.dim(-1);
  const width = x.dim(-1);
  if (typeof half !== "number" || typeof width !== "number" || width % (2 * half) !== 0)
    graph.fail(`rotary tables ${cos} do not fit ${x}`);
  return graph.emit("RotaryEmbedding", [x, position_ids, cos, sin], [x], {}, { domain: "com.microsoft" })[0]!;
}

/** What was computed before, and which of it and of the new keys each query sees. */
export interface MaskedState {
  /** [batch, kv_heads, past, head_dim]; past may be 0. */
  readonly past_key: Value;
  readonly past_value: Value;
  /** bool [batch, 1, seq, past + seq] */
  readonly mask: Value;
}

export interface MaskedOptions {
  readonly q_num_heads: number;
  readonly kv_num_heads: number;
  readonly scale: number;
  /** Whether to give the weights: they take memory for every pair of query and key. */
  readonly weights: boolean;
}

/**
 * Attention under any mask (ONNX's Attention). query [batch, seq, heads*head_dim], key and value
 * [batch, seq, kv_heads*head_dim], rotated; weights [batch, heads, seq, past + seq].
 */
export function maskedAttention(
  query: Value,
  key: Value,
  value: Value,
  { past_key, past_value, mask }: MaskedState,
  options: MaskedOptions,
): { output: Value; weights: Value | undefined } {
  const graph: Graph = query.graph;
  const { q_num_heads, kv_num_heads } = options;
  const head_dim = past_key.dim(-1);
  if (typeof head_dim !== "number" || query.dim(-1) !== q_num_heads * head_dim)
    graph.fail(`query ${query} is not ${q_num_heads} heads of ${head_dim}`);
  if (key.dim(-1) !== kv_num_heads * head_dim)
    graph.fail(`key ${key} is not ${kv_num_heads} heads of ${head_dim}`);
  const batch = query.dim(0);
  const weightsSpec = { dtype: "float32" as const, shape: [batch, q_num_heads, ...mask.shape.slice(2)] };
  const split = (x: Value, heads: number): Value =>
    transpose(reshape(x, [...x.shape.slice(0, 2), heads, head_dim]), [0, 2, 1, 3]);
  const heads = split(query, q_num_heads);
  const [output, , , weights] = graph.emit(
    "Attention",
    [heads, split(key, kv_num_heads), split(value, kv_num_heads), mask, past_key, past_value],
    [heads, past_key, past_value, ...(options.weights ? [weightsSpec] : [])],
    {
      scale: { float: options.scale },
      // The fourth output holds what the softmax gives.
      ...(options.weights ? { qk_matmul_output_mode: 3 } : {}),
    },
  );
  const merged = reshape(transpose(output!, [0, 2, 1, 3]), query.shape);
  return { output: merged, weights: weights && statedShape(weights, heads, mask) };
}

/** The engine infers 0 keys for Attention's weights, and would refuse to fill a larger output: the shape is stated anew. */
function statedShape(weights: Value, heads: Value, mask: Value): Value {
  const { graph } = weights;
  const part = (x: Value, start: number, end: number): Value =>
    graph.emit("Shape", [x], [{ dtype: "int64", shape: [end - start] }], { start, end })[0]!;
  const target = concat([part(heads, 0, 3), part(mask, 3, 4)]);
  return graph.emit("Reshape", [weights, target], [weights])[0]!;
}

/**
 * Attention in which everything sees everything (com.microsoft.MultiHeadAttention). query [batch, seq, heads*head_dim],
 * key and value [batch, keys, heads*head_dim]; any head size.
 */
export function multiHeadAttention(query: Value, key: Value, value: Value, num_heads: number): Value {
  const graph: Graph = query.graph;
  const width = query.dim(-1);
  if (typeof width !== "number" || width % num_heads !== 0) graph.fail(`${query} is not ${num_heads} heads`);
  if (key.dim(-1) !== width || value.dim(-1) !== width) graph.fail(`${key} and ${value} do not fit ${query}`);
  return graph.emit(
    "MultiHeadAttention",
    [query, key, value],
    [query],
    { num_heads },
    { domain: "com.microsoft" },
  )[0]!;
}
