import { GraphError } from "../errors.ts";
import { type Dim, formatShape, type Shape } from "./dims.ts";
import type { DType } from "./element-types.ts";
import type { FileRange } from "./weights.ts";

export type { DType };

export type AttributeValue = number | string | readonly number[] | { readonly float: number };
export type Attributes = Readonly<Record<string, AttributeValue | undefined>>;

/** A tensor of a graph while it is traced: a name, a dtype and a shape. */
export class Value {
  readonly graph: Graph;
  readonly name: string;
  readonly dtype: DType;
  readonly shape: Shape;

  constructor(graph: Graph, name: string, dtype: DType, shape: Shape) {
    this.graph = graph;
    this.name = name;
    this.dtype = dtype;
    this.shape = shape;
  }

  get rank(): number {
    return this.shape.length;
  }

  /** Dimension `axis`, counted from the end when negative. */
  dim(axis: number): Dim {
    const dim = this.shape.at(axis);
    if (dim === undefined) this.graph.fail(`${this} has no axis ${axis}`);
    return dim;
  }

  /** `float32[batch, seq, 640]`, for messages. */
  toString(): string {
    return `${this.dtype}${formatShape(this.shape)}`;
  }
}

export interface Node {
  readonly op: string;
  readonly domain: string;
  readonly name: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly attributes: Attributes;
}

/** A constant of the graph: bytes inside it, or a range of a file outside. */
export interface Initializer {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly data: Uint8Array | FileRange;
  /** Only single rows are ever read. */
  readonly byRow: boolean;
}

export interface TypedName {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: Shape;
}

/** What an operator makes: dtype and shape per output. */
export interface OutputSpec {
  readonly dtype: DType;
  readonly shape: Shape;
}

/** A graph under construction. Nodes are named after the module that emitted them: `model.layers.3.mlp.gate_proj.MatMul`. */
export class Graph {
  readonly name: string;
  readonly nodes: Node[] = [];
  readonly initializers: Map<string, Initializer> = new Map();
  readonly inputs: TypedName[] = [];
  readonly outputs: TypedName[] = [];
  readonly #scopes: string[] = [];
  readonly #names: Map<string, number> = new Map();

  constructor(name: string) {
    this.name = name;
  }

  /** Path of the module being traced. */
  get scopePath(): string {
    return this.#scopes.at(-1) ?? "";
  }

  /** Runs `body` with `path` as the prefix of every name. */
  scope<T>(path: string, body: () => T): T {
    this.#scopes.push(path);
    try {
      return body();
    } finally {
      this.#scopes.pop();
    }
  }

  /** Throws a GraphError that names the module being traced. */
  fail(message: string): never {
    throw new GraphError(message, this.scopePath === "" ? {} : { node: this.scopePath });
  }

  input(name: string, dtype: DType, shape: Shape): Value {
    if (this.inputs.some((input) => input.name === name)) this.fail(`two inputs are called ${name}`);
    this.inputs.push({ name, dtype, shape });
    return new Value(this, name, dtype, shape);
  }

  /** Makes `value` an output called `name`. */
  output(name: string, value: Value): void {
    if (this.outputs.some((output) => output.name === name)) this.fail(`two outputs are called ${name}`);
    if (value.name !== name) this.#emitNamed("Identity", [value], [name]);
    this.outputs.push({ name, dtype: value.dtype, shape: value.shape });
  }

  /** Emits one node and returns its outputs. An undefined input is an absent optional one. */
  emit(
    op: string,
    inputs: readonly (Value | undefined)[],
    outputs: readonly OutputSpec[],
    attributes: Attributes = {},
    options: { domain?: string; outputNames?: readonly (string | undefined)[] } = {},
  ): Value[] {
    for (const input of inputs)
      if (input && input.graph !== this) this.fail(`${op}: ${input.name} is of another graph`);
    const name = this.uniqueName(op);
    const values = outputs.map((output, i) => {
      const outputName = options.outputNames?.[i] ?? (outputs.length === 1 ? name : `${name}.${i}`);
      return new Value(this, outputName, output.dtype, output.shape);
    });
    const names = inputs.map((input) => input?.name ?? "");
    while (names.at(-1) === "") names.pop();
    this.nodes.push({
      op,
      domain: options.domain ?? "",
      name,
      inputs: names,
      outputs: values.map((value) => value.name),
      attributes,
    });
    return values;
  }

  /** A constant tensor; equal names (with equal contents, by the caller's word) are kept once. */
  initializer(
    name: string,
    dtype: DType,
    shape: readonly number[],
    data: Uint8Array | FileRange,
    byRow = false,
  ): Value {
    if (!this.initializers.has(name)) this.initializers.set(name, { name, dtype, shape, data, byRow });
    return new Value(this, name, dtype, shape);
  }

  /** Numbers written into the graph, shared between the places that use the same ones. */
  constant(
    dtype: "float32" | "int64" | "int32",
    values: readonly number[],
    shape: readonly number[] = [values.length],
  ): Value {
    const name = `constant.${dtype}${shape.join("x")}.${values.join("_")}`;
    const array =
      dtype === "int64"
        ? BigInt64Array.from(values, BigInt)
        : dtype === "int32"
          ? Int32Array.from(values)
          : Float32Array.from(values);
    return this.initializer(name, dtype, shape, new Uint8Array(array.buffer));
  }

  /** `scope.stem`, with a number where the name is taken. */
  uniqueName(stem: string): string {
    const name = this.scopePath === "" ? stem : `${this.scopePath}.${stem}`;
    const count = this.#names.get(name) ?? 0;
    this.#names.set(name, count + 1);
    return count === 0 ? name : `${name}_${count}`;
  }

  #emitNamed(op: string, inputs: readonly Value[], names: readonly string[]): void {
    this.emit(
      op,
      inputs,
      inputs.map(({ dtype, shape }) => ({ dtype, shape })),
      {},
      { outputNames: names },
    );
  }
}
