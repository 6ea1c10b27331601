import { GraphError } from "../errors.ts";
import { Value } from "../graph/graph.ts";
import type { Weight, WeightSource } from "../graph/weights.ts";

/** A weight that a module asks for. Its path among the fields of the modules is its key in the checkpoint. */
export class Parameter {
  readonly shape: readonly number[];
  /** Never quantised: it is more than the matrix of a linear layer or a table. */
  readonly plain: boolean;
  /** A table of which single rows are read: it stays in its file, whatever its size. */
  readonly byRow: boolean;
  path = "";
  #weight: Weight | undefined;

  constructor(
    shape: readonly number[],
    { plain = false, byRow = false }: { readonly plain?: boolean; readonly byRow?: boolean } = {},
  ) {
    this.shape = shape;
    this.plain = plain;
    this.byRow = byRow;
  }

  /** Set by `bind`. */
  get weight(): Weight {
    if (this.#weight === undefined)
      throw new GraphError("the parameter is not bound to a weight", { node: this.path });
    return this.#weight;
  }

  set weight(weight: Weight) {
    if (weight.shape.join() !== this.shape.join()) {
      const shapes = `the checkpoint has [${weight.shape.join(", ")}], the configuration asks for [${this.shape.join(", ")}]`;
      throw new GraphError(shapes, { node: this.path });
    }
    this.#weight = weight;
  }
}

/** A part of a model: fields are parameters, modules and lists of modules; `forward` emits nodes into its inputs' graph. */
export abstract class Module {
  /** Set by `bind`. */
  path = "";

  /** Linear layers of the same input whose weights should lie side by side when they are packed, so that they can run as one. */
  readonly packedTogether: readonly (readonly Parameter[])[] = [];

  /** Whether the weights of this module lose too much in 4 bits: "q4" then keeps 8. */
  readonly sensitive: boolean = false;

  /** Whether the layers of this module always get many rows, as an encoder's do: "q8" then takes another kernel. */
  readonly manyRows: boolean = false;
}

/** Every parameter below `root`, by checkpoint key, in the order of the fields. */
export function namedParameters(root: Module, prefix = ""): Map<string, Parameter> {
  const found = new Map<string, Parameter>();
  walk(root, prefix, (path, field) => {
    if (field instanceof Parameter) found.set(path, field);
  });
  return found;
}

/** Every module below and including `root`, by path. */
export function namedModules(root: Module, prefix = ""): Map<string, Module> {
  const found = new Map<string, Module>([[prefix, root]]);
  walk(root, prefix, (path, field) => {
    if (field instanceof Module) found.set(path, field);
  });
  return found;
}

/**
 * Gives every parameter its path and weight and wraps each `forward` so that the nodes it emits are named after its
 * module. Throws a GraphError that lists all keys which the checkpoint lacks.
 */
export function bind(root: Module, weights: WeightSource): void {
  const missing: string[] = [];
  for (const [path, parameter] of namedParameters(root)) {
    parameter.path = path;
    const weight = weights.get(path);
    if (weight === undefined) missing.push(path);
    else parameter.weight = weight;
  }
  if (missing.length > 0) {
    const shown = missing.slice(0, 5).join(", ");
    throw new GraphError(
      `the checkpoint lacks ${missing.length} tensors: ${shown}${missing.length > 5 ? ", …" : ""}`,
    );
  }
  for (const [path, module] of namedModules(root)) {
    module.path = path;
    scopeForward(module);
  }
}

function walk(
  module: Module,
  prefix: string,
  visit: (path: string, field: Module | Parameter) => void,
): void {
  for (const [name, field] of Object.entries(module)) {
    if (name === "packedTogether") continue;
    const path = prefix === "" ? name : `${prefix}.${name}`;
    for (const [itemPath, item] of listItems(path, field)) {
      if (item instanceof Parameter || item instanceof Module) visit(itemPath, item);
      if (item instanceof Module) walk(item, itemPath, visit);
    }
  }
}

/** A field, or what its list holds, lists of lists included, each with its path. */
function listItems(path: string, field: unknown): [string, unknown][] {
  return Array.isArray(field) ? field.flatMap((item, i) => listItems(`${path}.${i}`, item)) : [[path, field]];
}

function scopeForward(module: Module): void {
  const traced = module as { forward?: (...inputs: unknown[]) => unknown };
  const { forward } = traced;
  if (forward === undefined) return;
  Object.defineProperty(module, "forward", {
    enumerable: false,
    value: (...inputs: unknown[]) => {
      const graph = inputs.find((input) => input instanceof Value)?.graph;
      return graph === undefined
        ? forward.apply(module, inputs)
        : graph.scope(module.path, () => forward.apply(module, inputs));
    },
  });
}
