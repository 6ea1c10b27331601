/**
 * The fallback engine: onnxruntime-node's own API. It computes the same, in place too, but `run` blocks the event loop
 * and cannot be aborted once it has begun, a run costs more by itself, and bfloat16 does not cross its border.
 */
import type { InferenceSession, Tensor } from "onnxruntime-node";
import { InputError, RuntimeError } from "../errors.ts";
import { checkTensor } from "./element-types.ts";
import { resolveOptions } from "./options.ts";
import { RunQueue } from "./run-queue.ts";
import type {
  Binding,
  ElementType,
  Engine,
  HostTensor,
  RuntimeValue,
  Session,
  SessionOptions,
  ValueInfo,
} from "./session.ts";
import { checkBinding } from "./value-info.ts";

type OnnxRuntime = typeof import("onnxruntime-node");
type Values = Readonly<Record<string, RuntimeValue>>;
type Metadata = InferenceSession.ValueMetadata;

const NAME = "onnxruntime-node";
/** What is logged as an error is thrown as well, and stderr is the user's. */
const FATAL = 4;

/** Makes the fallback engine. The package is loaded with the first session. */
export function createNodeBindingEngine(): Engine {
  return { name: NAME, createSession };
}

async function createSession(options: SessionOptions): Promise<Session> {
  options.signal?.throwIfAborted();
  const { threads, device, optimization, config } = resolveOptions(options);
  const runtime = await loadPackage();
  options.signal?.throwIfAborted();
  const session = await typed("InferenceSession.create", () =>
    runtime.InferenceSession.create(options.model, {
      executionProviders: [device],
      intraOpNumThreads: threads,
      interOpNumThreads: 1,
      executionMode: "sequential",
      enableMemPattern: false,
      graphOptimizationLevel: optimization,
      logSeverityLevel: FATAL,
      extra: Object.fromEntries(config),
    }),
  );
  if (options.signal?.aborted) {
    await session.release();
    throw options.signal.reason;
  }
  return new NodeSession(runtime, session);
}

class NodeSession implements Session {
  readonly engine = NAME;
  readonly inputs: readonly ValueInfo[];
  readonly outputs: readonly ValueInfo[];
  readonly inputNames: readonly string[];
  readonly outputNames: readonly string[];
  readonly session: InferenceSession;
  readonly queue: RunQueue = new RunQueue();
  readonly #runtime: OnnxRuntime;
  #disposed: Promise<void> | undefined;

  constructor(runtime: OnnxRuntime, session: InferenceSession) {
    this.#runtime = runtime;
    this.session = session;
    this.inputs = session.inputMetadata.map(valueInfo);
    this.outputs = session.outputMetadata.map(valueInfo);
    this.inputNames = session.inputNames;
    this.outputNames = session.outputNames;
  }

  get disposed(): boolean {
    return this.#disposed !== undefined;
  }

  createValue(tensor: HostTensor): RuntimeValue {
    this.#assertUsable("createValue");
    return new NodeValue(this, this.#runtime, tensor);
  }

  bind(inputs: Values, outputs: Values): Binding {
    this.#assertUsable("bind");
    checkBinding(this.inputs, this.outputs, { inputs, outputs });
    return new NodeBinding(this, inputs, outputs);
  }

  dispose(): Promise<void> {
    this.#disposed ??= this.queue.idle().then(() => this.session.release());
    return this.#disposed;
  }

  #assertUsable(call: string): void {
    if (this.disposed) throw new RuntimeError(`${call}: the session was disposed`);
  }
}

class NodeValue implements RuntimeValue {
  readonly tensor: HostTensor;
  readonly handle: Tensor;
  readonly #session: NodeSession;
  #disposed = false;

  constructor(session: NodeSession, runtime: OnnxRuntime, tensor: HostTensor) {
    checkTensor(tensor);
    const { type, data, dims } = tensor;
    if (type === "bfloat16")
      throw new RuntimeError(`${NAME} cannot pass bfloat16 tensors; the native engine can`);
    this.tensor = tensor;
    this.#session = session;
    this.handle = new runtime.Tensor(type, data as Tensor.DataTypeMap["float32"], dims) as Tensor;
  }

  get usable(): boolean {
    return !this.#disposed && !this.#session.disposed;
  }

  dispose(): void {
    this.#disposed = true;
  }
}

class NodeBinding implements Binding {
  readonly #session: NodeSession;
  readonly #feeds: Record<string, Tensor>;
  readonly #fetches: Record<string, Tensor>;
  #disposed = false;

  constructor(session: NodeSession, inputs: Values, outputs: Values) {
    this.#session = session;
    this.#feeds = handles(inputs);
    this.#fetches = handles(outputs);
  }

  async run(options: { signal?: AbortSignal } = {}): Promise<void> {
    if (this.#session.disposed) throw new RuntimeError("run: the session was disposed");
    if (this.#disposed) throw new RuntimeError("run: the binding was disposed");
    const { signal } = options;
    await this.#session.queue.run(() => this.#run(), signal);
    signal?.throwIfAborted();
  }

  dispose(): void {
    this.#disposed = true;
  }

  async #run(): Promise<void> {
    await typed("run", () =>
      this.#session.session.run(this.#feeds, this.#fetches, { logSeverityLevel: FATAL }),
    );
  }
}

/** Both records must be plain objects of tensors: the package checks each of them on every run. */
function handles(values: Values): Record<string, Tensor> {
  return Object.fromEntries(
    Object.entries(values).map(([name, value]) => {
      if (!(value instanceof NodeValue)) {
        throw new InputError(`bind: the value for "${name}" was made by another engine`, { option: name });
      }
      if (!value.usable) throw new RuntimeError(`bind: the value for "${name}" was disposed`);
      return [name, value.handle];
    }),
  );
}

function valueInfo(metadata: Metadata): ValueInfo {
  if (!metadata.isTensor) return { name: metadata.name, type: undefined, dims: undefined };
  const { name, type, shape } = metadata;
  return { name, type: type as ElementType, dims: shape.map((dim) => (dim === "" ? undefined : dim)) };
}

async function loadPackage(): Promise<OnnxRuntime> {
  try {
    return await import("onnxruntime-node");
  } catch (cause) {
    throw new RuntimeError(`onnxruntime-node cannot be loaded: ${String(cause)}`, { cause });
  }
}

/** Runs `call`, turning what the package throws into a RuntimeError. */
async function typed<T>(name: string, call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (cause) {
    const message = cause instanceof Error ? cause.message : String(cause);
    throw new RuntimeError(`onnxruntime-node, ${name}: ${message}`, { cause });
  }
}
