import type { Value } from "../../../graph/graph.ts";
import { geluTanh } from "../../../graph/ops/math.ts";
import type { Linear } from "../../../nn/linear.ts";
import { Module } from "../../../nn/module.ts";
import { RMSNorm } from "../../../nn/rms-norm.ts";
import { convolution, type SpatialConv, type SpatialConvOptions } from "./spatial-conv.ts";

/** Of all norms over channels in the tower (timm's RmsNorm2d). */
export const NORM_EPS = 1e-6;

/** A convolution, its norm over channels, and mostly a GELU. Maps are [1, height, width, channels]. */
export class ConvNormAct extends Module {
  readonly conv: SpatialConv | Linear;
  readonly bn: RMSNorm;
  readonly #activated: boolean;

  constructor(
    in_channels: number,
    out_channels: number,
    { activated = true, ...options }: SpatialConvOptions & { readonly activated?: boolean },
  ) {
    super();
    this.conv = convolution(in_channels, out_channels, options);
    this.bn = new RMSNorm(out_channels, NORM_EPS);
    this.#activated = activated;
  }

  forward(x: Value): Value {
    const normed = this.bn.forward(this.conv.forward(x));
    return this.#activated ? geluTanh(normed) : normed;
  }
}
