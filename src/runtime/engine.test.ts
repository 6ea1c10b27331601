import { afterEach, expect, test, vi } from "vitest";
import { InputError } from "../errors.ts";
import { ENGINE_VARIABLE, type EngineChoice, loadEngine } from "./engine.ts";

afterEach(() => vi.unstubAllEnvs());

test("takes the native engine where it loads", async () => {
  const engine = await loadEngine();
  expect(engine.name).toMatch(/native/);
  expect(engine.fallbackReason).toBeUndefined();
});

test("takes the engine asked for, before the variable's", async () => {
  expect((await loadEngine({ engine: "node" })).name).toBe("onnxruntime-node");
  vi.stubEnv(ENGINE_VARIABLE, "node");
  expect((await loadEngine({ engine: "auto" })).name).toBe("onnxruntime-node");
  expect((await loadEngine({ engine: "native" })).name).toMatch(/native/);
});

test("refuses an engine that there is not", async () => {
  await expect(loadEngine({ engine: "gpu" as EngineChoice })).rejects.toThrow(InputError);
});
