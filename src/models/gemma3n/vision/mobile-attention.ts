import { productOf } from "../../../graph/dims.ts";
import type { Value } from "../../../graph/graph.ts";
import { add, linear, matmul, scale, softmax } from "../../../graph/ops/math.ts";
import { reshape } from "../../../graph/ops/shape.ts";
import { Linear, linearGroup } from "../../../nn/linear.ts";
import { Module, type Parameter } from "../../../nn/module.ts";
import { RMSNorm } from "../../../nn/rms-norm.ts";
import { type BlockPlace, isResidual } from "./block-place.ts";
import type { MobileAttentionBlock } from "./blocks.ts";
import { NORM_EPS } from "./conv-norm-act.ts";
import { LayerScale } from "./layer-scale.ts";
import { SpatialConv } from "./spatial-conv.ts";

/** Keys or values of a map, or of a thinned one. */
class KeyValueProjection extends Module {
  readonly down_conv: SpatialConv | undefined;
  readonly norm: RMSNorm | undefined;
  readonly proj: Linear;

  constructor(
    { kv_stride, dw_kernel_size }: MobileAttentionBlock,
    { in_channels, dilation, pad_type }: BlockPlace,
    dim: number,
  ) {
    super();
    if (kv_stride > 1) {
      const options = { kernel: dw_kernel_size, stride: kv_stride, dilation, groups: in_channels, pad_type };
      this.down_conv = new SpatialConv(in_channels, in_channels, options);
      this.norm = new RMSNorm(in_channels, NORM_EPS);
    }
    this.proj = new Linear(in_channels, dim);
  }

  forward(x: Value): Value {
    const thinned = this.down_conv === undefined ? x : this.norm!.forward(this.down_conv.forward(x));
    return this.proj.forward(thinned);
  }
}

/** A 1x1 convolution that timm keeps one level down. */
class Projection extends Module {
  readonly proj: Linear;

  constructor(in_channels: number, out_channels: number) {
    super();
    this.proj = new Linear(in_channels, out_channels);
  }

  forward(x: Value): Value {
    return this.proj.forward(x);
  }
}

/** Many query heads over one head of keys and values (Shazeer, "Fast Transformer Decoding", 2019). */
class MultiQueryAttention extends Module {
  readonly query: Projection;
  readonly key: KeyValueProjection;
  readonly value: KeyValueProjection;
  readonly output: Projection;
  override readonly packedTogether: readonly (readonly Parameter[])[];
  readonly #block: MobileAttentionBlock;

  constructor(block: MobileAttentionBlock, place: BlockPlace) {
    super();
    const { num_heads, key_dim, value_dim, kv_stride } = block;
    this.query = new Projection(place.in_channels, num_heads * key_dim);
    this.key = new KeyValueProjection(block, place, key_dim);
    this.value = new KeyValueProjection(block, place, value_dim);
    this.output = new Projection(num_heads * value_dim, place.out_channels);
    const layers = [this.query.proj, this.key.proj, this.value.proj];
    this.packedTogether = kv_stride > 1 ? [] : [layers.map(({ weight }) => weight)];
    this.#block = block;
  }

  forward(x: Value): Value {
    const { num_heads, key_dim, value_dim } = this.#block;
    const [query, key, value] = this.#project(x);
    const map = x.shape.slice(0, 3);
    // As there is one head of keys, the heads of all pixels are rows of one matrix.
    const rows = [productOf([...map, num_heads]), key_dim];
    const keys = scale(pixels(key, key_dim), key_dim ** -0.5);
    const weights = softmax(linear(reshape(query, rows), keys)); // [pixels * heads, keys]
    const heads = matmul(weights, pixels(value, value_dim));
    return this.output.forward(reshape(heads, [...map, num_heads * value_dim]));
  }

  #project(x: Value): [Value, Value, Value] {
    if (this.#block.kv_stride > 1) return [this.query.forward(x), this.key.forward(x), this.value.forward(x)];
    return linearGroup(x, [this.query.proj, this.key.proj, this.value.proj]) as [Value, Value, Value];
  }
}

/** A map [1, height, width, channels] as [pixels, channels]. */
function pixels(x: Value, channels: number): Value {
  return reshape(x, [productOf(x.shape.slice(0, 3)), channels]);
}

/** Attention among the pixels of a map, without positions: the depthwise convolutions before it tell where they are. */
export class MobileAttention extends Module {
  readonly norm: RMSNorm;
  readonly attn: MultiQueryAttention;
  readonly layer_scale: LayerScale | undefined;
  readonly #residual: boolean;

  constructor(block: MobileAttentionBlock, place: BlockPlace) {
    super();
    this.norm = new RMSNorm(place.in_channels, NORM_EPS);
    this.attn = new MultiQueryAttention(block, place);
    this.layer_scale = place.layer_scale ? new LayerScale(place.out_channels) : undefined;
    this.#residual = isResidual(block, place);
  }

  forward(x: Value): Value {
    const attention = this.attn.forward(this.norm.forward(x));
    const out = this.layer_scale?.forward(attention) ?? attention;
    return this.#residual ? add(out, x) : out;
  }
}
