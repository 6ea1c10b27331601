/** Tensors over the caller's memory, known to ONNX Runtime. */
import { RuntimeError } from "../errors.ts";
import { checkTensor, elementTypeCode } from "./element-types.ts";
import type { NativeSession } from "./native-session.ts";
import type { Pointer } from "./ort-api.ts";
import type { HostTensor, RuntimeValue } from "./session.ts";

/**
 * An OrtValue over a typed array, which stays referenced as long as the value. Bindings of other sessions may use
 * it too. A value that is disposed while bound keeps its handle until the last of its bindings is disposed.
 */
export class NativeValue implements RuntimeValue {
  readonly tensor: HostTensor;
  readonly pointer: Pointer;
  readonly #session: NativeSession;
  /** Read by the constructor's call alone, but a local array may be collected before the call gets to read it. */
  readonly #dims: BigInt64Array;
  #disposed = false;

  constructor(session: NativeSession, tensor: HostTensor) {
    checkTensor(tensor);
    const { api } = session;
    this.#dims = BigInt64Array.from(tensor.dims, BigInt);
    this.tensor = { type: tensor.type, data: tensor.data, dims: [...tensor.dims] }; // ours: it keeps the memory
    this.#session = session;
    this.pointer = api.create(
      "CreateTensorWithDataAsOrtValue",
      api.cpuMemory,
      api.address(tensor.data),
      tensor.data.byteLength,
      api.address(this.#dims), // copied by the call
      this.#dims.length,
      elementTypeCode(tensor.type),
    );
    session.handles.add(this.pointer, "ReleaseValue");
  }

  /** Takes a share in the handle for the binding that uses it as `name`. */
  hold(name: string): void {
    if (this.#disposed || this.#session.disposed) {
      throw new RuntimeError(`bind: the value for "${name}" was disposed`);
    }
    this.#session.handles.hold(this.pointer);
  }

  /** Takes back one `hold`. */
  drop(): void {
    this.#session.handles.drop(this.pointer);
  }

  dispose(): void {
    this.#disposed = true;
    this.#session.handles.release(this.pointer);
  }
}
