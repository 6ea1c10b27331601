import type { Value } from "../graph/graph.ts";
import { layerNorm } from "../graph/ops/math.ts";
import { inlineWeight } from "./inline.ts";
import { Module, Parameter } from "./module.ts";

/** Layer norm over the last axis, with a factor and a bias for each element. */
export class LayerNorm extends Module {
  readonly weight: Parameter;
  readonly bias: Parameter;
  readonly #eps: number;

  constructor(dim: number, eps: number) {
    super();
    this.weight = new Parameter([dim]);
    this.bias = new Parameter([dim]);
    this.#eps = eps;
  }

  forward(x: Value): Value {
    const { graph } = x;
    return layerNorm(x, inlineWeight(graph, this.weight), inlineWeight(graph, this.bias), this.#eps);
  }
}
