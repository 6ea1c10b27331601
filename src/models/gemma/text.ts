/**
 * Gemma ("Gemma: Open Models Based on Gemini Research and Technology", 2024). What is special: multi-query attention
 * in the 2B, GeGLU, RMS norms that store their distance from 1, embeddings scaled by sqrt(hidden_size) and shared
 * with the output layer.
 */
import type { Value } from "../../graph/graph.ts";
import { add } from "../../graph/ops/math.ts";
import { GatedMLP } from "../../nn/gated-mlp.ts";
import { GemmaRMSNorm } from "../../nn/gemma-rms-norm.ts";
import { Embedding, Linear, linearGroup } from "../../nn/linear.ts";
import { Module, type Parameter } from "../../nn/module.ts";
import type { DecoderInputs } from "../decoder-inputs.ts";
import { StackedTextModule } from "../heads.ts";
import type { GemmaConfig } from "./config.ts";

export class GemmaAttention extends Module {
  readonly q_proj: Linear;
  readonly k_proj: Linear;
  readonly v_proj: Linear;
  readonly o_proj: Linear;
  override readonly packedTogether: readonly (readonly Parameter[])[];
  /** As in Gemma 3, where it was measured. */
  override readonly sensitive: boolean = true;
  readonly #config: GemmaConfig;

  constructor(config: GemmaConfig) {
    super();
    const { hidden_size, head_dim, num_attention_heads, num_key_value_heads } = config;
    const bias = config.attention_bias;
    this.q_proj = new Linear(hidden_size, num_attention_heads * head_dim, { bias });
    this.k_proj = new Linear(hidden_size, num_key_value_heads * head_dim, { bias });
    this.v_proj = new Linear(hidden_size, num_key_value_heads * head_dim, { bias });
    this.o_proj = new Linear(num_attention_heads * head_dim, hidden_size, { bias });
    this.packedTogether = [[this.q_proj.weight, this.k_proj.weight, this.v_proj.weight]];
    this.#config = config;
  }

  forward(x: Value, layer: number, inputs: DecoderInputs): Value {
    const { head_dim, num_attention_heads, num_key_value_heads } = this.#config;
    const spec = {
      kind: "full_attention" as const,
      num_heads: num_attention_heads,
      num_key_value_heads,
      head_dim,
      window: null,
      scale: head_dim ** -0.5,
    };
    const [query, key, value] = linearGroup(x, [this.q_proj, this.k_proj, this.v_proj]) as [
      Value,
      Value,
      Value,
    ];
    return this.o_proj.forward(inputs.attend(layer, spec, query, key, value));
  }
}

export class GemmaDecoderLayer extends Module {
  readonly self_attn: GemmaAttention;
  readonly mlp: GatedMLP;
  readonly input_layernorm: GemmaRMSNorm;
  readonly post_attention_layernorm: GemmaRMSNorm;

  constructor(config: GemmaConfig) {
    super();
    const { hidden_size, rms_norm_eps } = config;
    this.self_attn = new GemmaAttention(config);
    this.mlp = new GatedMLP(hidden_size, config.intermediate_size, config.hidden_act);
    this.input_layernorm = new GemmaRMSNorm(hidden_size, rms_norm_eps);
    this.post_attention_layernorm = new GemmaRMSNorm(hidden_size, rms_norm_eps);
  }

  forward(x: Value, layer: number, inputs: DecoderInputs): Value {
    const hidden = add(x, this.self_attn.forward(this.input_layernorm.forward(x), layer, inputs));
    return add(hidden, this.mlp.forward(this.post_attention_layernorm.forward(hidden)));
  }
}

/** The decoder without its head. */
export class GemmaTextModule extends StackedTextModule {
  readonly embed_tokens: Embedding;
  readonly layers: readonly GemmaDecoderLayer[];
  readonly norm: GemmaRMSNorm;

  constructor(config: GemmaConfig) {
    super();
    this.embed_tokens = new Embedding(config.vocab_size, config.hidden_size);
    this.layers = config.layer_types.map(() => new GemmaDecoderLayer(config));
    this.norm = new GemmaRMSNorm(config.hidden_size, config.rms_norm_eps);
  }
}
