import type { BlockArgs } from "./blocks.ts";
import type { PadType } from "./tower-config.ts";

/** What a block gets from where it stands in the tower. */
export interface BlockPlace {
  readonly in_channels: number;
  readonly out_channels: number;
  /** Of the block's depthwise or widening convolution: 1 where the map is thin enough already. */
  readonly stride: number;
  /** In place of strides that were left out. */
  readonly dilation: number;
  readonly pad_type: PadType;
  readonly layer_scale: boolean;
}

/** Whether a block adds its input to what it computes. */
export function isResidual(
  { noskip }: BlockArgs,
  { in_channels, out_channels, stride }: BlockPlace,
): boolean {
  return !noskip && stride === 1 && in_channels === out_channels;
}

/** Independent parts of a convolution over `channels` with `group_size` channels each; 0 is one part. */
export function groupsOf(group_size: number, channels: number): number {
  return group_size === 0 ? 1 : channels / group_size;
}
