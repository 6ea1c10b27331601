import { ConfigError } from "../errors.ts";
import type { Value } from "../graph/graph.ts";
import { geluErf, geluTanh, relu, silu } from "../graph/ops/math.ts";

const ACTIVATIONS: Readonly<Record<string, (x: Value) => Value>> = {
  gelu_pytorch_tanh: geluTanh,
  gelu_new: geluTanh,
  gelu: geluErf,
  silu,
  relu,
};

/** The activation function of HF's name (config key `hidden_activation`). */
export function activation(name: string): (x: Value) => Value {
  const found = Object.hasOwn(ACTIVATIONS, name) ? ACTIVATIONS[name] : undefined;
  if (found === undefined) {
    throw new ConfigError(`unknown activation "${name}"; known are ${Object.keys(ACTIVATIONS).join(", ")}`, {
      key: "hidden_activation",
    });
  }
  return found;
}
