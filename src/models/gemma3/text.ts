/**
 * Gemma 3's text model ("Gemma 3 Technical Report", 2025). What is special: five sliding-window layers to one global
 * one, each kind with its own rotary base; RMS norms of queries and keys; norms before and after each sublayer;
 * embeddings scaled by sqrt(hidden_size) and shared with the output layer.
 */
import type { Graph, Value } from "../../graph/graph.ts";
import { groupQueryAttention, type KeyValueState, type RotaryTables } from "../../graph/ops/attention.ts";
import { add, mul, scale, tanh } from "../../graph/ops/math.ts";
import { gather, mergeLeading, reshape } from "../../graph/ops/shape.ts";
import { activation } from "../../nn/activations.ts";
import { GemmaRMSNorm } from "../../nn/gemma-rms-norm.ts";
import { alignHeadDim, alignRotaryHeads, alignValueHeads, unalignHeads } from "../../nn/head-dim.ts";
import { Embedding, Linear, linearGroup } from "../../nn/linear.ts";
import { Module, type Parameter } from "../../nn/module.ts";
import { DecoderInputs, type LayerCacheSpec } from "../decoder-inputs.ts";
import type { Gemma3TextConfig, LayerType } from "./config.ts";

interface LayerContext {
  readonly cache: KeyValueState;
  readonly rotary: RotaryTables;
  /** Takes the layer's new cache: an output of the graph. */
  readonly store: (present_key: Value, present_value: Value) => void;
}

/** Grouped-query attention; a sliding layer sees the last `sliding_window` positions. */
export class Gemma3Attention extends Module {
  readonly q_proj: Linear;
  readonly k_proj: Linear;
  readonly v_proj: Linear;
  readonly o_proj: Linear;
  readonly q_norm: GemmaRMSNorm;
  readonly k_norm: GemmaRMSNorm;
  override readonly packedTogether: readonly (readonly Parameter[])[];
  /** Measured on the 270M, perplexity with attention in 4 bits 21.2, in 8 bits 17.5, for 6 % more bytes. */
  override readonly sensitive: boolean = true;
  readonly #config: Gemma3TextConfig;
  readonly #window: number | null;

  constructor(config: Gemma3TextConfig, layerType: LayerType) {
    super();
    const { hidden_size, head_dim, num_attention_heads, num_key_value_heads, rms_norm_eps } = config;
    this.q_proj = new Linear(hidden_size, num_attention_heads * head_dim);
    this.k_proj = new Linear(hidden_size, num_key_value_heads * head_dim);
    this.v_proj = new Linear(hidden_size, num_key_value_heads * head_dim);
    this.o_proj = new Linear(num_attention_heads * head_dim, hidden_size);
    this.q_norm = new GemmaRMSNorm(head_dim, rms_norm_eps);
    this.k_norm = new GemmaRMSNorm(head_dim, rms_norm_eps);
    this.packedTogether = [[this.q_proj.weight, this.k_proj.weight, this.v_proj.weight]];
    this.#config = config;
    this.#window = config.windowOf(layerType);
  }

  forward(x: Value, context: LayerContext): Value {
    const { head_dim, num_attention_heads, num_key_value_heads, query_pre_attn_scalar } = this.#config;
    const [query, key, value] = linearGroup(x, [this.q_proj, this.k_proj, this.v_proj]) as [
      Value,
      Value,
      Value,
    ];
    const attention = groupQueryAttention(
      normHeads(query, this.q_norm, num_attention_heads, head_dim),
      normHeads(key, this.k_norm, num_key_value_heads, head_dim),
      alignValueHeads(value, num_key_value_heads, head_dim),
      context.cache,
      context.rotary,
      {
        num_heads: num_attention_heads,
        kv_num_heads: num_key_value_heads,
        scale: query_pre_attn_scalar ** -0.5,
        ...(this.#window === null ? {} : { local_window_size: this.#window }),
      },
    );
    context.store(attention.present_key, attention.present_value);
    return this.o_proj.forward(unalignHeads(attention.output, num_attention_heads, head_dim));
  }
}

/** Norms each head: [batch, seq, heads*head_dim] → the same, head sizes aligned for the kernel. */
function normHeads(x: Value, norm: GemmaRMSNorm, heads: number, head_dim: number): Value {
  const leading = x.shape.slice(0, -1);
  const normed = norm.forward(heads === 1 ? x : reshape(x, [...leading, heads, head_dim]));
  const aligned = alignRotaryHeads(normed);
  return heads === 1 ? aligned : reshape(aligned, [...leading, heads * alignHeadDim(head_dim)]);
}

/** GeGLU: down(act(gate(x)) · up(x)). */
export class Gemma3MLP extends Module {
  readonly gate_proj: Linear;
  readonly up_proj: Linear;
  readonly down_proj: Linear;
  override readonly packedTogether: readonly (readonly Parameter[])[];
  readonly #activation: (x: Value) => Value;

  constructor(config: Gemma3TextConfig) {
    super();
    this.gate_proj = new Linear(config.hidden_size, config.intermediate_size);
    this.up_proj = new Linear(config.hidden_size, config.intermediate_size);
    this.down_proj = new Linear(config.intermediate_size, config.hidden_size);
    this.packedTogether = [[this.gate_proj.weight, this.up_proj.weight]];
    this.#activation = activation(config.hidden_activation);
  }

