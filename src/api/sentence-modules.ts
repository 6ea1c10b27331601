import { join } from "node:path";
import { ConfigError } from "../errors.ts";
import { ConfigReader, isJsonObject, type JsonObject } from "../models/config-reader.ts";
import { Tensor } from "../tensor.ts";
import { DenseLayer } from "./dense-layer.ts";
import { type ModelFiles, readJsonFile } from "./model-files.ts";
import type { PretrainedOptions } from "./options.ts";
import { normalizeVectors, POOLING_MODES, type PoolingMode, pool } from "./pooling.ts";

/** What a batch of texts is on its way through the modules. */
export interface SentenceFeatures {
  /** float32 [batch, length, hidden_size] */
  readonly token_embeddings: Tensor;
  /** [batch, length], 0 at padding. */
  readonly attention_mask: Tensor;
  /** Tokens of the prompt at the start of every row, for pooling that leaves them out. */
  readonly prompt_length: number;
  /** float32 [batch, size], once the texts are pooled. */
  readonly sentence_embedding?: Tensor;
}

/** One step after the transformer. */
export interface SentenceModule {
  /** Its name in modules.json: Pooling, Dense, Normalize. */
  readonly type: string;
  /** Whether its pooling leaves out the prompt. */
  readonly excludesPrompt: boolean;
  apply(features: SentenceFeatures, signal?: AbortSignal): Promise<SentenceFeatures>;
  dispose(): Promise<void>;
}

/** An entry of modules.json. */
interface ModuleEntry {
  /** The class without its package, which differs between versions. */
  readonly type: string;
  /** Folder inside the model's folder, "" for the folder itself. */
  readonly path: string;
}

/** The transformer's folder and the steps that follow it. Without a modules.json the texts' vectors are means. */
export interface SentencePipeline {
  readonly transformer: string;
  readonly modules: readonly SentenceModule[];
}

const PLAIN: readonly ModuleEntry[] = [
  { type: "Transformer", path: "" },
  { type: "Pooling", path: "" },
];

/** Reads modules.json and loads what it names. */
export async function loadSentenceModules(
  files: ModelFiles,
  options: PretrainedOptions,
): Promise<SentencePipeline> {
  const listed = await readJsonFile(join(files.path, "modules.json"));
  const [first, ...rest] = listed === undefined ? PLAIN : readEntries(listed);
  if (first?.type !== "Transformer")
    throw new ConfigError(`modules.json: the first module must be a Transformer, got ${first?.type}`);
  const modules: SentenceModule[] = [];
  try {
    for (const entry of rest) modules.push(await loadModule(entry, files, options));
  } catch (error) {
    for (const module of modules) await module.dispose();
    throw error;
  }
  return { transformer: first.path, modules };
}

function readEntries(listed: unknown): ModuleEntry[] {
  if (!Array.isArray(listed) || listed.length === 0)
    throw new ConfigError("modules.json: expected a list of modules");
  return listed.map((entry: unknown, i) => {
    const { type, path } = isJsonObject(entry) ? entry : {};
    if (typeof type !== "string" || typeof path !== "string")
      throw new ConfigError(`modules.json: module ${i} needs a type and a path`);
    // The folder comes from a file that may be anyone's: it must not lead out of the model's own.
    if (path !== "" && !/^[A-Za-z0-9_-][\w.-]*$/.test(path))
      throw new ConfigError(`modules.json: module ${i} has the path ${JSON.stringify(path)}`);
    return { type: type.split(".").at(-1)!, path };
  });
}

async function loadModule(
  { type, path }: ModuleEntry,
  files: ModelFiles,
  options: PretrainedOptions,
): Promise<SentenceModule> {
  const folder = join(files.path, path);
  const read = async (): Promise<JsonObject> => {
    const config = path === "" ? {} : await readJsonFile(join(folder, "config.json"));
    if (isJsonObject(config)) return config;
    throw new ConfigError(`${folder}: there is no config.json for the module ${type}`);
  };
  switch (type) {
    case "Pooling":
      return poolingModule(await read(), path);
    case "Dense":
      return denseModule(await DenseLayer.load(folder, await read(), options));
    case "Normalize":
      return step(type, async (features) => ({
        ...features,
        sentence_embedding: normalizeVectors(pooled(features, type)),
      }));
    default:
      throw new ConfigError(
        `modules.json: the module ${type} is not supported; known are Transformer, Pooling, Dense, Normalize`,
      );
  }
}

