import { join } from "node:path";
import { cacheFolder } from "../cache-folder.ts";
import type { Checkpoint } from "../checkpoints/checkpoint.ts";
import { type LoadedWeights, loadWeights, type PackOptions } from "../checkpoints/pack.ts";
import type { WeightRequest } from "../checkpoints/pack-plan.ts";
import type { JsonObject } from "../models/config-reader.ts";
import { Embedding } from "../nn/linear.ts";
import { type Module, namedModules, namedParameters } from "../nn/module.ts";
import { loadEngine } from "../runtime/engine.ts";
import type { Engine } from "../runtime/session.ts";
import { ModelFiles } from "./model-files.ts";
import { type ModelOptions, modelOptions, type PretrainedOptions } from "./options.ts";

/** What `from_pretrained` of every model class has at hand when it builds the instance. */
export interface LoadedModel {
  readonly id: string;
  readonly config: JsonObject;
  readonly generation_config: JsonObject | undefined;
  readonly weights: LoadedWeights;
  readonly engine: Engine;
  readonly options: ModelOptions;
  /** One line: where the weights came from. */
  readonly source: string;
}

/** How a class reads a model's files. */
export interface ModelReader {
  /** The module that says which weights are needed. */
  module(config: JsonObject): Module;
  /** The checkpoint under the module's names. */
  checkpoint(checkpoint: Checkpoint): Checkpoint;
}

/** Finds a model's files and brings the weights that the reader's module asks for into the form that runs. */
export async function loadModel(
  id: string,
  options: PretrainedOptions,
  call: string,
  reader: ModelReader,
): Promise<LoadedModel> {
  const checked = modelOptions(options, call);
  const [files, engine] = await Promise.all([
    ModelFiles.find(id, options),
    loadEngine({ engine: checked.engine }),
  ]);
  try {
    const config = (options.config as JsonObject | undefined) ?? (await files.config());
    const request = weightRequest(reader.module(config), checked);
    const checkpoint = reader.checkpoint(await files.checkpoint());
    const weights = await loadWeights(checkpoint, request, packOptions(id, options));
    const generation_config = await files.json("generation_config.json");
    options.progress_callback?.({ status: "ready", name: id });
    return {
      id,
      config,
      generation_config,
      weights,
      engine,
      options: checked,
      source: files.resolved.description,
    };
  } finally {
    await files.close();
  }
}

/** Every parameter below `module`, which of them run together, and which are tables. */
export function weightRequest(
  module: Module,
  options: Pick<ModelOptions, "dtype" | "tablesDtype">,
): WeightRequest {
  const parameters = namedParameters(module);
  const keys = new Map([...parameters].map(([key, parameter]) => [parameter, key]));
  const modules = [...namedModules(module)];
  return {
    parameters: new Map([...parameters].map(([key, parameter]) => [key, parameter.shape])),
    groups: modules.flatMap(([, part]) =>
      part.packedTogether.map((group) => group.map((parameter) => keys.get(parameter)!)),
    ),
    tables: new Set(
      modules.flatMap(([, part]) => (part instanceof Embedding ? [keys.get(part.weight)!] : [])),
    ),
    sensitive: new Set(
      modules.flatMap(([path, part]) => (part.sensitive ? [...namedParameters(part, path).keys()] : [])),
    ),
    dtype: options.dtype,
    tablesDtype: options.tablesDtype,
  };
}

function packOptions(id: string, { progress_callback, signal }: PretrainedOptions): PackOptions {
  return {
    folder: join(cacheFolder(), "packs"),
    ...(signal === undefined ? {} : { signal }),
    onProgress: (loaded, total) =>
      progress_callback?.({
        status: "progress",
        name: id,
        file: "packing weights",
        loaded,
        total,
        progress: (100 * loaded) / total,
      }),
  };
}
