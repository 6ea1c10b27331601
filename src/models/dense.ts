import type { Graph, Value } from "../graph/graph.ts";
import { Linear } from "../nn/linear.ts";
import { Module } from "../nn/module.ts";

export interface DenseOptions {
  readonly in_features: number;
  readonly out_features: number;
  readonly bias: boolean;
  readonly activation: (x: Value) => Value;
}

/** sentence-transformers' Dense: a projection of whole texts' vectors, [batch, in_features] → [batch, out_features]. */
export class DenseModule extends Module {
  readonly linear: Linear;
  readonly #options: DenseOptions;

  constructor(options: DenseOptions) {
    super();
    this.#options = options;
    const { in_features, out_features, bias } = options;
    this.linear = new Linear(in_features, out_features, { bias });
  }

  /** Emits the whole graph: one input, one output. */
  trace(graph: Graph): void {
    const input = graph.input("input", "float32", ["batch", this.#options.in_features]);
    graph.output("output", this.#options.activation(this.linear.forward(input)));
  }
}
