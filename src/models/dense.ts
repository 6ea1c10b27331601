import type { Graph, Value } from "../graph/graph.ts";
import { add } from "../graph/ops/math.ts";
import { inlineWeight } from "../nn/inline.ts";
import { Linear } from "../nn/linear.ts";
import { Module, Parameter } from "../nn/module.ts";

/** A linear layer with bias. */
class BiasedLinear extends Linear {
  readonly bias: Parameter;

  constructor(in_features: number, out_features: number) {
    super(in_features, out_features);
    this.bias = new Parameter([out_features]);
  }

  override forward(x: Value): Value {
    return add(
      super.forward(x),
      inlineWeight(x.graph, this.bias, (value) => value),
    );
  }
}

export interface DenseOptions {
  readonly in_features: number;
  readonly out_features: number;
  readonly bias: boolean;
  readonly activation: (x: Value) => Value;
}

/** sentence-transformers' Dense: a projection of whole-text vectors, [batch, in_features] → [batch, out_features]. */
export class DenseModule extends Module {
  readonly linear: Linear;
  readonly #options: DenseOptions;

  constructor(options: DenseOptions) {
    super();
    this.#options = options;
    const { in_features, out_features, bias } = options;
    this.linear = bias ? new BiasedLinear(in_features, out_features) : new Linear(in_features, out_features);
  }

  /** Emits the whole graph: one input, one output. */
  trace(graph: Graph): void {
    const input = graph.input("input", "float32", ["batch", this.#options.in_features]);
    graph.output("output", this.#options.activation(this.linear.forward(input)));
  }
}
