/**
 * Gemma 3n's text model (2025). What is special: every token has several vectors of which a layer computes one
 * (AltUp); learned low-rank residuals (LAuReL); an embedding for each token *and layer*, gated into the streams that
 * the layer did not compute; a sparse feed-forward gate in the first layers; the last layers read the keys and values
 * of earlier ones; feed-forward sizes that may differ from layer to layer (MatFormer).
 */
import type { Value } from "../../graph/graph.ts";
import { add, idsBelow, mul, scale } from "../../graph/ops/math.ts";
import { concat, reshape, split } from "../../graph/ops/shape.ts";
import { activation } from "../../nn/activations.ts";
import { GatedMLP } from "../../nn/gated-mlp.ts";
import { normHeads } from "../../nn/head-norm.ts";
import { Embedding, Linear, linearGroup } from "../../nn/linear.ts";
import { Module, type Parameter } from "../../nn/module.ts";
import { RMSNorm } from "../../nn/rms-norm.ts";
import type { AttentionSpec, DecoderInputs } from "../decoder-inputs.ts";
import { type HiddenStates, TextModule } from "../heads.ts";
import { keySources } from "../text-config.ts";
import { Gemma3nTextAltUp, joinStreams, matchMagnitude, splitStreams } from "./altup.ts";
import type { Gemma3nTextConfig } from "./config.ts";
import { Gemma3nTextLaurelBlock } from "./laurel.ts";
import { gaussianTopK } from "./sparsity.ts";

/** Grouped-query attention with normed queries, keys and values; the last layers have queries alone. */
export class Gemma3nTextAttention extends Module {
  readonly q_proj: Linear;
  readonly q_norm: RMSNorm;
  readonly k_proj: Linear | undefined;
  readonly v_proj: Linear | undefined;
  readonly k_norm: RMSNorm | undefined;
  readonly v_norm: RMSNorm | undefined;
  readonly o_proj: Linear;
  override readonly packedTogether: readonly (readonly Parameter[])[];
  /** As in Gemma 3, where it was measured. */
  override readonly sensitive: boolean = true;
  readonly #spec: AttentionSpec;
  /** The layer whose keys and values this one reads. */
  readonly #source: number;

  constructor(config: Gemma3nTextConfig, layer: number) {
    super();
    const { hidden_size, head_dim, num_attention_heads, num_key_value_heads, rms_norm_eps } = config;
    const kind = config.layer_types[layer]!;
    const window = config.windowOf(kind);
    this.#spec = { kind, num_heads: num_attention_heads, num_key_value_heads, head_dim, window, scale: 1 };
    this.#source = keySources(config)[layer]!;
    const options = { bias: config.attention_bias };
    const kv_size = num_key_value_heads * head_dim;
    const own = this.#source === layer;
    this.q_proj = new Linear(hidden_size, num_attention_heads * head_dim, options);
    this.k_proj = own ? new Linear(hidden_size, kv_size, options) : undefined;
    this.v_proj = own ? new Linear(hidden_size, kv_size, options) : undefined;
    this.o_proj = new Linear(num_attention_heads * head_dim, hidden_size, options);
    this.q_norm = new RMSNorm(head_dim, rms_norm_eps);
    this.k_norm = own ? new RMSNorm(head_dim, rms_norm_eps) : undefined;
    this.v_norm = own ? new RMSNorm(head_dim, rms_norm_eps, { weight: false }) : undefined;
    this.packedTogether = own ? [[this.q_proj.weight, this.k_proj!.weight, this.v_proj!.weight]] : [];
  }