function denseModule(layer: DenseLayer): SentenceModule {
  const apply: SentenceModule["apply"] = async (features, signal) => {
    const vectors = pooled(features, "Dense");
    if (vectors.dims[1] !== layer.in_features)
      throw new ConfigError(`Dense takes ${layer.in_features} numbers, got ${vectors.dims[1]}`, {
        key: "in_features",
      });
    return { ...features, sentence_embedding: await layer.run(vectors, signal) };
  };
  return { ...step("Dense", apply), dispose: () => layer.dispose() };
}

function poolingModule(config: JsonObject, path: string): SentenceModule {
  const read = new ConfigReader(config, path);
  const modes = poolingModes(read);
  const excludesPrompt = !read.boolean("include_prompt", true);
  const apply: SentenceModule["apply"] = async (features) => {
    const { token_embeddings: states, attention_mask, prompt_length } = features;
    const mask = excludesPrompt ? withoutPrompt(attention_mask, prompt_length) : attention_mask;
    const parts = modes.map((mode) => pool(states, mask, mode));
    return { ...features, sentence_embedding: parts.length === 1 ? parts[0]! : concatenate(parts) };
  };
  return { ...step("Pooling", apply), excludesPrompt };
}

/** The older configuration's keys. */
const SWITCHES: Readonly<Record<PoolingMode, string>> = {
  cls: "pooling_mode_cls_token",
  max: "pooling_mode_max_tokens",
  mean: "pooling_mode_mean_tokens",
  mean_sqrt_len_tokens: "pooling_mode_mean_sqrt_len_tokens",
  weightedmean: "pooling_mode_weightedmean_tokens",
  lasttoken: "pooling_mode_lasttoken",
};

/** The modes of a Pooling module, in the order in which their vectors are joined. */
function poolingModes(read: ConfigReader): PoolingMode[] {
  const given = read.raw("pooling_mode");
  if (given !== undefined) {
    const modes: unknown[] = Array.isArray(given) ? given : [given];
    const unknown = modes.find((mode) => !POOLING_MODES.includes(mode as PoolingMode));
    if (unknown !== undefined || modes.length === 0)
      read.fail(
        "pooling_mode",
        `expected ${POOLING_MODES.join(", ")} or a list of these, got ${JSON.stringify(given)}`,
      );
    return modes as PoolingMode[];
  }
  // Older versions have a switch for each mode.
  const switched = POOLING_MODES.filter((mode) => read.boolean(SWITCHES[mode], false));
  return switched.length === 0 ? ["mean"] : switched;
}

/** The mask with zeros at each row's first `count` tokens. */
function withoutPrompt(mask: Tensor, count: number): Tensor {
  const [batch, length] = mask.dims as [number, number];
  const kept = Array.from(mask.data as ArrayLike<number | bigint>, Number);
  for (let row = 0; row < batch; row++) {
    let left = count;
    for (let place = row * length; place < (row + 1) * length && left > 0; place++) {
      left -= kept[place]!;
      kept[place] = 0;
    }
  }
  return new Tensor("int64", kept, mask.dims);
}

/** Vectors side by side: [batch, a], [batch, b] → [batch, a + b]. */
function concatenate(parts: readonly Tensor[]): Tensor {
  const rows = parts[0]!.dims[0]!;
  const joined = Array.from({ length: rows }, (_, row) =>
    parts.flatMap((part) => Array.from(part.at(row)!.data as Float32Array)),
  ).flat();
  return new Tensor("float32", joined, [rows, joined.length / Math.max(rows, 1)]);
}

function pooled({ sentence_embedding }: SentenceFeatures, type: string): Tensor {
  if (sentence_embedding !== undefined) return sentence_embedding;
  throw new ConfigError(`modules.json: ${type} must follow a Pooling module`);
}

function step(type: string, apply: SentenceModule["apply"]): SentenceModule {
  return { type, excludesPrompt: false, apply, dispose: () => Promise.resolve() };
}
