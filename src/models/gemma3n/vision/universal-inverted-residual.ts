import type { Value } from "../../../graph/graph.ts";
import { add } from "../../../graph/ops/math.ts";
import { Module } from "../../../nn/module.ts";
import { type BlockPlace, groupsOf, isResidual } from "./block-place.ts";
import type { UniversalInvertedBlock } from "./blocks.ts";
import { ConvNormAct } from "./conv-norm-act.ts";
import { LayerScale } from "./layer-scale.ts";
import { roundChannels } from "./tower-config.ts";

/**
 * MobileNet-V4's universal inverted bottleneck ("MobileNetV4: Universal Models for the Mobile Ecosystem", 2024): each
 * depthwise convolution may be left out, and without any the block is a feed-forward layer of pixels.
 */
export class UniversalInvertedResidual extends Module {
  readonly dw_start: ConvNormAct | undefined;
  readonly pw_exp: ConvNormAct;
  readonly dw_mid: ConvNormAct | undefined;
  readonly pw_proj: ConvNormAct;
  readonly dw_end: ConvNormAct | undefined;
  readonly layer_scale: LayerScale | undefined;
  readonly #residual: boolean;

  constructor(block: UniversalInvertedBlock, place: BlockPlace) {
    super();
    const { in_channels, out_channels, stride, dilation, pad_type } = place;
    const { dw_kernel_size_start, dw_kernel_size_mid, dw_kernel_size_end, group_size } = block;
    const wide = roundChannels(in_channels * block.exp_ratio);
    const depthwise = (channels: number, kernel: number, strided: boolean, activated: boolean) =>
      kernel === 0
        ? undefined
        : new ConvNormAct(channels, channels, {
            kernel,
            stride: strided ? stride : 1,
            dilation,
            groups: groupsOf(group_size, channels),
            pad_type,
            activated,
          });
    // The stride is that of the middle convolution, or of whichever there is.
    const midStrides = dw_kernel_size_mid > 0;
    const startStrides = !midStrides && dw_kernel_size_start > 0;
    this.dw_start = depthwise(in_channels, dw_kernel_size_start, startStrides, false);
    this.pw_exp = new ConvNormAct(in_channels, wide, { kernel: 1, pad_type });
    this.dw_mid = depthwise(wide, dw_kernel_size_mid, midStrides, true);
    this.pw_proj = new ConvNormAct(wide, out_channels, { kernel: 1, pad_type, activated: false });
    this.dw_end = depthwise(out_channels, dw_kernel_size_end, !midStrides && !startStrides, false);
    this.layer_scale = place.layer_scale ? new LayerScale(out_channels) : undefined;
    this.#residual = isResidual(block, place);
  }

  forward(x: Value): Value {
    const parts = [this.dw_start, this.pw_exp, this.dw_mid, this.pw_proj, this.dw_end, this.layer_scale];
    const out = parts.reduce((map: Value, part) => part?.forward(map) ?? map, x);
    return this.#residual ? add(out, x) : out;
  }
}
