import { cpSync, mkdirSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { writeSafetensors } from "../../src/checkpoints/write-safetensors.ts";
import { GemmaConfig } from "../../src/models/gemma/config.ts";
import { GemmaTextModule } from "../../src/models/gemma/text.ts";
import { Gemma3TextConfig } from "../../src/models/gemma3/config.ts";
import { Gemma3TextModule } from "../../src/models/gemma3/text.ts";
import { Gemma3nTextConfig } from "../../src/models/gemma3n/config.ts";
import { Gemma3nTextModule } from "../../src/models/gemma3n/text.ts";
import { CausalLMModule } from "../../src/models/heads.ts";
import { namedParameters } from "../../src/nn/module.ts";

const TOKENIZER = resolve(import.meta.dirname, "../fixtures/tokenizer");

/** Writes a language model with weights that look random, always the same ones, and the small tokenizer beside them. `given`: other weights. */
export async function writeTinyModel(
  folder: string,
  config: Readonly<Record<string, unknown>>,
  given: Readonly<Record<string, Float32Array>> = {},
): Promise<void> {
  mkdirSync(folder, { recursive: true });
  const tensors = [...namedParameters(moduleOf(config))].map(([name, { shape }], seed) => {
    const values =
      given[name] ??
      new Float32Array(shape.reduce((a, b) => a * b)).map((_, i) => Math.sin((i + 1) * (seed + 1.7)) / 20);
    return { name, dtype: "F32" as const, shape, data: [new Uint8Array(values.buffer)] };
  });
  await writeSafetensors(join(folder, "model.safetensors"), tensors);
  writeFileSync(join(folder, "config.json"), JSON.stringify(config));
  cpSync(TOKENIZER, folder, { recursive: true });
}

function moduleOf(json: Readonly<Record<string, unknown>>): CausalLMModule {
  if (json["model_type"] === "gemma") {
    const config = new GemmaConfig(json);
    return new CausalLMModule(new GemmaTextModule(config), config);
  }
  if (json["model_type"] === "gemma3n_text") {
    const config = new Gemma3nTextConfig(json);
    return new CausalLMModule(new Gemma3nTextModule(config), config);
  }
  const config = new Gemma3TextConfig(json);
  return new CausalLMModule(new Gemma3TextModule(config), config);
}
