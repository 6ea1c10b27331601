import type { Value } from "../graph/graph.ts";
import { mul } from "../graph/ops/math.ts";
import { activation } from "./activations.ts";
import { Linear, linearGroup } from "./linear.ts";
import { Module, type Parameter } from "./module.ts";

/** Gated feed-forward layer: down(act(gate(x)) · up(x)); with a GELU, GeGLU (Shazeer, "GLU Variants Improve Transformer"). */
export class GatedMLP extends Module {
  readonly gate_proj: Linear;
  readonly up_proj: Linear;
  readonly down_proj: Linear;
  override readonly packedTogether: readonly (readonly Parameter[])[];
  readonly #activation: (x: Value) => Value;

  /** `hidden_act`: HF's name of the activation, or what else is done to the gate. */
  constructor(hidden_size: number, intermediate_size: number, hidden_act: string | ((gate: Value) => Value)) {
    super();
    this.gate_proj = new Linear(hidden_size, intermediate_size);
    this.up_proj = new Linear(hidden_size, intermediate_size);
    // Its inputs, products of two layers, have the largest outliers.
    this.down_proj = new Linear(intermediate_size, hidden_size, { rounding: "columns" });
    this.packedTogether = [[this.gate_proj.weight, this.up_proj.weight]];
    this.#activation = typeof hidden_act === "string" ? activation(hidden_act) : hidden_act;
  }

  forward(x: Value): Value {
    const [gate, up] = linearGroup(x, [this.gate_proj, this.up_proj]) as [Value, Value];
    return this.down_proj.forward(mul(this.#activation(gate), up));
  }
}
