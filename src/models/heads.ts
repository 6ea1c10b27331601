/** What stands on a Gemma text model: nothing, a language-model head, or a classifier. */
import type { Graph, Value } from "../graph/graph.ts";
import { scale, tanh } from "../graph/ops/math.ts";
import { gather, mergeLeading } from "../graph/ops/shape.ts";
import type { GraphVariant } from "../graph-variant.ts";
import { type Embedding, Linear } from "../nn/linear.ts";
import { Module } from "../nn/module.ts";
import { DecoderInputs, sequenceDim } from "./decoder-inputs.ts";

/** A Gemma text model without its head; field names are the checkpoint's below `model.`. */
export abstract class TextModule extends Module {
  abstract readonly embed_tokens: Embedding;
  abstract readonly norm: Norm;
  /** Vectors that a token has between the layers. */
  readonly streams: number = 1;
  /** Whether layers look up vectors of their own by the ids. */
  readonly usesIds: boolean = false;

  /** The vectors that the first layer gets, scaled by sqrt(hidden_size): int64 [batch, seq] → [batch, seq, hidden_size]. */
  embed(input_ids: Value): Value {
    const hidden_size = this.embed_tokens.weight.shape[1]!;
    return scale(this.embed_tokens.forward(input_ids), Math.fround(Math.sqrt(hidden_size)));
  }

  /**
   * Hidden states before the last norm, and the input of every layer before them: [batch, seq, hidden_size] each. `ids`
   * [batch, seq] are there unless the caller has vectors alone.
   */
  abstract forward(embeddings: Value, inputs: DecoderInputs, ids: Value | undefined): HiddenStates;
}

/** A text model whose layers follow one another and nothing else. */
export abstract class StackedTextModule extends TextModule {
  abstract readonly layers: readonly DecoderLayer[];

  override forward(embeddings: Value, inputs: DecoderInputs): HiddenStates {
    const layerInputs: Value[] = [];
    let hidden = embeddings;
    for (const [i, layer] of this.layers.entries()) {
      layerInputs.push(hidden);
      hidden = layer.forward(hidden, i, inputs);
    }
    return { hidden, layerInputs };
  }
}

/** One layer of a text model: x [batch, seq, hidden_size] → the same. */
export interface DecoderLayer extends Module {
  forward(x: Value, layer: number, inputs: DecoderInputs): Value;
}

export interface HiddenStates {
  readonly hidden: Value;
  readonly layerInputs: readonly Value[];
  /** What HF gives as the last hidden state, where it is not the normed one. */
  readonly layerOutput?: Value;
}

/** A norm over the last axis. */
export interface Norm extends Module {
  forward(x: Value): Value;
}

/** A text model under the checkpoint's key `model`, with or without something on it. */
export class HeadedModule extends Module {
  readonly model: TextModule;

  constructor(model: TextModule) {
    super();
    this.model = model;
  }

  /** What the head makes of normed hidden states [rows, hidden_size]; undefined without a head. */
  head(_hidden: Value): Value | undefined {
    return undefined;
  }

  /** Traces the whole model; see DecoderInputs for the inputs and GraphVariant for the outputs. */
  trace(graph: Graph, hidden_size: number, options: GraphVariant): void {
    const { model } = this;
    const seq = sequenceDim(options);
    const ids =
      options.input === "inputs_embeds" ? undefined : graph.input("input_ids", "int64", ["batch", seq]);
    const vectors =
      options.input === "input_ids"
        ? undefined
        : graph.input("inputs_embeds", "float32", ["batch", seq, hidden_size]);
    const inputs = new DecoderInputs(graph, options);
    const states = model.forward(vectors ?? model.embed(ids!), inputs, ids);
    this.#giveStates(states, options);
    const { hidden } = states;
    if (!options.logits) return;
    const positions = graph.input("logits_positions", "int64", ["rows"]);
    // The norm works on the wanted rows alone.
    const wanted = model.norm.forward(gather(mergeLeading(hidden), positions));
    if (options.logits === "inputs") graph.output("head_inputs", wanted);
    else this.#giveLogits(wanted);
  }

  /** Traces the head alone: `head_inputs` [rows, hidden_size] to `logits`. */
  traceHead(graph: Graph, hidden_size: number): void {
    this.#giveLogits(graph.input("head_inputs", "float32", ["rows", hidden_size]));
  }

  /** The table whose rows the head multiplies with, where that is all it does. */
  get headTable(): Embedding | undefined {
    return undefined;
  }

  #giveLogits(hidden: Value): void {
    const logits = this.head(hidden);
    if (logits === undefined) hidden.graph.fail("a model without a head has no logits");
    hidden.graph.output("logits", logits);
  }

  #giveStates({ hidden, layerInputs, layerOutput }: HiddenStates, { hidden_states }: GraphVariant): void {
    const { graph } = hidden;
    if (hidden_states === "none") return;
    const normed = this.model.norm.forward(hidden);
    if (hidden_states === "last" || layerOutput !== undefined) graph.output("last_hidden_state", normed);
    if (hidden_states === "last") return;
    for (const [i, state] of [...layerInputs, layerOutput ?? normed].entries())
      graph.output(`hidden_states.${i}`, state);
  }

  /** Traces the embedding alone: `input_ids` to `inputs_embeds`. */
  traceEmbedding(graph: Graph): void {
    graph.output("inputs_embeds", this.model.embed(graph.input("input_ids", "int64", ["batch", "seq"])));
  }
}

/** The language-model head: the embedding table, unless the checkpoint has a table of its own. */
export class CausalLMModule extends HeadedModule {
  readonly lm_head: Linear | undefined;
  readonly #softcap: number | null;

  constructor(
    model: TextModule,
    config: {
      readonly hidden_size: number;
      readonly vocab_size: number;
      readonly tie_word_embeddings: boolean;
      readonly final_logit_softcapping?: number | null;
    },
  ) {
    super(model);
    this.lm_head = config.tie_word_embeddings ? undefined : new Linear(config.hidden_size, config.vocab_size);
    this.#softcap = config.final_logit_softcapping ?? null;
  }

  override get headTable(): Embedding | undefined {
    return this.lm_head === undefined && this.#softcap === null ? this.model.embed_tokens : undefined;
  }

  override head(hidden: Value): Value {
    const logits =
      this.lm_head === undefined ? this.model.embed_tokens.project(hidden) : this.lm_head.forward(hidden);
    return softcap(logits, this.#softcap);
  }
}

/** cap · tanh(x / cap), or x without a cap. */
function softcap(x: Value, cap: number | null): Value {
  return cap === null ? x : scale(tanh(scale(x, 1 / cap)), cap);
}

/** A score for each label: of a token, or of a text by its last token. */
export class ClassificationModule extends HeadedModule {
  readonly score: Linear;

  constructor(model: TextModule, hidden_size: number, num_labels: number, bias: boolean) {
    super(model);
    this.score = new Linear(hidden_size, num_labels, { bias });
  }

  override head(hidden: Value): Value {
    return this.score.forward(hidden);
  }
}
