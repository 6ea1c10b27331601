/**
 * SigLIP's vision model ("Sigmoid Loss for Language Image Pre-Training", 2023), the image encoder of Gemma 3. What is
 * special: nothing but patches. An image is cut into squares, each becomes a vector by one convolution, learned
 * positions are added, and pre-norm layers let every patch see every other one.
 */
import type { Graph, Value } from "../../graph/graph.ts";
import { multiHeadAttention } from "../../graph/ops/attention.ts";
import { add, linear, matmul, scale, softmax } from "../../graph/ops/math.ts";
import { reshape, split, transpose } from "../../graph/ops/shape.ts";
import { activation } from "../../nn/activations.ts";
import { Conv } from "../../nn/conv.ts";
import { LayerNorm } from "../../nn/layer-norm.ts";
import { floatWeight, Linear, linearGroup } from "../../nn/linear.ts";
import { Module, Parameter } from "../../nn/module.ts";
import type { SiglipVisionConfig } from "./config.ts";

/** A table that is added whole, one vector for each patch. */
export class SiglipPositionEmbedding extends Module {
  readonly weight: Parameter;

  constructor(positions: number, hidden_size: number) {
    super();
    this.weight = new Parameter([positions, hidden_size], { plain: true });
  }

  forward(x: Value): Value {
    return add(x, floatWeight(x.graph, this.weight));
  }
}

/** Pixels to patches: [batch, channels, size, size] → [batch, patches, hidden_size], row by row. */
export class SiglipVisionEmbeddings extends Module {
  readonly patch_embedding: Conv;
  readonly position_embedding: SiglipPositionEmbedding;
  readonly #config: SiglipVisionConfig;

  constructor(config: SiglipVisionConfig) {
    super();
    const { hidden_size, num_channels, patch_size, patches_per_side } = config;
    const patch = [patch_size, patch_size];
    this.patch_embedding = new Conv(num_channels, hidden_size, patch, { strides: patch, bias: true });
    this.position_embedding = new SiglipPositionEmbedding(patches_per_side ** 2, hidden_size);
    this.#config = config;
  }

  forward(pixel_values: Value): Value {
    const { hidden_size, patches_per_side } = this.#config;
    const grid = this.patch_embedding.forward(pixel_values); // [batch, hidden_size, side, side]
    const flat = reshape(grid, [grid.dim(0), hidden_size, patches_per_side ** 2]);
    return this.position_embedding.forward(transpose(flat, [0, 2, 1]));
  }
}

/** Every patch sees every other one. */
export class SiglipAttention extends Module {
  readonly q_proj: Linear;
  readonly k_proj: Linear;
  readonly v_proj: Linear;
  readonly out_proj: Linear;
  override readonly packedTogether: readonly (readonly Parameter[])[];
  readonly #heads: number;

  constructor({ hidden_size, num_attention_heads }: SiglipVisionConfig) {
    super();
    const square = (): Linear => new Linear(hidden_size, hidden_size, { bias: true });
    this.q_proj = square();
    this.k_proj = square();
    this.v_proj = square();
    this.out_proj = square();
    this.packedTogether = [[this.q_proj.weight, this.k_proj.weight, this.v_proj.weight]];
    this.#heads = num_attention_heads;
  }

