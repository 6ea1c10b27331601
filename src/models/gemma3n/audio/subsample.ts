/** The first part of the encoder: two convolutions over time and frequency, which make one step of several frames. */
import type { Dim } from "../../../graph/dims.ts";
import type { Value } from "../../../graph/graph.ts";
import { cumulativeSum, onesLike, sumOver } from "../../../graph/ops/cumulative.ts";
import { add, div, mul, relu, scale, sqrt, sub } from "../../../graph/ops/math.ts";
import { reshape, transpose } from "../../../graph/ops/shape.ts";
import { Conv } from "../../../nn/conv.ts";
import { inlineWeight } from "../../../nn/inline.ts";
import { Linear } from "../../../nn/linear.ts";
import { Module, Parameter } from "../../../nn/module.ts";
import type { Gemma3nAudioConfig } from "../audio-config.ts";
import { FRAMES, STEPS } from "./context.ts";

/**
 * Norm by the mean and the variance of everything up to a step, all channels and frequencies together, times a weight
 * for each channel. Padding counts like sound.
 */
export class Gemma3nAudioCumulativeGroupNorm extends Module {
  readonly weight: Parameter;
  readonly #eps: number;

  constructor(num_channels: number, eps: number) {
    super();
    this.weight = new Parameter([num_channels]);
    this.#eps = eps;
  }

  /** x [batch, channels, steps, frequencies] */
  forward(x: Value): Value {
    const [channels, frequencies] = [Number(x.dim(1)), Number(x.dim(3))];
    const upToNow = (values: Value): Value => cumulativeSum(sumOver(values, [1, 3]), 2);
    const sum = upToNow(x); // [batch, 1, steps, 1]
    const count = scale(cumulativeSum(onesLike(sum), 2), channels * frequencies);
    const distance = sub(x, div(sum, count));
    // Each step's distance is from its own mean, as it was then.
    const variance = div(upToNow(mul(distance, distance)), count);
    const epsilon = x.graph.constant("float32", [this.#eps], []);
    const normed = div(distance, sqrt(add(variance, epsilon)));
    return mul(normed, reshape(inlineWeight(x.graph, this.weight), [channels, 1, 1]));
  }
}

export class Gemma3nAudioSSCPConvBlock extends Module {
  readonly conv: Conv;
  readonly norm: Gemma3nAudioCumulativeGroupNorm;

  constructor(config: Gemma3nAudioConfig, index: number, outputTime: Dim) {
    super();
    const channels = config.sscp_conv_channel_size;
    const [time, frequency] = config.sscp_conv_kernel_size[index]!;
    this.conv = new Conv(index === 0 ? 1 : channels[index - 1]!, channels[index]!, [time, frequency], {
      strides: config.sscp_conv_stride_size[index]!,
      // Ahead in time, and one zero at both ends of the frequencies, whatever the kernel.
      pads: [0, 1, time - 1, 1],
      outputSizes: [outputTime, config.frequencies[index]!],
    });
    this.norm = new Gemma3nAudioCumulativeGroupNorm(channels[index]!, config.sscp_conv_group_norm_eps);
  }

  forward(x: Value): Value {
    return relu(this.norm.forward(this.conv.forward(x)));
  }
}

export class Gemma3nAudioSubSampleConvProjection extends Module {
  readonly conv_0: Gemma3nAudioSSCPConvBlock;
  readonly conv_1: Gemma3nAudioSSCPConvBlock;
  readonly input_proj_linear: Linear;

  constructor(config: Gemma3nAudioConfig) {
    super();
    this.conv_0 = new Gemma3nAudioSSCPConvBlock(config, 0, "half_steps");
    this.conv_1 = new Gemma3nAudioSSCPConvBlock(config, 1, STEPS);
    const width = config.sscp_conv_channel_size[1]! * config.frequencies[1]!;
    this.input_proj_linear = new Linear(width, config.hidden_size);
  }

  /** input_features [batch, frames, input_feat_size] → [batch, steps, hidden_size]. */
  forward(input_features: Value): Value {
    const [batch, , bands] = input_features.shape as [Dim, Dim, Dim];
    const convolved = this.conv_1.forward(
      this.conv_0.forward(reshape(input_features, [batch, 1, FRAMES, bands])),
    );
    const byStep = transpose(convolved, [0, 2, 3, 1]); // [batch, steps, frequencies, channels]
    const width = Number(byStep.dim(2)) * Number(byStep.dim(3));
    return this.input_proj_linear.forward(reshape(byStep, [batch, STEPS, width]));
  }
}
