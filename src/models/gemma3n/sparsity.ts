import type { Value } from "../../graph/graph.ts";
import { meanLast, meanSquareLast, relu, scale, sqrt, sub } from "../../graph/ops/math.ts";
import { normalQuantile } from "../../normal-distribution.ts";

/**
 * Statistical top-k ("SPARK: Sparse Attention and Feed-forward", 2025): what lies above mean + k·std of the last axis,
 * less that bound; k leaves a share of 1 - `sparsity` where values are normally distributed.
 */
export function gaussianTopK(x: Value, sparsity: number): Value {
  const centred = sub(x, meanLast(x));
  const deviation = sqrt(meanSquareLast(centred));
  return relu(sub(centred, scale(deviation, Math.fround(normalQuantile(Math.fround(sparsity))))));
}
