import type { Value } from "../../../graph/graph.ts";
import { conv } from "../../../graph/ops/conv.ts";
import { transpose } from "../../../graph/ops/shape.ts";
import { inlineWeight } from "../../../nn/inline.ts";
import { floatWeight, Linear } from "../../../nn/linear.ts";
import { Module, Parameter } from "../../../nn/module.ts";
import type { PadType } from "./tower-config.ts";

export interface SpatialConvOptions {
  readonly kernel: number;
  readonly pad_type: PadType;
  readonly stride?: number;
  readonly dilation?: number;
  /** Channels in so many independent parts; as many as channels: depthwise. */
  readonly groups?: number;
  readonly bias?: boolean;
}

/**
 * A square convolution of a map [1, height, width, in_channels]. Maps have their channels last, where norms and 1x1
 * convolutions, which are most of the work, are a norm and a multiplication of rows; the engine wants planes here.
 */
export class SpatialConv extends Module {
  readonly weight: Parameter;
  readonly bias: Parameter | undefined;
  readonly #options: SpatialConvOptions;

  constructor(in_channels: number, out_channels: number, options: SpatialConvOptions) {
    super();
    const { kernel, groups = 1, bias = false } = options;
    this.weight = new Parameter([out_channels, in_channels / groups, kernel, kernel], { plain: true });
    this.bias = bias ? new Parameter([out_channels]) : undefined;
    this.#options = options;
  }

  forward(x: Value): Value {
    return transpose(this.planes(transpose(x, [0, 3, 1, 2])), [0, 2, 3, 1]);
  }

  /** The same of planes, [1, channels, height, width]. */
  planes(x: Value): Value {
    const { kernel, stride = 1, dilation = 1, groups = 1, pad_type } = this.#options;
    const pads = [x.dim(2), x.dim(3)].map((size) =>
      padding(Number(size), kernel, stride, dilation, pad_type),
    );
    return conv(x, floatWeight(x.graph, this.weight), this.bias && inlineWeight(x.graph, this.bias), {
      strides: [stride, stride],
      dilations: [dilation, dilation],
      pads: [...pads.map(([before]) => before), ...pads.map(([, after]) => after)],
      group: groups,
    });
  }
}

/** A convolution of a map [1, height, width, in_channels]: of kernel 1 without a stride it is a linear layer. */
export function convolution(
  in_channels: number,
  out_channels: number,
  options: SpatialConvOptions,
): SpatialConv | Linear {
  const { kernel, stride = 1, groups = 1, bias = false } = options;
  return kernel === 1 && stride === 1 && groups === 1
    ? new Linear(in_channels, out_channels, { bias })
    : new SpatialConv(in_channels, out_channels, options);
}

/** Zeros before and after an axis of `size` pixels. */
function padding(
  size: number,
  kernel: number,
  stride: number,
  dilation: number,
  pad_type: PadType,
): [number, number] {
  const reach = dilation * (kernel - 1);
  if (pad_type === "valid") return [0, 0];
  if (pad_type === "") {
    const side = Math.floor((stride - 1 + reach) / 2);
    return [side, side];
  }
  // As in TensorFlow: ceil(size / stride) pixels come out, and where the zeros are odd in number the end has one more.
  const total = Math.max(0, (Math.ceil(size / stride) - 1) * stride + reach + 1 - size);
  return [Math.floor(total / 2), Math.ceil(total / 2)];
}
