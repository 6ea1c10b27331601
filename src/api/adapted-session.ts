import type { Binding, HostTensor, RuntimeValue, Session, ValueInfo } from "../runtime/session.ts";

/** A session whose adapter inputs are always the same matrices: to its users it has none. */
export class AdaptedSession implements Session {
  readonly engine: string;
  readonly inputNames: readonly string[];
  readonly outputNames: readonly string[];
  readonly inputs: readonly ValueInfo[];
  readonly outputs: readonly ValueInfo[];
  readonly #inner: Session;
  readonly #values: Readonly<Record<string, RuntimeValue>>;

  constructor(inner: Session, matrices: ReadonlyMap<string, HostTensor>) {
    this.#inner = inner;
    this.engine = inner.engine;
    this.inputs = inner.inputs.filter(({ name }) => !matrices.has(name));
    this.inputNames = this.inputs.map(({ name }) => name);
    this.outputs = inner.outputs;
    this.outputNames = inner.outputNames;
    this.#values = Object.fromEntries(
      inner.inputNames.flatMap((name) => {
        const tensor = matrices.get(name);
        return tensor === undefined ? [] : [[name, inner.createValue(tensor)] as const];
      }),
    );
  }

  createValue(tensor: HostTensor): RuntimeValue {
    return this.#inner.createValue(tensor);
  }

  bind(
    inputs: Readonly<Record<string, RuntimeValue>>,
    outputs: Readonly<Record<string, RuntimeValue>>,
  ): Binding {
    return this.#inner.bind({ ...inputs, ...this.#values }, outputs);
  }

  /** Lets go of the matrices; bindings that use them keep them. The session itself is its maker's. */
  async dispose(): Promise<void> {
    for (const value of Object.values(this.#values)) value.dispose();
  }
}
