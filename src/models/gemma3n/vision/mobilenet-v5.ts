/**
 * MobileNet-V5's encoder, the eye of Gemma 3n (timm's `mobilenetv5_300m_enc`; its blocks are MobileNet-V4's, 2024).
 * What is special: a convolutional tower of 300 million weights whose later stages are attention and feed-forward
 * layers of pixels; RMS norms over channels; the last two scales fused into one grid of tokens.
 */
import type { Value } from "../../../graph/graph.ts";
import { geluTanh } from "../../../graph/ops/math.ts";
import { transpose } from "../../../graph/ops/shape.ts";
import { Module } from "../../../nn/module.ts";
import { RMSNorm } from "../../../nn/rms-norm.ts";
import type { BlockPlace } from "./block-place.ts";
import type { BlockArgs } from "./blocks.ts";
import { NORM_EPS } from "./conv-norm-act.ts";
import { EdgeResidual } from "./edge-residual.ts";
import { FusionAdapter } from "./fusion-adapter.ts";
import { MobileAttention } from "./mobile-attention.ts";
import { SpatialConv } from "./spatial-conv.ts";
import { roundChannels, type TowerConfig } from "./tower-config.ts";
import { UniversalInvertedResidual } from "./universal-inverted-residual.ts";

/** Maps are never thinner than the image by more than this; further strides become dilations. */
const OUTPUT_STRIDE = 32;

type Block = EdgeResidual | UniversalInvertedResidual | MobileAttention;

/** The first convolution: pixels [1, in_chans, height, width] to a map of half the size. */
class Stem extends Module {
  readonly conv: SpatialConv;
  readonly bn: RMSNorm;

  constructor({ in_chans, stem_size, stem_bias, pad_type }: TowerConfig) {
    super();
    this.conv = new SpatialConv(in_chans, stem_size, { kernel: 3, stride: 2, pad_type, bias: stem_bias });
    this.bn = new RMSNorm(stem_size, NORM_EPS);
  }

  forward(pixels: Value): Value {
    return geluTanh(this.bn.forward(transpose(this.conv.planes(pixels), [0, 2, 3, 1])));
  }
}

export interface TowerOutput {
  /** [1, ..msfa_output_resolution, 2048] */
  readonly fused: Value;
  /** [1, height, width, channels] of the stem, then of each stage. */
  readonly maps: readonly Value[];
}

export class MobileNetV5Encoder extends Module {
  override readonly manyRows = true;
  readonly conv_stem: Stem;
  readonly blocks: readonly (readonly Block[])[];
  readonly msfa: FusionAdapter;
  readonly #fused: readonly number[];

  constructor(config: TowerConfig) {
    super();
    this.conv_stem = new Stem(config);
    const places = placeBlocks(config);
    this.blocks = places.map((stage) => stage.map(([block, place]) => makeBlock(block, place)));
    const channels = [config.stem_size, ...places.map((stage) => stage.at(-1)![1].out_channels)];
    this.#fused = config.msfa_indices;
    this.msfa = new FusionAdapter(
      this.#fused.reduce((sum, index) => sum + channels[index]!, 0),
      config,
    );
  }

  /** pixel_values float32 [1, in_chans, height, width], sizes known. */
  forward(pixel_values: Value): TowerOutput {
    const maps = [this.conv_stem.forward(pixel_values)];
    for (const stage of this.blocks)
      maps.push(stage.reduce((map: Value, block) => block.forward(map), maps.at(-1)!));
    return { fused: this.msfa.forward(...this.#fused.map((index) => maps[index]!)), maps };
  }
}

function makeBlock(block: BlockArgs, place: BlockPlace): Block {
  switch (block.block_type) {
    case "er":
      return new EdgeResidual(block, place);
    case "uir":
      return new UniversalInvertedResidual(block, place);
    case "mqa":
      return new MobileAttention(block, place);
  }
}

/** Each block with the channels, stride and dilation that those before it leave. */
function placeBlocks({ stages, stem_size, pad_type }: TowerConfig): [BlockArgs, BlockPlace][][] {
  let [in_channels, reduction, dilation] = [stem_size, 2, 1];
  return stages.map((blocks) =>
    blocks.map((block) => {
      const isThin = reduction * block.stride > OUTPUT_STRIDE;
      const stride = isThin ? 1 : block.stride;
      const out_channels = roundChannels(block.out_chs);
      const place = { in_channels, out_channels, stride, dilation, pad_type, layer_scale: true };
      // The block that would have thinned the map still has the dilation of those before it.
      if (isThin) dilation *= block.stride;
      reduction *= stride;
      in_channels = out_channels;
      return [block, place];
    }),
  );
}
