import { stat } from "node:fs/promises";
import { configOf } from "../api/auto.ts";
import { ModelFiles } from "../api/model-files.ts";
import { encoderBytes, keysOnDisk } from "../api/text-models.ts";
import type { Checkpoint } from "../checkpoints/checkpoint.ts";
import { KeyValueCache } from "../generation/kv-cache.ts";
import type { JsonObject } from "../models/config-reader.ts";
import { layerCaches, type ModelConfig } from "../models/text-config.ts";
import { type ModelFlags, pretrainedOptions } from "./model-flags.ts";
import { progressBar } from "./progress.ts";

/** Contexts whose cache is shown. */
const CONTEXTS = [2048, 32_768];

/** What a model is, from its headers alone: no weight is read. */
export async function info(model: string, flags: ModelFlags & { readonly json?: boolean }): Promise<void> {
  const bar = progressBar();
  const files = await ModelFiles.find(model, {
    ...pretrainedOptions(flags),
    progress_callback: bar.callback,
  }).finally(bar.clear);
  try {
    const checkpoint = await files.checkpoint();
    const json = await files.config();
    const facts = await describe(checkpoint, configOf(json, model), json, files.resolved.description);
    process.stdout.write(flags.json === true ? `${JSON.stringify(facts, null, 2)}\n` : table(facts));
  } finally {
    await files.close();
  }
}

type Facts = Readonly<Record<string, string | number | Readonly<Record<string, number>>>>;

async function describe(
  checkpoint: Checkpoint,
  model: ModelConfig,
  json: JsonObject,
  source: string,
): Promise<Facts> {
  const config = model.get_text_config();
  const dtypes: Record<string, number> = {};
  let parameters = 0;
  let onDisk = 0;
  const rowTables = keysOnDisk(config);
  for (const { name, shape, dtype, length } of checkpoint.tensors.values()) {
    if (rowTables.some((key) => name === key || name.endsWith(`.${key}`))) onDisk += length;
    parameters += shape.reduce((product, dim) => product * dim, 1);
    dtypes[dtype] = (dtypes[dtype] ?? 0) + length;
  }
  const fileSizes = await Promise.all(checkpoint.files.map(async (file) => (await stat(file)).size));
  const encoders = encoderBytes(model, checkpoint);
  const total = fileSizes.reduce((sum, size) => sum + size, 0);
  const layers = layerCaches(config);
  const full = layers.filter((layer) => layer.window === null);
  const sliding = layers.find((layer) => layer.window !== null);
  const cache = (positions: number): number => KeyValueCache.bytes(layers, 1, positions);
  return {
    source,
    architecture: (json.architectures as readonly string[] | undefined)?.[0] ?? config.model_type,
    model_type: String(json.model_type ?? config.model_type),
    format: checkpoint.format,
    files: checkpoint.files.length,
    bytes: total,
    ...(onDisk === 0 ? {} : { resident_bytes: total - onDisk, on_disk_bytes: onDisk }),
    parameters,
    bytes_by_dtype: dtypes,
    ...(Object.keys(encoders).length > 0 && { encoder_bytes: encoders }),
    layers: config.num_hidden_layers,
    ...(layers.length === config.num_hidden_layers ? {} : { layers_with_cache: layers.length }),
    full_attention_layers: full.length,
    ...(sliding === undefined ? {} : { sliding_window: sliding.window! }),
    hidden_size: config.hidden_size,
    intermediate_size: sizes(config.intermediate_size),
    attention_heads: config.num_attention_heads,
    key_value_heads: config.num_key_value_heads,
    head_dim: config.head_dim,
    vocab_size: config.vocab_size,
    max_position_embeddings: config.max_position_embeddings,
    cache_bytes_per_token: full.reduce((sum, layer) => sum + 8 * layer.kv_heads * layer.head_dim, 0),
    cache_bytes: Object.fromEntries(CONTEXTS.map((positions) => [positions, cache(positions)])),
  };
}

/** One number where all layers have it, else each that occurs. */
function sizes(intermediate_size: number | readonly number[]): number | string {
  if (typeof intermediate_size === "number") return intermediate_size;
  const different = [...new Set(intermediate_size)];
  return different.length === 1 ? different[0]! : different.join(", ");
}

const BYTES: readonly string[] = ["bytes", "resident_bytes", "on_disk_bytes"];

function table(facts: Facts): string {
  const lines = Object.entries(facts).map(([name, value]) => {
    const text =
      typeof value === "object"
        ? Object.entries(value)
            .map(([key, bytes]) => `${key}: ${(bytes / 1e6).toFixed(1)} MB`)
            .join(", ")
        : BYTES.includes(name)
          ? `${(Number(value) / 1e6).toFixed(1)} MB`
          : typeof value === "number"
            ? value.toLocaleString("en-US")
            : value;
    return `${`${name.replaceAll("_", " ")}:`.padEnd(26)}${text}`;
  });
  return `${lines.join("\n")}\n`;
}
