import type { Value } from "../graph.ts";
import { add, mul } from "./math.ts";
import { split } from "./shape.ts";

/** Codes of inputs are bytes around this one. */
const ZERO = 128;
/** Steps from 0 to the largest input. */
const STEPS = 127;
/** A scale that is no number would come of a row of zeros. */
const SMALLEST = 1e-30;

/**
 * x [.., K] times a weight in 8 bits (com.microsoft.MatMulIntegerToFloat), x rounded to 8 bits with a scale of its own
 * for each row, so that a row's result does not depend on its neighbours. `parts` are int8 [columns of x, N], which
 * together have K rows: each part of a row gets its own scale. `scales` float32 [N].
 */
export function linearInt8(x: Value, parts: readonly Value[], scales: Value): Value {
  const sizes = parts.map((part) => part.dim(0) as number);
  if (sizes.reduce((sum, size) => sum + size, 0) !== x.dim(-1))
    x.graph.fail(`the weight of ${sizes.join(" + ")} inputs does not fit ${x}`);
  const inputs = parts.length === 1 ? [x] : split(x, sizes);
  return inputs.map((input, i) => multiply(input, parts[i]!, scales)).reduce(add);
}

function multiply(x: Value, codes: Value, scales: Value): Value {
  const { graph } = x;
  const one = graph.constant("float32", [1], []);
  const zero = graph.initializer("constant.uint8.zero", "uint8", [], Uint8Array.of(ZERO));
  const scale = rowScales(x);
  const steps = graph.emit("Div", [x, scale], [x])[0]!;
  const rounded = graph.emit("QuantizeLinear", [steps, one, zero], [{ dtype: "uint8", shape: x.shape }])[0]!;
  const output = { dtype: x.dtype, shape: [...x.shape.slice(0, -1), codes.dim(1)] };
  const [product] = graph.emit(
    "MatMulIntegerToFloat",
    [rounded, codes, one, scales, zero],
    [output],
    {},
    { domain: "com.microsoft" },
  );
  return mul(product!, scale);
}

/** What one step of a row's codes stands for: [.., 1]. */
function rowScales(x: Value): Value {
  const { graph } = x;
  const output = { dtype: x.dtype, shape: [...x.shape.slice(0, -1), 1] };
  const sizes = graph.emit("Abs", [x], [x])[0]!;
  const largest = graph.emit("ReduceMax", [sizes, graph.constant("int64", [-1])], [output], {
    keepdims: 1,
  })[0]!;
  const step = mul(largest, graph.constant("float32", [1 / STEPS], []));
  return graph.emit("Max", [step, graph.constant("float32", [SMALLEST], [])], [output])[0]!;
}
