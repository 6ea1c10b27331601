/** The conformer block of the Universal Speech Model: half a feed-forward layer, attention, convolution, the other half. */
import type { Value } from "../../../graph/graph.ts";
import { add, clip, mul, scale, sigmoid, silu } from "../../../graph/ops/math.ts";
import { split, transpose } from "../../../graph/ops/shape.ts";
import { Conv } from "../../../nn/conv.ts";
import { Linear } from "../../../nn/linear.ts";
import { Module } from "../../../nn/module.ts";
import { RMSNorm } from "../../../nn/rms-norm.ts";
import type { Gemma3nAudioConfig } from "../audio-config.ts";
import { Gemma3nAudioConformerAttention, NORM_EPS } from "./attention.ts";
import { type AudioContext, placesOf } from "./context.ts";

export class Gemma3nAudioConformerFeedForward extends Module {
  readonly pre_layer_norm: RMSNorm;
  readonly ffw_layer_1: Linear;
  readonly ffw_layer_2: Linear;
  readonly post_layer_norm: RMSNorm;
  readonly #config: Gemma3nAudioConfig;

  constructor(config: Gemma3nAudioConfig) {
    super();
    const { hidden_size } = config;
    this.pre_layer_norm = new RMSNorm(hidden_size, NORM_EPS);
    this.ffw_layer_1 = new Linear(hidden_size, 4 * hidden_size);
    this.ffw_layer_2 = new Linear(4 * hidden_size, hidden_size, { rounding: "columns" });
    this.post_layer_norm = new RMSNorm(hidden_size, NORM_EPS);
    this.#config = config;
  }

  forward(x: Value): Value {
    const { gradient_clipping, conf_residual_weight } = this.#config;
    const normed = this.pre_layer_norm.forward(clip(x, gradient_clipping));
    const wide = this.ffw_layer_2.forward(silu(this.ffw_layer_1.forward(normed)));
    const result = this.post_layer_norm.forward(clip(wide, gradient_clipping));
    return add(x, scale(result, conf_residual_weight));
  }
}

/** A gated linear unit, a convolution of each channel over the steps up to now, and a projection. */
export class Gemma3nAudioConformerLightConv1d extends Module {
  readonly pre_layer_norm: RMSNorm;
  readonly linear_start: Linear;
  readonly depthwise_conv1d: Conv;
  readonly conv_norm: RMSNorm;
  readonly linear_end: Linear;
  readonly #config: Gemma3nAudioConfig;

  constructor(config: Gemma3nAudioConfig) {
    super();
    const { hidden_size, conf_conv_kernel_size: kernel, rms_norm_eps } = config;
    this.pre_layer_norm = new RMSNorm(hidden_size, rms_norm_eps);
    this.linear_start = new Linear(hidden_size, 2 * hidden_size);
    this.depthwise_conv1d = new Conv(hidden_size, hidden_size, [kernel], {
      pads: [kernel - 1, 0],
      group: hidden_size,
      outputSizes: [placesOf(config)],
    });
    this.conv_norm = new RMSNorm(hidden_size, rms_norm_eps);
    this.linear_end = new Linear(hidden_size, hidden_size);
    this.#config = config;
  }

  forward(x: Value): Value {
    const { hidden_size, gradient_clipping } = this.#config;
    const both = this.linear_start.forward(this.pre_layer_norm.forward(x));
    const [value, gate] = split(both, [hidden_size, hidden_size]) as [Value, Value];
    const byChannel = transpose(mul(value, sigmoid(gate)), [0, 2, 1]); // [batch, hidden_size, places]
    const convolved = transpose(this.depthwise_conv1d.forward(byChannel), [0, 2, 1]);
    const normed = this.conv_norm.forward(clip(convolved, gradient_clipping));
    return add(this.linear_end.forward(silu(normed)), x);
  }
}

export class Gemma3nAudioConformerBlock extends Module {
  readonly ffw_layer_start: Gemma3nAudioConformerFeedForward;
  readonly attention: Gemma3nAudioConformerAttention;
  readonly lconv1d: Gemma3nAudioConformerLightConv1d;
  readonly ffw_layer_end: Gemma3nAudioConformerFeedForward;
  readonly norm: RMSNorm;
  readonly #bound: number;

  constructor(config: Gemma3nAudioConfig) {
    super();
    this.ffw_layer_start = new Gemma3nAudioConformerFeedForward(config);
    this.attention = new Gemma3nAudioConformerAttention(config);
    this.lconv1d = new Gemma3nAudioConformerLightConv1d(config);
    this.ffw_layer_end = new Gemma3nAudioConformerFeedForward(config);
    this.norm = new RMSNorm(config.hidden_size, NORM_EPS);
    this.#bound = config.gradient_clipping;
  }

  /** x [batch, places, hidden_size] */
  forward(x: Value, context: AudioContext): Value {
    const attended = this.attention.forward(this.ffw_layer_start.forward(x), context);
    const convolved = this.lconv1d.forward(mul(attended, context.valid));
    return this.norm.forward(clip(this.ffw_layer_end.forward(convolved), this.#bound));
  }
}
