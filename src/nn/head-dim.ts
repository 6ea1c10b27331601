import type { Value } from "../graph/graph.ts";
import { concat, padLast, reshape, sliceLast } from "../graph/ops/shape.ts";

/** The attention kernel with its own rotary takes head sizes in steps of 16; others are padded with zeros up to it. */
export function alignHeadDim(head_dim: number): number {
  return Math.ceil(head_dim / 16) * 16;
}

/**
 * Pads queries or keys [.., heads*head_dim] head by head: [.., heads*aligned]. Each half of a head is padded to half
 * the aligned size: rotary pairs element i with i + head_dim / 2, so zeros must join each half. Products of queries
 * and keys stay the same.
 */
export function alignRotaryHeads(x: Value, heads: number, head_dim: number): Value {
  const half = head_dim / 2;
  const pad = (part: Value): Value => padLast(part, alignHeadDim(head_dim) / 2);
  return mapHeads(x, heads, head_dim, alignHeadDim(head_dim), (split) =>
    concat([pad(sliceLast(split, 0, half)), pad(sliceLast(split, half, head_dim))]),
  );
}

/** Pads values [.., heads*head_dim] head by head: [.., heads*aligned]. */
export function alignValueHeads(x: Value, heads: number, head_dim: number): Value {
  const aligned = alignHeadDim(head_dim);
  return mapHeads(x, heads, head_dim, aligned, (split) => padLast(split, aligned));
}

/** Takes the padding off attention's output again: [.., heads*aligned] → [.., heads*head_dim]. */
export function unalignHeads(x: Value, heads: number, head_dim: number): Value {
  return mapHeads(x, heads, alignHeadDim(head_dim), head_dim, (split) => sliceLast(split, 0, head_dim));
}

/** Lets `map` change the size of each head, from [.., heads*before] to [.., heads*after]. */
function mapHeads(
  x: Value,
  heads: number,
  before: number,
  after: number,
  map: (split: Value) => Value,
): Value {
  if (before === after) return x;
  const leading = x.shape.slice(0, -1);
  return reshape(map(reshape(x, [...leading, heads, before])), [...leading, heads * after]);
}
