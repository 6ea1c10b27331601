/** The native engine: ONNX Runtime's C API, called through koffi. */
import { stopAtExit } from "./exit.ts";
import { NativeSession } from "./native-session.ts";
import { type ResolvedOptions, resolveOptions } from "./options.ts";
import { loadOrtApi, type OrtApi, OutSlot, type Pointer } from "./ort-api.ts";
import { appendProvider, providerError } from "./providers.ts";
import type { Engine, SessionOptions } from "./session.ts";

/** GraphOptimizationLevel in onnxruntime_c_api.h. */
const OPTIMIZATION_LEVELS = { disabled: 0, basic: 1, extended: 2, all: 99 } as const;
const SEQUENTIAL = 0;

/** Where the native engine finds ONNX Runtime. */
export interface NativeEngineOptions {
  /** The ONNX Runtime library to load instead of the one in onnxruntime-node. */
  readonly libraryPath?: string;
}

/** Makes the native engine. Throws a RuntimeError where koffi or the library can't be loaded. */
export function createNativeEngine(options: NativeEngineOptions = {}): Engine {
  const api = loadOrtApi(options.libraryPath);
  return {
    name: `onnxruntime ${api.version} (native)`,
    native: true,
    createSession: (sessionOptions) => createSession(api, sessionOptions),
  };
}

async function createSession(api: OrtApi, options: SessionOptions): Promise<NativeSession> {
  options.signal?.throwIfAborted();
  const resolved = resolveOptions(options);
  const sessionOptions = api.create("CreateSessionOptions");
  try {
    applyOptions(api, sessionOptions, resolved);
    if (options.optimizedModelPath !== undefined)
      api.check("SetOptimizedModelFilePath", sessionOptions, options.optimizedModelPath);
    const session = await load(api, sessionOptions, options);
    return new NativeSession(api, session);
  } catch (error) {
    throw resolved.device === "cpu" || options.signal?.aborted
      ? error
      : providerError(api, resolved.device, error);
  } finally {
    api.release("ReleaseSessionOptions", sessionOptions);
  }
}

function applyOptions(api: OrtApi, target: Pointer, options: ResolvedOptions): void {
  api.check("SetIntraOpNumThreads", target, options.threads);
  api.check("SetInterOpNumThreads", target, 1);
  api.check("SetSessionExecutionMode", target, SEQUENTIAL);
  // A memory pattern is kept for every shape seen: measured 19 MB for 40 prompt lengths, and no faster.
  api.check("DisableMemPattern", target);
  api.check("SetSessionGraphOptimizationLevel", target, OPTIMIZATION_LEVELS[options.optimization]);
  for (const [key, value] of options.config) api.check("AddSessionConfigEntry", target, key, value);
  // Providers log, which needs the environment; it is made when it is first asked for.
  void api.env;
  appendProvider(api, target, options.device);
}

/** Off the main thread: prepacking the weights of a large model takes seconds. */
async function load(api: OrtApi, sessionOptions: Pointer, options: SessionOptions): Promise<Pointer> {
  const { model, signal } = options;
  const cancel = (): void => api.check("SessionOptionsSetLoadCancellationFlag", sessionOptions, true);
  const out = new OutSlot(api);
  const finished = stopAtExit(cancel);
  signal?.addEventListener("abort", cancel, { once: true });
  try {
    const address = api.address(model);
    await api.checkAsync(
      "CreateSessionFromArray",
      api.env,
      address,
      model.byteLength,
      sessionOptions,
      out.address,
    );
  } catch (error) {
    signal?.throwIfAborted();
    throw error;
  } finally {
    signal?.removeEventListener("abort", cancel);
    finished();
    keepReachable(model, out);
  }
  if (signal?.aborted) {
    api.release("ReleaseSession", out.value);
    throw signal.reason;
  }
  return out.value;
}

/** Called after a wait: V8 may collect an object as soon as no code after the wait mentions it. */
function keepReachable(..._objects: readonly unknown[]): void {}
