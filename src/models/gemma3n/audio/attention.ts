/** Local attention of the conformer: blocks of queries, each with the keys around it, and relative positions. */
import type { Graph, Value } from "../../../graph/graph.ts";
import { add, clip, matmul, mul, scale, softmax, tanh } from "../../../graph/ops/math.ts";
import { gather, padLast, reshape, sliceLast, transpose } from "../../../graph/ops/shape.ts";
import { inlineWeight } from "../../../nn/inline.ts";
import { Linear, linearGroup } from "../../../nn/linear.ts";
import { Module, Parameter } from "../../../nn/module.ts";
import { RMSNorm } from "../../../nn/rms-norm.ts";
import type { Gemma3nAudioConfig } from "../audio-config.ts";
import { type AudioContext, BLOCKS } from "./context.ts";

/** Epsilon of the norms that config.json says nothing about. */
export const NORM_EPS = 1e-6;
/** Wavelengths of the positions go from 2π to so many times as much. */
const MAX_TIMESCALE = 1e4;

/** Scores of queries against distances (Transformer-XL's term, without its biases): sines and cosines, projected. */
export class Gemma3nAudioRelativePositionEmbedding extends Module {
  readonly pos_proj: Linear;
  readonly #config: Gemma3nAudioConfig;

  constructor(config: Gemma3nAudioConfig) {
    super();
    this.pos_proj = new Linear(config.hidden_size, config.hidden_size);
    this.#config = config;
  }

  /** queries [batch, blocks, heads, chunk, head_dim] → [batch, blocks, heads, chunk, context]. */
  forward(queries: Value): Value {
    const { conf_attention_chunk_size: chunk, context_size } = this.#config;
    const byDistance = matmul(queries, this.#distances(queries.graph)); // [.., chunk, distances]
    // Row w must begin at key w: a row that is one longer than the result shifts the next one by one.
    const leading = queries.shape.slice(0, 3);
    const long = reshape(padLast(byDistance, context_size + 1), [...leading, chunk * (context_size + 1)]);
    return reshape(sliceLast(long, 0, chunk * context_size), [...leading, chunk, context_size]);
  }

  /** The vectors of the distances, from the farthest step back on: [heads, head_dim, distances]. */
  #distances(graph: Graph): Value {
    const { conf_num_attention_heads: heads, head_dim } = this.#config;
    const projected = this.pos_proj.forward(this.#timingSignal(graph));
    const byHead = reshape(projected, [projected.dim(0), heads, head_dim]);
    return transpose(byHead, [1, 2, 0]);
  }

  /** [distances, hidden_size]: sines, then cosines, in float32 as in HF. */
  #timingSignal(graph: Graph): Value {
    const { hidden_size, past_steps, conf_attention_context_right } = this.#config;
    const half = hidden_size / 2;
    const increment = Math.fround(-Math.log(MAX_TIMESCALE) / Math.max(half - 1, 1));
    const distances = past_steps + conf_attention_context_right + 1;
    const signal = Float32Array.from({ length: distances * hidden_size }, (_, i) => {
      const at = i % hidden_size;
      const frequency = Math.fround(Math.exp(Math.fround((at % half) * increment)));
      const angle = Math.fround((past_steps - Math.floor(i / hidden_size)) * frequency);
      return at < half ? Math.sin(angle) : Math.cos(angle);
    });
    const shape = [distances, hidden_size];
    return graph.initializer("timing_signal", "float32", shape, new Uint8Array(signal.buffer));
  }
}

export class Gemma3nAudioAttention extends Module {
  readonly relative_position_embedding: Gemma3nAudioRelativePositionEmbedding;
  readonly per_dim_scale: Parameter;
  readonly q_proj: Linear;
  readonly k_proj: Linear;
  readonly v_proj: Linear;
  override readonly packedTogether: readonly (readonly Parameter[])[];
  readonly #config: Gemma3nAudioConfig;

  constructor(config: Gemma3nAudioConfig) {
    super();
    const { hidden_size } = config;
    this.relative_position_embedding = new Gemma3nAudioRelativePositionEmbedding(config);
    this.per_dim_scale = new Parameter([config.head_dim]);
    this.q_proj = new Linear(hidden_size, hidden_size);
    this.k_proj = new Linear(hidden_size, hidden_size);
    this.v_proj = new Linear(hidden_size, hidden_size);
    this.packedTogether = [[this.q_proj.weight, this.k_proj.weight, this.v_proj.weight]];
    this.#config = config;
  }

  /** x [batch, places, hidden_size] */
  forward(x: Value, { context_index, attention_bias }: AudioContext): Value {
    const [q, k, v] = linearGroup(x, [this.q_proj, this.k_proj, this.v_proj]) as [Value, Value, Value];
    const queries = transpose(mul(this.#blocks(q), this.#queryScale(x.graph)), [0, 1, 3, 2, 4]);
    const keys = transpose(this.#contexts(k, context_index), [0, 1, 3, 4, 2]); // [.., head_dim, context]
    const values = transpose(this.#contexts(v, context_index), [0, 1, 3, 2, 4]);
    const scores = add(matmul(queries, keys), this.relative_position_embedding.forward(queries));
    const cap = this.#config.conf_attention_logit_cap;
    const capped = scale(tanh(scale(scores, 1 / cap)), cap); // [batch, blocks, heads, chunk, context]
    const mixed = matmul(softmax(add(capped, attention_bias)), values);
    return reshape(transpose(mixed, [0, 1, 3, 2, 4]), x.shape);
  }

  /** [batch, places, hidden_size] → [batch, blocks, chunk, heads, head_dim]. */
  #blocks(x: Value): Value {
    const { conf_attention_chunk_size, conf_num_attention_heads, head_dim } = this.#config;
    return reshape(x, [x.dim(0), BLOCKS, conf_attention_chunk_size, conf_num_attention_heads, head_dim]);
  }

  /** The places around each block: [batch, blocks, context, heads, head_dim]. */
  #contexts(x: Value, context_index: Value): Value {
    const { context_size, conf_num_attention_heads, head_dim } = this.#config;
    const around = gather(x, context_index, 1);
    return reshape(around, [x.dim(0), BLOCKS, context_size, conf_num_attention_heads, head_dim]);
  }

  /** A learned factor for each element, 1 / sqrt(head_dim) where it is untrained: softplus(0) is log 2. */
  #queryScale(graph: Graph): Value {
    const base = this.#config.head_dim ** -0.5 / Math.LN2;
    return inlineWeight(graph, this.per_dim_scale, (value) => base * softplus(value));
  }
}

function softplus(x: number): number {
  return x > 20 ? x : Math.log1p(Math.exp(x));
}

/** Attention between two norms, beside its residual. */
export class Gemma3nAudioConformerAttention extends Module {
  readonly pre_attn_norm: RMSNorm;
  readonly attn: Gemma3nAudioAttention;
  readonly post: Linear;
  readonly post_norm: RMSNorm;
  readonly #bound: number;

  constructor(config: Gemma3nAudioConfig) {
    super();
    const { hidden_size } = config;
    this.pre_attn_norm = new RMSNorm(hidden_size, NORM_EPS);
    this.attn = new Gemma3nAudioAttention(config);
    this.post = new Linear(hidden_size, hidden_size);
    this.post_norm = new RMSNorm(hidden_size, NORM_EPS);
    this.#bound = config.gradient_clipping;
  }

  forward(x: Value, context: AudioContext): Value {
    const attention = this.attn.forward(this.pre_attn_norm.forward(clip(x, this.#bound)), context);
    return add(x, this.post_norm.forward(clip(this.post.forward(attention), this.#bound)));
  }
}
