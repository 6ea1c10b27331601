import type { Value } from "../graph/graph.ts";
import { rmsNorm } from "../graph/ops/math.ts";
import { inlineWeight } from "./inline.ts";
import { Module, Parameter } from "./module.ts";

/** RMSNorm as in Gemma 3n: x / rms(x), times the stored weight as it is, or times nothing. */
export class RMSNorm extends Module {
  readonly weight: Parameter | undefined;
  readonly #dim: number;
  readonly #eps: number;

  constructor(dim: number, eps: number, { weight = true }: { readonly weight?: boolean } = {}) {
    super();
    this.weight = weight ? new Parameter([dim]) : undefined;
    this.#dim = dim;
    this.#eps = eps;
  }

  forward(x: Value): Value {
    return rmsNorm(
      x,
      this.weight === undefined ? this.#ones(x) : inlineWeight(x.graph, this.weight),
      this.#eps,
    );
  }

  /** The operator wants a weight. */
  #ones({ graph }: Value): Value {
    const ones = new Float32Array(this.#dim).fill(1);
    return graph.initializer(`ones.${this.#dim}`, "float32", [this.#dim], new Uint8Array(ones.buffer));
  }
}
