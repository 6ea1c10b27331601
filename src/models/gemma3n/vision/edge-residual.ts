import type { Value } from "../../../graph/graph.ts";
import { add, geluTanh } from "../../../graph/ops/math.ts";
import type { Linear } from "../../../nn/linear.ts";
import { Module } from "../../../nn/module.ts";
import { RMSNorm } from "../../../nn/rms-norm.ts";
import { type BlockPlace, groupsOf, isResidual } from "./block-place.ts";
import type { EdgeResidualBlock } from "./blocks.ts";
import { NORM_EPS } from "./conv-norm-act.ts";
import { convolution, type SpatialConv } from "./spatial-conv.ts";
import { roundChannels } from "./tower-config.ts";

/** A convolution that widens and, where it has a stride, thins the map; then a narrowing one of kernel 1. */
export class EdgeResidual extends Module {
  readonly conv_exp: SpatialConv | Linear;
  readonly bn1: RMSNorm;
  readonly conv_pwl: SpatialConv | Linear;
  readonly bn2: RMSNorm;
  readonly #residual: boolean;

  constructor(block: EdgeResidualBlock, place: BlockPlace) {
    super();
    const { in_channels, out_channels, stride, dilation, pad_type } = place;
    const base = block.force_in_chs > 0 ? roundChannels(block.force_in_chs) : in_channels;
    const wide = roundChannels(base * block.exp_ratio);
    const groups = groupsOf(block.group_size, wide);
    this.conv_exp = convolution(in_channels, wide, {
      kernel: block.exp_kernel_size,
      stride,
      dilation,
      groups,
      pad_type,
    });
    this.bn1 = new RMSNorm(wide, NORM_EPS);
    this.conv_pwl = convolution(wide, out_channels, { kernel: block.pw_kernel_size, pad_type });
    this.bn2 = new RMSNorm(out_channels, NORM_EPS);
    this.#residual = isResidual(block, place);
  }

  forward(x: Value): Value {
    const wide = geluTanh(this.bn1.forward(this.conv_exp.forward(x)));
    const out = this.bn2.forward(this.conv_pwl.forward(wide));
    return this.#residual ? add(out, x) : out;
  }
}
