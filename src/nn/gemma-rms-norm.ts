import type { Value } from "../graph/graph.ts";
import { rmsNorm } from "../graph/ops/math.ts";
import { inlineData, inlineWeight } from "./inline.ts";
import { Module, Parameter } from "./module.ts";

/** RMSNorm of Gemma 1 to 3: the stored weight is the distance from 1, x / rms(x) · (1 + weight). */
export class GemmaRMSNorm extends Module {
  readonly weight: Parameter;
  readonly eps: number;

  constructor(dim: number, eps: number) {
    super();
    this.weight = new Parameter([dim]);
    this.eps = eps;
  }

  forward(x: Value): Value {
    return rmsNorm(x, inlineWeight(x.graph, this.weight, gain), this.eps);
  }

  /** What each element is multiplied by. */
  gains(): Float32Array {
    return inlineData(this.weight).map(gain);
  }
}

function gain(stored: number): number {
  return 1 + stored;
}
