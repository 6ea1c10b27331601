import type { Value } from "../graph/graph.ts";
import { reshape } from "../graph/ops/shape.ts";

/** Norms each head: [batch, seq, heads*head_dim] → the same. */
export function normHeads(
  x: Value,
  norm: { forward(x: Value): Value },
  heads: number,
  head_dim: number,
): Value {
  if (heads === 1) return norm.forward(x);
  return reshape(norm.forward(reshape(x, [...x.shape.slice(0, -1), heads, head_dim])), x.shape);
}
