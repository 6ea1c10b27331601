import type { Value } from "../../../graph/graph.ts";
import { mul } from "../../../graph/ops/math.ts";
import { inlineWeight } from "../../../nn/inline.ts";
import { Module, Parameter } from "../../../nn/module.ts";

/** A learnt factor for each channel of x [.., channels]. */
export class LayerScale extends Module {
  readonly gamma: Parameter;

  constructor(channels: number) {
    super();
    this.gamma = new Parameter([channels]);
  }

  forward(x: Value): Value {
    return mul(x, inlineWeight(x.graph, this.gamma));
  }
}
