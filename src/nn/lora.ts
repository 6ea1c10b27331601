/**
 * LoRA beside a layer ("LoRA: Low-Rank Adaptation of Large Language Models", 2021). The two matrices are inputs of
 * the graph, of any rank: one session serves every adapter of the same layers, and its weights are in memory once.
 */
import type { Dim } from "../graph/dims.ts";
import type { Graph, Value } from "../graph/graph.ts";
import { add, linear } from "../graph/ops/math.ts";
import { gather } from "../graph/ops/shape.ts";

/** The graph's inputs for the layer at `path`: A is [rank, in], of a table [rows, rank]; B [out, rank]. */
export function loraInputs(path: string): { readonly A: string; readonly B: string } {
  return { A: `${path}.lora_A`, B: `${path}.lora_B` };
}

/** y + (x · Aᵀ) · Bᵀ; B includes the adapter's scale. */
export function addLowRank(x: Value, y: Value, path: string): Value {
  return x.graph.scope(path, () => {
    const rank = rankOf(path);
    const A = x.graph.input(loraInputs(path).A, "float32", [rank, x.dim(-1)]);
    return add(y, linear(linear(x, A), inputB(x.graph, path, y.dim(-1))));
  });
}

/** The same for rows of a table, looked up by `ids`. */
export function addLowRankRows(ids: Value, rows: Value, path: string): Value {
  return ids.graph.scope(path, () => {
    const A = ids.graph.input(loraInputs(path).A, "float32", [`${path}.rows`, rankOf(path)]);
    return add(rows, linear(gather(A, ids), inputB(ids.graph, path, rows.dim(-1))));
  });
}

function inputB(graph: Graph, path: string, out: Dim): Value {
  return graph.input(loraInputs(path).B, "float32", [out, rankOf(path)]);
}

function rankOf(path: string): Dim {
  return `${path}.rank`;
}