  forward(x: Value): Value {
    const [gate, up] = linearGroup(x, [this.gate_proj, this.up_proj]) as [Value, Value];
    return this.down_proj.forward(mul(this.#activation(gate), up));
  }
}

/** Sandwich norms: each sublayer is normalised before it and again before the residual sum. */
export class Gemma3DecoderLayer extends Module {
  readonly self_attn: Gemma3Attention;
  readonly mlp: Gemma3MLP;
  readonly input_layernorm: GemmaRMSNorm;
  readonly post_attention_layernorm: GemmaRMSNorm;
  readonly pre_feedforward_layernorm: GemmaRMSNorm;
  readonly post_feedforward_layernorm: GemmaRMSNorm;

  constructor(config: Gemma3TextConfig, layerType: LayerType) {
    super();
    const { hidden_size, rms_norm_eps } = config;
    this.self_attn = new Gemma3Attention(config, layerType);
    this.mlp = new Gemma3MLP(config);
    this.input_layernorm = new GemmaRMSNorm(hidden_size, rms_norm_eps);
    this.post_attention_layernorm = new GemmaRMSNorm(hidden_size, rms_norm_eps);
    this.pre_feedforward_layernorm = new GemmaRMSNorm(hidden_size, rms_norm_eps);
    this.post_feedforward_layernorm = new GemmaRMSNorm(hidden_size, rms_norm_eps);
  }

  forward(x: Value, context: LayerContext): Value {
    const attention = this.self_attn.forward(this.input_layernorm.forward(x), context);
    const hidden = add(x, this.post_attention_layernorm.forward(attention));
    const mlp = this.mlp.forward(this.pre_feedforward_layernorm.forward(hidden));
    return add(hidden, this.post_feedforward_layernorm.forward(mlp));
  }
}

/** The decoder without its head; field names are the checkpoint's below `model.`. */
export class Gemma3TextModule extends Module {
  readonly embed_tokens: Embedding;
  readonly layers: readonly Gemma3DecoderLayer[];
  readonly norm: GemmaRMSNorm;
  readonly #config: Gemma3TextConfig;

  constructor(config: Gemma3TextConfig) {
    super();
    this.embed_tokens = new Embedding(config.vocab_size, config.hidden_size);
    this.layers = config.layer_types.map((layerType) => new Gemma3DecoderLayer(config, layerType));
    this.norm = new GemmaRMSNorm(config.hidden_size, config.rms_norm_eps);
    this.#config = config;
  }

  /** Hidden states before the last norm, and the input of every layer before them: [batch, seq, hidden_size] each. */
  forward(input_ids: Value, inputs: DecoderInputs): { hidden: Value; layerInputs: readonly Value[] } {
    const { graph } = input_ids;
    const { head_dim, hidden_size, layer_types } = this.#config;
    let hidden = scale(this.embed_tokens.forward(input_ids), Math.fround(Math.sqrt(hidden_size)));
    const layerInputs: Value[] = [];
    for (const [i, layer] of this.layers.entries()) {
      layerInputs.push(hidden);
      hidden = layer.forward(hidden, {
        cache: inputs.keyValueState(i, layerCaches(this.#config)[i]!),
        rotary: inputs.rotary(layer_types[i]!, head_dim),
        store: (key, value) => {
          graph.output(`present.${i}.key`, key);
          graph.output(`present.${i}.value`, value);
        },
      });
    }
    return { hidden, layerInputs };
  }
}

/** The cache that each layer needs. */
export function layerCaches(config: Gemma3TextConfig): LayerCacheSpec[] {
  return config.layer_types.map((kind) => ({
    kind,
    kv_heads: config.num_key_value_heads,
    head_dim: alignHeadDim(config.head_dim),
    window: config.windowOf(kind),
  }));
}

/** What a traced decoder gives besides its caches. */
export interface DecoderGraphOptions {
  /** `hidden_states.N` [batch, seq, hidden_size] as outputs: the embeddings first, the normed output last. */
  readonly output_hidden_states: boolean;
}

/** Decoder and language-model head; the head is the embedding table unless the checkpoint has its own. */
export class Gemma3CausalLMModule extends Module {
  readonly model: Gemma3TextModule;
  readonly lm_head: Linear | undefined;
  readonly #config: Gemma3TextConfig;

  constructor(config: Gemma3TextConfig) {
    super();
    this.model = new Gemma3TextModule(config);
    this.lm_head = config.tie_word_embeddings ? undefined : new Linear(config.hidden_size, config.vocab_size);
    this.#config = config;
  }

  /**
   * Traces the whole model: `logits` [rows, vocab_size] of the positions that the input `logits_positions` [rows]
   * names by their index in the flattened [batch*seq].
   */
  trace(graph: Graph, options: DecoderGraphOptions): void {
    const inputs = new DecoderInputs(graph);
    const logits_positions = graph.input("logits_positions", "int64", ["rows"]);
    const { hidden, layerInputs } = this.model.forward(inputs.input_ids, inputs);
    if (options.output_hidden_states) {
      const states = [...layerInputs, this.model.norm.forward(hidden)];
      for (const [i, state] of states.entries()) graph.output(`hidden_states.${i}`, state);
    }
    const last = this.model.norm.forward(gather(mergeLeading(hidden), logits_positions));
    const logits =
      this.lm_head === undefined ? this.model.embed_tokens.project(last) : this.lm_head.forward(last);
    graph.output("logits", softcap(logits, this.#config.final_logit_softcapping));
  }
}

/** cap · tanh(x / cap), or x without a cap. */
function softcap(x: Value, cap: number | null): Value {
  return cap === null ? x : scale(tanh(scale(x, 1 / cap)), cap);
}
