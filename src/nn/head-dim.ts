import type { Value } from "../graph/graph.ts";
import { concatLast, padLast, reshape, sliceLast } from "../graph/ops/shape.ts";

/** The attention kernel with its own rotary takes head sizes in steps of 16; others are padded with zeros up to it. */
export function alignHeadDim(head_dim: number): number {
  return Math.ceil(head_dim / 16) * 16;
}

/**
 * Pads each half of the heads [.., head_dim] to half the aligned size: rotary pairs element i with i + head_dim / 2,
 * so zeros must join each half. Products of queries and keys stay the same.
 */
export function alignRotaryHeads(x: Value): Value {
  const head_dim = x.dim(-1) as number;
  const aligned = alignHeadDim(head_dim);
  if (aligned === head_dim) return x;
  const half = head_dim / 2;
  return concatLast([
    padLast(sliceLast(x, 0, half), aligned / 2),
    padLast(sliceLast(x, half, head_dim), aligned / 2),
  ]);
}

/** Pads values [.., heads*head_dim] head by head: [.., heads*aligned]. */
export function alignValueHeads(x: Value, heads: number, head_dim: number): Value {
  const aligned = alignHeadDim(head_dim);
  if (aligned === head_dim) return x;
  const leading = x.shape.slice(0, -1);
  return reshape(padLast(reshape(x, [...leading, heads, head_dim]), aligned), [...leading, heads * aligned]);
}

/** Takes the padding off attention's output again: [.., heads*aligned] → [.., heads*head_dim]. */
export function unalignHeads(x: Value, heads: number, head_dim: number): Value {
  const aligned = alignHeadDim(head_dim);
  if (aligned === head_dim) return x;
  const leading = x.shape.slice(0, -1);
  return reshape(sliceLast(reshape(x, [...leading, heads, aligned]), 0, head_dim), [
    ...leading,
    heads * head_dim,
  ]);
}
