/**
 * Gemma 3's text model ("Gemma 3 Technical Report", 2025). What is special: five sliding-window layers to one global
 * one, each kind with its own rotary base; RMS norms of queries and keys; norms before and after each sublayer;
 * embeddings scaled by sqrt(hidden_size) and shared with the output layer.
 */
import type { Value } from "../../graph/graph.ts";
import { add } from "../../graph/ops/math.ts";
import { GatedMLP } from "../../nn/gated-mlp.ts";
import { GemmaRMSNorm } from "../../nn/gemma-rms-norm.ts";
import { normHeads } from "../../nn/head-norm.ts";
import { Embedding, Linear, linearGroup } from "../../nn/linear.ts";
import { Module, type Parameter } from "../../nn/module.ts";
import type { DecoderInputs, LayerType } from "../decoder-inputs.ts";
import { StackedTextModule } from "../heads.ts";
import type { Gemma3TextConfig } from "./config.ts";

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
  readonly #kind: LayerType;

  constructor(config: Gemma3TextConfig, kind: LayerType) {
    super();
    const { hidden_size, head_dim, num_attention_heads, num_key_value_heads, rms_norm_eps } = config;
    const bias = config.attention_bias;
    this.q_proj = new Linear(hidden_size, num_attention_heads * head_dim, { bias });
    this.k_proj = new Linear(hidden_size, num_key_value_heads * head_dim, { bias });
    // Measured on EmbeddingGemma: rounding the inputs of this small layer costs more than that of all other attention.
    this.v_proj = new Linear(hidden_size, num_key_value_heads * head_dim, { bias, rounding: "none" });
    this.o_proj = new Linear(num_attention_heads * head_dim, hidden_size, { bias });
    this.q_norm = new GemmaRMSNorm(head_dim, rms_norm_eps);
    this.k_norm = new GemmaRMSNorm(head_dim, rms_norm_eps);
    this.packedTogether = [[this.q_proj.weight, this.k_proj.weight, this.v_proj.weight]];
    this.#config = config;
    this.#kind = kind;
  }

  forward(x: Value, layer: number, inputs: DecoderInputs): Value {
    const { head_dim, num_attention_heads, num_key_value_heads, query_pre_attn_scalar } = this.#config;
    const [query, key, value] = linearGroup(x, [this.q_proj, this.k_proj, this.v_proj]) as [
      Value,
      Value,
      Value,
    ];
    const spec = {
      kind: this.#kind,
      num_heads: num_attention_heads,
      num_key_value_heads,
      head_dim,
      window: this.#config.windowOf(this.#kind),
      scale: query_pre_attn_scalar ** -0.5,
    };
    const output = inputs.attend(
      layer,
      spec,
      normHeads(query, this.q_norm, num_attention_heads, head_dim),
      normHeads(key, this.k_norm, num_key_value_heads, head_dim),
      value,
    );
    return this.o_proj.forward(output);
  }
}

/** Sandwich norms: each sublayer is normalised before it and again before the residual sum. */
export class Gemma3DecoderLayer extends Module {
  readonly self_attn: Gemma3Attention;
  readonly mlp: GatedMLP;
  readonly input_layernorm: GemmaRMSNorm;
  readonly post_attention_layernorm: GemmaRMSNorm;
  readonly pre_feedforward_layernorm: GemmaRMSNorm;
  readonly post_feedforward_layernorm: GemmaRMSNorm;

  constructor(config: Gemma3TextConfig, layerType: LayerType) {
    super();
    const { hidden_size, rms_norm_eps } = config;
    this.self_attn = new Gemma3Attention(config, layerType);
    this.mlp = new GatedMLP(hidden_size, config.intermediate_size, config.hidden_activation);
    this.input_layernorm = new GemmaRMSNorm(hidden_size, rms_norm_eps);
    this.post_attention_layernorm = new GemmaRMSNorm(hidden_size, rms_norm_eps);
    this.pre_feedforward_layernorm = new GemmaRMSNorm(hidden_size, rms_norm_eps);
    this.post_feedforward_layernorm = new GemmaRMSNorm(hidden_size, rms_norm_eps);
  }

  forward(x: Value, layer: number, inputs: DecoderInputs): Value {
    const attention = this.self_attn.forward(this.input_layernorm.forward(x), layer, inputs);
    const hidden = add(x, this.post_attention_layernorm.forward(attention));
    const mlp = this.mlp.forward(this.pre_feedforward_layernorm.forward(hidden));
    return add(hidden, this.post_feedforward_layernorm.forward(mlp));
  }
}

/** The decoder without its head. */
export class Gemma3TextModule extends StackedTextModule {
  readonly embed_tokens: Embedding;
  readonly layers: readonly Gemma3DecoderLayer[];
  readonly norm: GemmaRMSNorm;
  override readonly manyRows: boolean;

  constructor(config: Gemma3TextConfig) {
    super();
    this.manyRows = config.use_bidirectional_attention;
    this.embed_tokens = new Embedding(config.vocab_size, config.hidden_size);
    this.layers = config.layer_types.map((layerType) => new Gemma3DecoderLayer(config, layerType));
    this.norm = new GemmaRMSNorm(config.hidden_size, config.rms_norm_eps);
  }
}
