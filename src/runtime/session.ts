/** What every engine offers. Graphs run over memory that the caller owns, so nothing is copied that need not be. */
import type { ElementType, TypedArray } from "../tensor.ts";

export type { ElementType, TypedArray };

/** A tensor over memory that the caller owns and keeps alive. `data` may be a subarray: a row of a batch buffer. */
export interface HostTensor {
  readonly type: ElementType;
  readonly data: TypedArray;
  readonly dims: readonly number[];
}

/** A host tensor made known to an engine. Its memory is read and written in place by every run that it is bound to. */
export interface RuntimeValue {
  readonly tensor: HostTensor;
  /** Releases the engine's handle, not the memory. */
  dispose(): void;
}

export type Device = "cpu" | "cuda" | "webgpu";

export interface SessionOptions {
  /** The serialised ONNX model. */
  readonly model: Uint8Array;
  /** Folder that the model's external data locations are relative to. */
  readonly externalDataFolder?: string;
  /** Threads inside one operator; by default the physical cores, within the cgroup's limit. */
  readonly threads?: number;
  readonly device?: Device;
  /** "disabled" keeps Casts of stored half-precision weights out of memory; "all" is the default. */
  readonly optimization?: "disabled" | "basic" | "extended" | "all";
  /** Where to write the optimised graph; native engine only, not on Windows, whose paths are UTF-16. */
  readonly optimizedModelPath?: string;
  /** Further session config entries of ONNX Runtime. */
  readonly config?: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal;
}

/** A graph input or output as the model declares it. */
export interface ValueInfo {
  readonly name: string;
  /** Undefined for what is no tensor, or of a type that does not cross the border. */
  readonly type: ElementType | undefined;
  /** Numbers are fixed, strings symbolic; undefined within is a size, and instead of the list a rank, left open. */
  readonly dims: readonly (number | string | undefined)[] | undefined;
}

/** Values bound to a session's inputs and outputs: bind once, run many times, changing the memory in between. */
export interface Binding {
  /**
   * Runs the graph off the main thread. Rejects with the signal's reason when aborted: the session stays usable,
   * the outputs' contents are then undefined. One run at a time per session: a second call waits for the first.
   */
  run(options?: { signal?: AbortSignal }): Promise<void>;
  dispose(): void;
}

export interface Session {
  /** The engine: "onnxruntime (native)" or "onnxruntime-node". */
  readonly engine: string;
  readonly inputNames: readonly string[];
  readonly outputNames: readonly string[];
  readonly inputs: readonly ValueInfo[];
  readonly outputs: readonly ValueInfo[];
  createValue(tensor: HostTensor): RuntimeValue;
  /**
   * Binds one value per graph input, and one per output that is wanted (preallocated, exact shape). The same value
   * may stand on both sides: that is how GroupQueryAttention writes its keys and values in place.
   */
  bind(
    inputs: Readonly<Record<string, RuntimeValue>>,
    outputs: Readonly<Record<string, RuntimeValue>>,
  ): Binding;
  /** Waits for a running call, then releases every handle. Idempotent. */
  dispose(): Promise<void>;
}

/** Makes sessions; `native.ts` has the C API through koffi, `node-binding.ts` onnxruntime-node's own API. */
export interface Engine {
  readonly name: string;
  /** Whether it is ONNX Runtime's C API, with all that this offers. */
  readonly native?: boolean;
  /** Why this engine stands in for the native one; undefined where it was asked for. */
  readonly fallbackReason?: string;
  createSession(options: SessionOptions): Promise<Session>;
}
