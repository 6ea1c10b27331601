import type { Value } from "../graph/graph.ts";
import { type ConvOptions, conv } from "../graph/ops/conv.ts";
import { inlineWeight } from "./inline.ts";
import { floatWeight } from "./linear.ts";
import { Module, Parameter } from "./module.ts";

export interface ConvModuleOptions extends ConvOptions {
  readonly bias?: boolean;
}

/** A convolution whose weight is the checkpoint's, [out_channels, in_channels / group, ..kernel]; always of plain numbers. */
export class Conv extends Module {
  readonly weight: Parameter;
  readonly bias: Parameter | undefined;
  readonly #options: ConvOptions;

  constructor(
    in_channels: number,
    out_channels: number,
    kernel: readonly number[],
    { bias = false, ...options }: ConvModuleOptions = {},
  ) {
    super();
    this.weight = new Parameter([out_channels, in_channels / (options.group ?? 1), ...kernel], {
      plain: true,
    });
    this.bias = bias ? new Parameter([out_channels]) : undefined;
    this.#options = options;
  }

  /** x [batch, in_channels, ..spatial] → [batch, out_channels, ..spatial]. */
  forward(x: Value): Value {
    const bias = this.bias && inlineWeight(x.graph, this.bias);
    return conv(x, floatWeight(x.graph, this.weight), bias, this.#options);
  }
}
