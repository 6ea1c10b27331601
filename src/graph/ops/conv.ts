import type { Dim } from "../dims.ts";
import type { Graph, Value } from "../graph.ts";

export interface ConvOptions {
  /** One number for each spatial axis. */
  readonly strides?: readonly number[];
  /** Zeros before each spatial axis, then after each: [top, left, bottom, right]. */
  readonly pads?: readonly number[];
  /** Distance between the pixels that neighbouring weights see, for each spatial axis. */
  readonly dilations?: readonly number[];
  /** Channels in so many independent parts; as many as channels: depthwise. */
  readonly group?: number;
  /** Names of the output's spatial sizes, where the input's are symbols. */
  readonly outputSizes?: readonly Dim[];
}

/** Convolution: x [batch, in, ..spatial], weight [out, in / group, ..kernel], bias [out] → [batch, out, ..spatial]. */
export function conv(
  x: Value,
  weight: Value,
  bias: Value | undefined,
  { strides, pads, dilations, group = 1, outputSizes }: ConvOptions = {},
): Value {
  const graph: Graph = x.graph;
  const kernel = weight.shape.slice(2);
  if (x.rank !== weight.rank || Number(weight.dim(1)) * group !== x.dim(1))
    graph.fail(`a convolution by ${weight} in ${group} groups does not fit ${x}`);
  const spatial = kernel.map((size, i) => {
    const given = x.dim(i + 2);
    if (typeof given !== "number") return outputSizes?.[i] ?? graph.fail(`the size ${given} of ${x} is open`);
    const padded = given + (pads?.[i] ?? 0) + (pads?.[i + kernel.length] ?? 0);
    const reach = (dilations?.[i] ?? 1) * (Number(size) - 1);
    if (padded <= reach) graph.fail(`${x} is too small for a convolution by ${weight}`);
    return Math.floor((padded - reach - 1) / (strides?.[i] ?? 1)) + 1;
  });
  const output = { dtype: x.dtype, shape: [x.dim(0), weight.dim(0), ...spatial] };
  const attributes = { kernel_shape: kernel.map(Number), strides, pads, dilations, group };
  return graph.emit("Conv", [x, weight, bias], [output], attributes)[0]!;
}

/** Means of windows that lie side by side: x [batch, channels, height, width], numbers that are known. What is left over at the ends is dropped. */
export function averagePool(x: Value, kernel: number): Value {
  const sizes = [x.dim(2), x.dim(3)];
  if (sizes.some((size) => typeof size !== "number" || size < kernel))
    x.graph.fail(`cannot average ${x} over windows of ${kernel}`);
  const spatial = sizes.map((size) => Math.floor(Number(size) / kernel));
  const output = { dtype: x.dtype, shape: [...x.shape.slice(0, 2), ...spatial] };
  const window = [kernel, kernel];
  return x.graph.emit("AveragePool", [x], [output], { kernel_shape: window, strides: window })[0]!;
}
