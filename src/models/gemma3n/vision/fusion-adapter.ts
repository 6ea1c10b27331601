import type { Value } from "../../../graph/graph.ts";
import { concat } from "../../../graph/ops/shape.ts";
import { Module } from "../../../nn/module.ts";
import { RMSNorm } from "../../../nn/rms-norm.ts";
import { NORM_EPS } from "./conv-norm-act.ts";
import { enlargeNearest, resizeMap } from "./resampling.ts";
import { FUSED_CHANNELS, type TowerConfig } from "./tower-config.ts";
import { UniversalInvertedResidual } from "./universal-inverted-residual.ts";

/** Makes one map of several scales: as fine as the finest, mixed pixel by pixel, then brought to the tokens' grid. */
export class FusionAdapter extends Module {
  readonly ffn: UniversalInvertedResidual;
  readonly norm: RMSNorm;
  readonly #resolution: TowerConfig["msfa_output_resolution"];

  constructor(in_channels: number, { msfa_output_resolution }: TowerConfig) {
    super();
    this.ffn = new UniversalInvertedResidual(
      {
        block_type: "uir",
        out_chs: FUSED_CHANNELS,
        stride: 1,
        noskip: true,
        dw_kernel_size_start: 0,
        dw_kernel_size_mid: 0,
        dw_kernel_size_end: 0,
        exp_ratio: 2,
        group_size: 1,
      },
      {
        in_channels,
        out_channels: FUSED_CHANNELS,
        stride: 1,
        dilation: 1,
        pad_type: "same",
        layer_scale: false,
      },
    );
    this.norm = new RMSNorm(FUSED_CHANNELS, NORM_EPS);
    this.#resolution = msfa_output_resolution;
  }

  /** Maps [1, height, width, channels] from fine to coarse → [1, ..msfa_output_resolution, 2048]. */
  forward(...maps: readonly Value[]): Value {
    const [, height, width] = maps[0]!.shape as readonly number[];
    const enlarged = maps.map((map) => enlargeNearest(map, [height!, width!]));
    return this.norm.forward(resizeMap(this.ffn.forward(concat(enlarged)), this.#resolution));
  }
}
