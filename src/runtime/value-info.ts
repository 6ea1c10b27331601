/** What a model says about its inputs and outputs, and the checks of bound values against it. */
import { InputError, nearestName } from "../errors.ts";
import { describeTensor } from "./element-types.ts";
import type { HostTensor, RuntimeValue, ValueInfo } from "./session.ts";

/** Which side of a graph a name is on, as messages say it. */
type Side = "input" | "output";

/** "float32[batch, 640]", as messages show what a model declares. */
function describeInfo(info: ValueInfo): string {
  const dims = info.dims?.map((dim) => (dim === undefined ? "?" : String(dim))).join(", ") ?? "...";
  return `${info.type ?? "unknown type"}[${dims}]`;
}

/** Throws an InputError unless the names are known, none is missing and every tensor suits its declaration. */
export function checkBinding(
  inputs: readonly ValueInfo[],
  outputs: readonly ValueInfo[],
  bound: {
    readonly inputs: Readonly<Record<string, RuntimeValue>>;
    readonly outputs: Readonly<Record<string, RuntimeValue>>;
  },
): void {
  checkSide("input", inputs, bound.inputs);
  checkSide("output", outputs, bound.outputs);
  const missing = inputs.filter((info) => bound.inputs[info.name] === undefined);
  if (missing.length > 0) {
    throw new InputError(`bind: missing inputs: ${missing.map(declaration).join(", ")}`, {
      option: missing[0]!.name,
    });
  }
}

function checkSide(
  side: Side,
  declared: readonly ValueInfo[],
  values: Readonly<Record<string, RuntimeValue>>,
): void {
  const byName = new Map(declared.map((info) => [info.name, info]));
  for (const [name, value] of Object.entries(values)) {
    const info = byName.get(name);
    if (info === undefined) throw unknownName(side, name, byName.keys());
    if (!fits(info, value.tensor)) {
      throw new InputError(
        `bind: ${side} "${name}": expected ${describeInfo(info)}, got ${describeTensor(value.tensor)}`,
        { option: name },
      );
    }
  }
}

function unknownName(side: Side, name: string, known: Iterable<string>): InputError {
  const names = [...known];
  const near = nearestName(name, names);
  const hint = near === undefined ? `; the graph has ${names.join(", ")}` : `; did you mean "${near}"?`;
  return new InputError(`bind: the graph has no ${side} "${name}"${hint}`, { option: name });
}

function fits(info: ValueInfo, tensor: HostTensor): boolean {
  if (info.type !== tensor.type) return false;
  if (info.dims === undefined) return true;
  if (info.dims.length !== tensor.dims.length) return false;
  return info.dims.every((dim, axis) => typeof dim !== "number" || dim === tensor.dims[axis]);
}

function declaration(info: ValueInfo): string {
  return `${info.name} ${describeInfo(info)}`;
}
