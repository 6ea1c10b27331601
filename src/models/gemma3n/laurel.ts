import type { Value } from "../../graph/graph.ts";
import { add } from "../../graph/ops/math.ts";
import { Linear } from "../../nn/linear.ts";
import { Module } from "../../nn/module.ts";
import { RMSNorm } from "../../nn/rms-norm.ts";
import type { Gemma3nTextConfig } from "./config.ts";

/** LAuReL ("Learned Augmented Residual Layer", 2024), its low-rank form: x + norm(right(left(x))). */
export class Gemma3nTextLaurelBlock extends Module {
  readonly linear_left: Linear;
  readonly linear_right: Linear;
  readonly post_laurel_norm: RMSNorm;

  constructor({ hidden_size, laurel_rank, rms_norm_eps }: Gemma3nTextConfig) {
    super();
    this.linear_left = new Linear(hidden_size, laurel_rank);
    this.linear_right = new Linear(laurel_rank, hidden_size);
    this.post_laurel_norm = new RMSNorm(hidden_size, rms_norm_eps);
  }

  forward(x: Value): Value {
    return add(x, this.post_laurel_norm.forward(this.linear_right.forward(this.linear_left.forward(x))));
  }
}