  forward(x: Value, layer: number, inputs: DecoderInputs): Value {
    const { k_proj, v_proj, k_norm, v_norm } = this;
    const { num_heads, num_key_value_heads, head_dim } = this.#spec;
    const normed = (query: Value): Value => normHeads(query, this.q_norm, num_heads, head_dim);
    if (k_proj === undefined || v_proj === undefined) {
      const query = normed(this.q_proj.forward(x));
      return this.o_proj.forward(inputs.attendTo(this.#source, layer, this.#spec, query));
    }
    const [query, key, value] = linearGroup(x, [this.q_proj, k_proj, v_proj]) as [Value, Value, Value];
    const output = inputs.attend(
      layer,
      this.#spec,
      normed(query),
      normHeads(key, k_norm!, num_key_value_heads, head_dim),
      normHeads(value, v_norm!, num_key_value_heads, head_dim),
    );
    return this.o_proj.forward(output);
  }
}

export class Gemma3nTextDecoderLayer extends Module {
  readonly self_attn: Gemma3nTextAttention;
  readonly mlp: GatedMLP;
  readonly input_layernorm: RMSNorm;
  readonly post_attention_layernorm: RMSNorm;
  readonly pre_feedforward_layernorm: RMSNorm;
  readonly post_feedforward_layernorm: RMSNorm;
  readonly altup: Gemma3nTextAltUp;
  readonly laurel: Gemma3nTextLaurelBlock;
  readonly per_layer_input_gate: Linear;
  readonly per_layer_projection: Linear;
  readonly post_per_layer_input_norm: RMSNorm;
  readonly #activation: (x: Value) => Value;

  constructor(config: Gemma3nTextConfig, layer: number) {
    super();
    const { hidden_size, hidden_size_per_layer_input, rms_norm_eps } = config;
    const act = activation(config.hidden_activation);
    const sparsity = config.activation_sparsity_pattern[layer]!;
    const gate = sparsity === 0 ? act : (x: Value): Value => act(gaussianTopK(x, sparsity));
    this.self_attn = new Gemma3nTextAttention(config, layer);
    this.mlp = new GatedMLP(hidden_size, config.intermediate_size[layer]!, gate);
    this.input_layernorm = new RMSNorm(hidden_size, rms_norm_eps);
    this.post_attention_layernorm = new RMSNorm(hidden_size, rms_norm_eps);
    this.pre_feedforward_layernorm = new RMSNorm(hidden_size, rms_norm_eps);
    this.post_feedforward_layernorm = new RMSNorm(hidden_size, rms_norm_eps);
    this.altup = new Gemma3nTextAltUp(config);
    this.laurel = new Gemma3nTextLaurelBlock(config);
    this.per_layer_input_gate = new Linear(hidden_size, hidden_size_per_layer_input);
    this.per_layer_projection = new Linear(hidden_size_per_layer_input, hidden_size);
    this.post_per_layer_input_norm = new RMSNorm(hidden_size, rms_norm_eps);
    this.#activation = act;
  }

  /** streams [batch, seq, streams, hidden_size] → the same; perLayer [batch, seq, hidden_size_per_layer_input]. */
  forward(streams: Value, layer: number, inputs: DecoderInputs, perLayer: Value): Value {
    const predictions = this.altup.predict(streams);
    const activated = this.#compute(this.altup.active(predictions), layer, inputs);
    const corrected = this.altup.correct(predictions, activated);
    return addToOthers(corrected, this.#gated(this.altup.active(corrected), perLayer));
  }

  /** Attention beside LAuReL, then the feed-forward layer: [batch, seq, hidden_size] → the same. */
  #compute(active: Value, layer: number, inputs: DecoderInputs): Value {
    const normed = this.input_layernorm.forward(active);
    const laurel = this.laurel.forward(normed);
    const attention = this.post_attention_layernorm.forward(this.self_attn.forward(normed, layer, inputs));
    const hidden = scale(add(add(active, attention), laurel), Math.SQRT1_2);
    const mlp = this.mlp.forward(this.pre_feedforward_layernorm.forward(hidden));
    return add(hidden, this.post_feedforward_layernorm.forward(mlp));
  }

  /** The layer's own embedding of each token, as far as the corrected active stream lets it through. */
  #gated(active: Value, perLayer: Value): Value {
    const gate = this.#activation(this.per_layer_input_gate.forward(this.altup.scaled(active)));
    const projected = this.per_layer_projection.forward(mul(gate, perLayer));
    return this.post_per_layer_input_norm.forward(projected);
  }
}

/** The first stream stays as it is, whichever the active one: [batch, seq, hidden_size] is added to the others. */
function addToOthers(streams: Value, x: Value): Value {
  const [first, ...others] = splitStreams(streams) as [Value, ...Value[]];
  return joinStreams([first, ...others.map((stream) => add(stream, x))]);
}

/** The decoder without its head. */
export class Gemma3nTextModule extends TextModule {
  readonly embed_tokens: Embedding;
  readonly layers: readonly Gemma3nTextDecoderLayer[];
  readonly norm: RMSNorm;
  readonly embed_tokens_per_layer: Embedding;
  readonly per_layer_model_projection: Linear;
  readonly per_layer_projection_norm: RMSNorm;
  readonly altup_projections: readonly Linear[];
  readonly altup_unembed_projections: readonly Linear[];
  override readonly packedTogether: readonly (readonly Parameter[])[];
  override readonly streams: number;
  override readonly usesIds = true;
  readonly #config: Gemma3nTextConfig;