  forward(x: Value): Value {
    const [query, key, value] = linearGroup(x, [this.q_proj, this.k_proj, this.v_proj]) as [
      Value,
      Value,
      Value,
    ];
    return this.out_proj.forward(multiHeadAttention(query, key, value, this.#heads));
  }
}

export class SiglipMLP extends Module {
  readonly fc1: Linear;
  readonly fc2: Linear;
  readonly #activation: (x: Value) => Value;

  constructor({ hidden_size, intermediate_size, hidden_act }: SiglipVisionConfig) {
    super();
    this.fc1 = new Linear(hidden_size, intermediate_size, { bias: true });
    this.fc2 = new Linear(intermediate_size, hidden_size, { bias: true, rounding: "columns" });
    this.#activation = activation(hidden_act);
  }

  forward(x: Value): Value {
    return this.fc2.forward(this.#activation(this.fc1.forward(x)));
  }
}

export class SiglipEncoderLayer extends Module {
  readonly layer_norm1: LayerNorm;
  readonly self_attn: SiglipAttention;
  readonly layer_norm2: LayerNorm;
  readonly mlp: SiglipMLP;

  constructor(config: SiglipVisionConfig) {
    super();
    const { hidden_size, layer_norm_eps } = config;
    this.layer_norm1 = new LayerNorm(hidden_size, layer_norm_eps);
    this.self_attn = new SiglipAttention(config);
    this.layer_norm2 = new LayerNorm(hidden_size, layer_norm_eps);
    this.mlp = new SiglipMLP(config);
  }

  forward(x: Value): Value {
    const hidden = add(x, this.self_attn.forward(this.layer_norm1.forward(x)));
    return add(hidden, this.mlp.forward(this.layer_norm2.forward(hidden)));
  }
}

export class SiglipEncoder extends Module {
  readonly layers: readonly SiglipEncoderLayer[];

  constructor(config: SiglipVisionConfig) {
    super();
    this.layers = Array.from({ length: config.num_hidden_layers }, () => new SiglipEncoderLayer(config));
  }

  /** The input of every layer, and the output of the last: [batch, patches, hidden_size] each. */
  forward(x: Value): Value[] {
    const states = [x];
    for (const layer of this.layers) states.push(layer.forward(states.at(-1)!));
    return states;
  }
}

/** The encoder of images; fields are the checkpoint's below `vision_tower.` (or `vision_model.` on the hub). */
export class SiglipVisionModule extends Module {
  override readonly manyRows = true;
  readonly embeddings: SiglipVisionEmbeddings;
  readonly encoder: SiglipEncoder;
  readonly post_layernorm: LayerNorm;

  constructor(config: SiglipVisionConfig) {
    super();
    this.embeddings = new SiglipVisionEmbeddings(config);
    this.encoder = new SiglipEncoder(config);
    this.post_layernorm = new LayerNorm(config.hidden_size, config.layer_norm_eps);
  }

  /** pixel_values [batch, channels, size, size]; the last state is not normed in `hidden`, as in HF. */
  forward(pixel_values: Value): { readonly hidden: readonly Value[]; readonly last: Value } {
    const hidden = this.encoder.forward(this.embeddings.forward(pixel_values));
    return { hidden, last: this.post_layernorm.forward(hidden.at(-1)!) };
  }
}

/** The pooling head: one learned query asks all patches for one vector. */
export class SiglipMultiheadAttentionPoolingHead extends Module {
  readonly probe: Parameter;
  readonly attention: SiglipProbeAttention;
  readonly layernorm: LayerNorm;
  readonly mlp: SiglipMLP;

  constructor(config: SiglipVisionConfig) {
    super();
    this.probe = new Parameter([1, 1, config.hidden_size], { plain: true });
    this.attention = new SiglipProbeAttention(config);
    this.layernorm = new LayerNorm(config.hidden_size, config.layer_norm_eps);
    this.mlp = new SiglipMLP(config);
  }

  /** x [batch, patches, hidden_size] → [batch, hidden_size]. */
  forward(x: Value): Value {
    const pooled = this.attention.forward(floatWeight(x.graph, this.probe), x);
    const output = add(pooled, this.mlp.forward(this.layernorm.forward(pooled)));
    return reshape(output, [x.dim(0), x.dim(-1)]);
  }
}

/** Attention of one query to every patch; fields are those of PyTorch's MultiheadAttention. */
export class SiglipProbeAttention extends Module {
  /** The matrices of query, key and value, one below the other. */
  readonly in_proj_weight: Parameter;
  readonly in_proj_bias: Parameter;
  readonly out_proj: Linear;
  readonly #heads: number;

  constructor({ hidden_size, num_attention_heads }: SiglipVisionConfig) {
    super();
    this.in_proj_weight = new Parameter([3 * hidden_size, hidden_size], { plain: true });
    this.in_proj_bias = new Parameter([3 * hidden_size], { plain: true });
    this.out_proj = new Linear(hidden_size, hidden_size, { bias: true });
    this.#heads = num_attention_heads;
  }

  /** probe [1, 1, hidden_size], the same for every image; x [batch, patches, hidden_size] → [batch, 1, hidden_size]. */
  forward(probe: Value, x: Value): Value {
    const width = probe.dim(-1) as number;
    const size = width / this.#heads;
    const parts = [width, width, width];
    const weights = split(floatWeight(x.graph, this.in_proj_weight), parts, 0);
    const biases = split(floatWeight(x.graph, this.in_proj_bias), parts);
    const [query, key, value] = [probe, x, x].map((input, i) => {
      const y = add(linear(input, weights[i]!), biases[i]!);
      return transpose(reshape(y, [...y.shape.slice(0, 2), this.#heads, size]), [0, 2, 1, 3]);
    }) as [Value, Value, Value];
    const scores = matmul(scale(query, size ** -0.5), transpose(key, [0, 1, 3, 2]));
    const heads = matmul(softmax(scores), value); // [batch, heads, 1, size]
    return this.out_proj.forward(reshape(heads, [x.dim(0), 1, width]));
  }
}

/** The encoder as a model of its own, with its pooling head where the configuration has one. */
export class SiglipVisionModelModule extends SiglipVisionModule {
  readonly head: SiglipMultiheadAttentionPoolingHead | undefined;

  constructor(config: SiglipVisionConfig) {
    super(config);
    this.head = config.vision_use_head ? new SiglipMultiheadAttentionPoolingHead(config) : undefined;
  }
}

/** The graph's input of images. */
export function pixelInput(graph: Graph, { num_channels, image_size }: SiglipVisionConfig): Value {
  return graph.input("pixel_values", "float32", ["batch", num_channels, image_size, image_size]);
}
