/** Chooses the engine. */
import { InputError, RuntimeError } from "../errors.ts";
import { createNativeEngine } from "./native.ts";
import { createNodeBindingEngine } from "./node-binding.ts";
import type { Engine } from "./session.ts";

/** Environment variable that forces an engine: native or node. */
export const ENGINE_VARIABLE = "LAPIDARY_ENGINE";

export type EngineChoice = "native" | "node" | "auto";

/** Which engine to take; LAPIDARY_ENGINE answers for "auto", the default. */
export interface EngineOptions {
  readonly engine?: EngineChoice;
}

/**
 * The native engine, or onnxruntime-node's own API where that one cannot be loaded: its `fallbackReason` then says
 * why. An engine asked for by name is never replaced: a RuntimeError says what is missing.
 */
export async function loadEngine(options: EngineOptions = {}): Promise<Engine> {
  const choice = chosen(options);
  if (choice === "node") return createNodeBindingEngine();
  try {
    return createNativeEngine();
  } catch (error) {
    if (choice === "native" || !(error instanceof RuntimeError)) throw error;
    return { ...createNodeBindingEngine(), fallbackReason: error.message };
  }
}

function chosen(options: EngineOptions): EngineChoice {
  const asked = options.engine ?? "auto";
  const fromEnvironment = process.env[ENGINE_VARIABLE] ?? "";
  const choice = asked === "auto" && fromEnvironment !== "" ? fromEnvironment : asked;
  if (choice === "native" || choice === "node" || choice === "auto") return choice;
  throw new InputError(`engine: expected native, node or auto, got "${choice}"`, { option: "engine" });
}
