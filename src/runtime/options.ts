/** Session options as both engines take them. */
import { InputError } from "../errors.ts";
import type { Device, SessionOptions } from "./session.ts";
import { defaultThreads } from "./threads.ts";

/** Session config key: the folder that external data locations are relative to. */
const EXTERNAL_DATA_FOLDER_KEY = "session.model_external_initializers_file_folder_path";

/**
 * Overridden by the caller's config. By default the threads of a session go on spinning after a run, in wait for the
 * next one, at the expense of the JavaScript between the two; measured with 2 ms of it on two busy cores, a step's
 * median fell from 95 to 74 ms. Without any spinning ("session.intra_op.allow_spinning": "0") it fell to 52.
 */
const DEFAULT_CONFIG = { "session.force_spinning_stop": "1" } as const;

const OPTIMIZATIONS = ["disabled", "basic", "extended", "all"] as const;
const DEVICES = ["cpu", "cuda", "webgpu"] as const;

/** Options with every default filled in. */
export interface ResolvedOptions {
  readonly threads: number;
  readonly device: Device;
  readonly optimization: (typeof OPTIMIZATIONS)[number];
  readonly config: ReadonlyMap<string, string>;
}

/** Fills in defaults. Throws an InputError for what cannot be meant. */
export function resolveOptions(options: SessionOptions): ResolvedOptions {
  const { threads = defaultThreads(), device = "cpu", optimization = "all" } = options;
  if (!(options.model instanceof Uint8Array) || options.model.byteLength === 0) {
    throw new InputError("model: expected the bytes of an ONNX model", { option: "model" });
  }
  if (!Number.isInteger(threads) || threads < 1) {
    throw new InputError(`threads: expected a whole number from 1, got ${threads}`, { option: "threads" });
  }
  checkChoice("device", device, DEVICES);
  checkChoice("optimization", optimization, OPTIMIZATIONS);
  const config = new Map<string, string>(Object.entries(DEFAULT_CONFIG));
  if (options.externalDataFolder !== undefined) {
    config.set(EXTERNAL_DATA_FOLDER_KEY, options.externalDataFolder);
  }
  for (const [key, value] of Object.entries(options.config ?? {})) config.set(key, value);
  return { threads, device, optimization, config };
}

function checkChoice(option: string, value: string, choices: readonly string[]): void {
  if (choices.includes(value)) return;
  throw new InputError(`${option}: expected one of ${choices.join(", ")}, got "${value}"`, { option });
}
