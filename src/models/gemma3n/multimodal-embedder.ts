import type { Graph, Value } from "../../graph/graph.ts";
import { Embedding, Linear } from "../../nn/linear.ts";
import { Module } from "../../nn/module.ts";
import { RMSNorm } from "../../nn/rms-norm.ts";

/** What an embedder takes from the configuration of its kind of input. */
export interface EmbedderConfig {
  readonly vocab_size: number;
  readonly hidden_size: number;
  readonly rms_norm_eps: number;
}

/**
 * Brings images or sounds into the text model's space: soft vectors, an encoder's output, or hard ones, those of ids
 * beyond the text's.
 */
export class Gemma3nMultimodalEmbedder extends Module {
  readonly embedding: Embedding;
  readonly hard_embedding_norm: RMSNorm;
  readonly soft_embedding_norm: RMSNorm;
  readonly embedding_projection: Linear;
  readonly embedding_post_projection_norm: RMSNorm;

  /** `text_hidden_size` is the text model's hidden_size. */
  constructor({ vocab_size, hidden_size, rms_norm_eps }: EmbedderConfig, text_hidden_size: number) {
    super();
    this.embedding = new Embedding(vocab_size, hidden_size);
    this.hard_embedding_norm = new RMSNorm(hidden_size, rms_norm_eps);
    this.soft_embedding_norm = new RMSNorm(hidden_size, rms_norm_eps);
    this.embedding_projection = new Linear(hidden_size, text_hidden_size);
    this.embedding_post_projection_norm = new RMSNorm(text_hidden_size, rms_norm_eps, { weight: false });
  }

  /** Soft vectors [.., hidden_size] → [.., text_hidden_size]. */
  forward(soft: Value): Value {
    return this.#project(this.soft_embedding_norm.forward(soft));
  }

  /** Ids less vocab_offset, int64 [..] → [.., text_hidden_size]. */
  embedIds(ids: Value): Value {
    return ids.graph.scope(`${this.path}.ids`, () =>
      this.#project(this.hard_embedding_norm.forward(this.embedding.forward(ids))),
    );
  }

  #project(x: Value): Value {
    return this.embedding_post_projection_norm.forward(this.embedding_projection.forward(x));
  }
}

/** Emits the graph of hard vectors: `ids` [ids], less vocab_offset, to `embeddings` [ids, text_hidden_size]. */
export function traceHardEmbeddings(graph: Graph, embedder: Gemma3nMultimodalEmbedder): void {
  const ids = graph.input("ids", "int64", ["ids"]);
  graph.output("embeddings", embedder.embedIds(ids));
}
