/** Sessions over ONNX Runtime's C API. */
import { RuntimeError } from "../errors.ts";
import { elementTypeOfCode } from "./element-types.ts";
import { HandleScope } from "./handle-scope.ts";
import { NativeBinding } from "./native-binding.ts";
import { NativeValue } from "./native-value.ts";
import type { OrtApi, Pointer } from "./ort-api.ts";
import { RunQueue } from "./run-queue.ts";
import type { Binding, HostTensor, RuntimeValue, Session, ValueInfo } from "./session.ts";
import { checkBinding } from "./value-info.ts";

/** A safety net: a session that was dropped without dispose() gives its memory back when it is collected. */
const forgotten = new FinalizationRegistry<HandleScope>((handles) => handles.abandon());

/** A session of the native engine. Values and bindings refer to it, so it lives as long as they do. */
export class NativeSession implements Session {
  readonly engine = "onnxruntime (native)";
  readonly inputs: readonly ValueInfo[];
  readonly outputs: readonly ValueInfo[];
  readonly inputNames: readonly string[];
  readonly outputNames: readonly string[];
  readonly api: OrtApi;
  readonly pointer: Pointer;
  /** Every handle of this session: the session itself, its values' and its bindings'. */
  readonly handles: HandleScope;
  readonly queue: RunQueue = new RunQueue();
  readonly #bindings = new Set<NativeBinding>();
  #disposed: Promise<void> | undefined;

  constructor(api: OrtApi, pointer: Pointer) {
    this.api = api;
    this.pointer = pointer;
    this.handles = new HandleScope(api);
    this.handles.add(pointer, "ReleaseSession");
    forgotten.register(this, this.handles, this);
    this.inputs = readSide(api, pointer, "Input");
    this.outputs = readSide(api, pointer, "Output");
    this.inputNames = this.inputs.map((info) => info.name);
    this.outputNames = this.outputs.map((info) => info.name);
  }

  get disposed(): boolean {
    return this.#disposed !== undefined;
  }

  createValue(tensor: HostTensor): RuntimeValue {
    this.#assertUsable("createValue");
    return new NativeValue(this, tensor);
  }

  bind(
    inputs: Readonly<Record<string, RuntimeValue>>,
    outputs: Readonly<Record<string, RuntimeValue>>,
  ): Binding {
    this.#assertUsable("bind");
    checkBinding(this.inputs, this.outputs, { inputs, outputs });
    const binding = new NativeBinding(this, inputs, outputs);
    this.#bindings.add(binding);
    return binding;
  }

  /** Called by a binding that ends. */
  forget(binding: NativeBinding): void {
    this.#bindings.delete(binding);
  }

  dispose(): Promise<void> {
    this.#disposed ??= this.#release();
    return this.#disposed;
  }

  async #release(): Promise<void> {
    await this.queue.idle();
    for (const binding of this.#bindings) binding.dispose();
    forgotten.unregister(this);
    this.handles.releaseAll();
  }

  #assertUsable(call: string): void {
    if (this.disposed) throw new RuntimeError(`${call}: the session was disposed`);
  }
}

function readSide(api: OrtApi, session: Pointer, side: "Input" | "Output"): ValueInfo[] {
  const count = api.query(`SessionGet${side}Count`, session);
  return Array.from({ length: count }, (_, index) => ({
    name: api.string(`SessionGet${side}Name`, session, index),
    ...readTypeInfo(api, api.create(`SessionGet${side}TypeInfo`, session, index)),
  }));
}

function readTypeInfo(api: OrtApi, typeInfo: Pointer): Pick<ValueInfo, "type" | "dims"> {
  try {
    const tensor = api.create("CastTypeInfoToTensorInfo", typeInfo); // borrowed from typeInfo; null if no tensor
    if (tensor === 0n) return { type: undefined, dims: undefined };
    const type = elementTypeOfCode(api.query("GetTensorElementType", tensor));
    const rank = api.query("GetDimensionsCount", tensor);
    const sizes = new BigInt64Array(rank);
    const names = new BigUint64Array(rank);
    api.check("GetDimensions", tensor, api.address(sizes), rank);
    api.check("GetSymbolicDimensions", tensor, api.address(names), rank);
    const dims = Array.from(sizes, (size, axis) =>
      size >= 0n ? Number(size) : api.readString(names[axis]!) || undefined,
    );
    return { type, dims };
  } finally {
    api.release("ReleaseTypeInfo", typeInfo);
  }
}