  constructor(config: Gemma3nTextConfig) {
    super();
    const { vocab_size, hidden_size, num_hidden_layers, hidden_size_per_layer_input, rms_norm_eps } = config;
    const width = num_hidden_layers * hidden_size_per_layer_input;
    const projections = (): Linear[] =>
      Array.from({ length: config.altup_num_inputs - 1 }, () => new Linear(hidden_size, hidden_size));
    this.embed_tokens = new Embedding(vocab_size, hidden_size);
    this.layers = config.layer_types.map((_, layer) => new Gemma3nTextDecoderLayer(config, layer));
    this.norm = new RMSNorm(hidden_size, rms_norm_eps);
    const tableWidth =
      (config.sliced_from?.num_hidden_layers ?? num_hidden_layers) * hidden_size_per_layer_input;
    this.embed_tokens_per_layer = new Embedding(config.vocab_size_per_layer_input, tableWidth, {
      byRow: true,
    });
    this.per_layer_model_projection = new Linear(hidden_size, width);
    this.per_layer_projection_norm = new RMSNorm(hidden_size_per_layer_input, rms_norm_eps);
    this.altup_projections = projections();
    this.altup_unembed_projections = projections();
    this.packedTogether = [this.altup_projections.map(({ weight }) => weight)];
    this.streams = config.altup_num_inputs;
    this.#config = config;
  }

  override forward(embeddings: Value, inputs: DecoderInputs, ids: Value | undefined): HiddenStates {
    const perLayer = this.#perLayerInputs(embeddings, ids);
    const layerInputs: Value[] = [];
    let streams = this.#expand(embeddings);
    for (const [i, layer] of this.layers.entries()) {
      layerInputs.push(streams);
      streams = layer.forward(streams, i, inputs, perLayer[i]!);
    }
    return {
      hidden: this.#merge(streams),
      layerInputs: layerInputs.map(flattened),
      layerOutput: flattened(streams),
    };
  }

  /** The tokens' own embeddings for all layers, int64 [batch, seq] → [batch, seq, layers*hidden_size_per_layer_input]. */
  embedPerLayer(ids: Value): Value {
    const { vocab_size, vocab_size_per_layer_input, hidden_size_per_layer_input } = this.#config;
    const known = vocab_size > vocab_size_per_layer_input ? idsBelow(ids, vocab_size_per_layer_input) : ids;
    const factor = Math.fround(Math.sqrt(hidden_size_per_layer_input));
    return scale(this.#ownColumns(this.embed_tokens_per_layer.forward(known)), factor);
  }

  /** A slice that was cut while loading reads rows with the embeddings of all layers. */
  #ownColumns(rows: Value): Value {
    const { sliced_from, hidden_size_per_layer_input: size } = this.#config;
    if (sliced_from === null) return rows;
    const layers = split(rows, new Array<number>(sliced_from.num_hidden_layers).fill(size));
    return concat(sliced_from.kept.map((layer) => layers[layer]!));
  }

  /** What the layers get besides the streams: a projection of the first vectors, averaged with `embedded` where there is any. */
  projectPerLayer(embeddings: Value, embedded: Value | undefined): Value {
    const { hidden_size, hidden_size_per_layer_input, num_hidden_layers } = this.#config;
    const projected = scale(this.per_layer_model_projection.forward(embeddings), hidden_size ** -0.5);
    const normed = normHeads(
      projected,
      this.per_layer_projection_norm,
      num_hidden_layers,
      hidden_size_per_layer_input,
    );
    return embedded === undefined ? normed : scale(add(normed, embedded), Math.SQRT1_2);
  }

  #perLayerInputs(embeddings: Value, ids: Value | undefined): Value[] {
    const inputs = this.projectPerLayer(embeddings, ids && this.embedPerLayer(ids));
    return split(
      inputs,
      this.layers.map(() => this.#config.hidden_size_per_layer_input),
    );
  }

  /** The first stream is the embedding, the others are projections of it with its magnitude. */
  #expand(embeddings: Value): Value {
    const projected = linearGroup(embeddings, this.altup_projections);
    return joinStreams([embeddings, ...projected.map((stream) => matchMagnitude(stream, embeddings))]);
  }

  /** The mean of the streams, all but the first projected back: [batch, seq, hidden_size]. */
  #merge(streams: Value): Value {
    const [first, ...others] = splitStreams(streams) as [Value, ...Value[]];
    const projected = others.map((stream, i) =>
      matchMagnitude(this.altup_unembed_projections[i]!.forward(stream), first),
    );
    return scale([first, ...projected].reduce(add), 1 / this.streams);
  }
}

/** [batch, seq, streams, hidden_size] → [batch, seq, streams*hidden_size]. */
function flattened(streams: Value): Value {
  return reshape(streams, [...streams.shape.slice(0, 2), Number(streams.dim(2)) * Number(streams.dim(3))]);
}
