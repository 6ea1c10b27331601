/** The native engine: ONNX Runtime's C API, called through koffi. */
import { InputError } from "../errors.ts";
import { NativeSession } from "./native-session.ts";
import { loadOrtApi, type OrtApi, OutSlot, type Pointer } from "./ort-api.ts";
import { appendProvider } from "./providers.ts";
import type { Engine, SessionOptions } from "./session.ts";
import { defaultThreads } from "./threads.ts";

/** GraphOptimizationLevel in onnxruntime_c_api.h. */
const OPTIMIZATION_LEVELS = { disabled: 0, basic: 1, extended: 2, all: 99 } as const;
const SEQUENTIAL = 0;

/** Session config key: the folder that external data locations are relative to. */
export const EXTERNAL_DATA_FOLDER_KEY = "session.model_external_initializers_file_folder_path";

export interface NativeEngineOptions {
  /** The ONNX Runtime library to load instead of the one in onnxruntime-node. */
  readonly libraryPath?: string;
}

/** Makes the native engine. Throws a RuntimeError where koffi or the library can't be loaded. */
export function createNativeEngine(options: NativeEngineOptions = {}): Engine {
  const api = loadOrtApi(options.libraryPath);
  return {
    name: `onnxruntime ${api.version} (native)`,
    createSession: (sessionOptions) => createSession(api, sessionOptions),
  };
}

async function createSession(api: OrtApi, options: SessionOptions): Promise<NativeSession> {
  options.signal?.throwIfAborted();
  const sessionOptions = api.create("CreateSessionOptions");
  try {
    applyOptions(api, sessionOptions, options);
    return new NativeSession(api, await load(api, sessionOptions, options));
  } finally {
    api.release("ReleaseSessionOptions", sessionOptions);
  }
}

function applyOptions(api: OrtApi, target: Pointer, options: SessionOptions): void {
  const level = OPTIMIZATION_LEVELS[options.optimization ?? "all"];
  if (level === undefined) {
    throw new InputError(
      `optimization "${options.optimization}": expected disabled, basic, extended or all`,
      {
        option: "optimization",
      },
    );
  }
  api.check("SetIntraOpNumThreads", target, checkThreads(options.threads ?? defaultThreads()));
  api.check("SetInterOpNumThreads", target, 1);
  api.check("SetSessionExecutionMode", target, SEQUENTIAL);
  api.check("SetSessionGraphOptimizationLevel", target, level);
  if (options.externalDataFolder !== undefined) {
    api.check("AddSessionConfigEntry", target, EXTERNAL_DATA_FOLDER_KEY, options.externalDataFolder);
  }
  for (const [key, value] of Object.entries(options.config ?? {})) {
    api.check("AddSessionConfigEntry", target, key, value);
  }
  appendProvider(api, target, options.device ?? "cpu");
}

/** Off the main thread: prepacking the weights of a large model takes seconds. */
async function load(api: OrtApi, sessionOptions: Pointer, options: SessionOptions): Promise<Pointer> {
  const { model, signal } = options;
  const cancel = (): void => api.check("SessionOptionsSetLoadCancellationFlag", sessionOptions, true);
  const out = new OutSlot(api);
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
  }
  if (signal?.aborted) {
    api.release("ReleaseSession", out.value);
    throw signal.reason;
  }
  return out.value;
}

function checkThreads(threads: number): number {
  if (Number.isInteger(threads) && threads >= 1) return threads;
  throw new InputError(`threads: expected a whole number from 1, got ${threads}`, { option: "threads" });
}
