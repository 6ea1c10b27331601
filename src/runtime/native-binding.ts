/** Values bound to a session's inputs and outputs: everything that a run needs, laid out once in C's form. */
import { InputError, RuntimeError } from "../errors.ts";
import { stopAtExit } from "./exit.ts";
import type { NativeSession } from "./native-session.ts";
import { NativeValue } from "./native-value.ts";
import type { CArgument, OrtApi, Pointer } from "./ort-api.ts";
import type { Binding, RuntimeValue } from "./session.ts";

/** One side of a graph in C's form. The arrays own the memory that the addresses point at. */
interface Side {
  readonly values: readonly NativeValue[];
  readonly names: Pointer;
  readonly pointers: Pointer;
  readonly memory: readonly ArrayBufferView[];
}

/** A binding of the native engine. A run passes eight numbers to C and copies nothing. */
export class NativeBinding implements Binding {
  readonly #session: NativeSession;
  readonly #inputs: Side;
  readonly #outputs: Side;
  readonly #runOptions: Pointer;
  readonly #arguments: readonly CArgument[];
  #pending = 0;
  #disposed = false;

  constructor(
    session: NativeSession,
    inputs: Readonly<Record<string, RuntimeValue>>,
    outputs: Readonly<Record<string, RuntimeValue>>,
  ) {
    const { api } = session;
    this.#session = session;
    this.#inputs = layOut(api, inputs);
    this.#outputs = layOut(api, outputs);
    this.#holdValues([...Object.keys(inputs), ...Object.keys(outputs)]);
    this.#runOptions = session.handles.add(api.create("CreateRunOptions"), "ReleaseRunOptions");
    this.#arguments = [
      session.pointer,
      this.#runOptions,
      this.#inputs.names,
      this.#inputs.pointers,
      this.#inputs.values.length,
      this.#outputs.names,
      this.#outputs.values.length,
      this.#outputs.pointers,
    ];
  }

  async run(options: { signal?: AbortSignal } = {}): Promise<void> {
    if (this.#session.disposed) throw new RuntimeError("run: the session was disposed");
    if (this.#disposed) throw new RuntimeError("run: the binding was disposed");
    this.#pending++;
    try {
      await this.#session.queue.run(() => this.#run(options.signal), options.signal);
    } finally {
      this.#pending--;
      if (this.#disposed) this.#releaseIfIdle();
    }
  }

  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#session.forget(this);
    this.#releaseIfIdle();
  }

  async #run(signal: AbortSignal | undefined): Promise<void> {
    signal?.throwIfAborted();
    const { api } = this.#session;
    const terminate = (): void => api.check("RunOptionsSetTerminate", this.#runOptions);
    const finished = stopAtExit(terminate);
    signal?.addEventListener("abort", terminate, { once: true });
    try {
      await api.checkAsync("Run", ...this.#arguments);
    } catch (error) {
      if (!signal?.aborted) throw error;
    } finally {
      signal?.removeEventListener("abort", terminate);
      finished();
    }
    if (signal?.aborted) {
      api.check("RunOptionsUnsetTerminate", this.#runOptions);
      throw signal.reason;
    }
  }

  #holdValues(names: readonly string[]): void {
    const values = [...this.#inputs.values, ...this.#outputs.values];
    for (const [index, value] of values.entries()) {
      try {
        value.hold(names[index]!);
      } catch (error) {
        for (const held of values.slice(0, index)) held.drop();
        throw error;
      }
    }
  }

  #releaseIfIdle(): void {
    if (this.#pending > 0) return;
    this.#session.handles.release(this.#runOptions);
    for (const value of [...this.#inputs.values, ...this.#outputs.values]) value.drop();
  }
}

function layOut(api: OrtApi, bound: Readonly<Record<string, RuntimeValue>>): Side {
  const values = Object.entries(bound).map(([name, value]) => nativeValue(name, value));
  const encoded = Object.keys(bound).map((name) => new TextEncoder().encode(`${name}\0`));
  const text = new Uint8Array(Buffer.concat(encoded));
  const names = new BigUint64Array(values.length);
  let next = api.address(text);
  for (const [index, bytes] of encoded.entries()) {
    names[index] = next;
    next += BigInt(bytes.length);
  }
  const pointers = BigUint64Array.from(values, (value) => value.pointer);
  return {
    values,
    names: api.address(names),
    pointers: api.address(pointers),
    memory: [text, names, pointers],
  };
}

function nativeValue(name: string, value: RuntimeValue): NativeValue {
  if (value instanceof NativeValue) return value;
  throw new InputError(`bind: the value for "${name}" was made by another engine`, { option: name });
}
