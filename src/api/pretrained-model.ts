import { join } from "node:path";
import { cacheFolder } from "../cache-folder.ts";
import type { Checkpoint } from "../checkpoints/checkpoint.ts";
import type { AdaptedBase } from "../checkpoints/lora.ts";
import { openCheckpoint } from "../checkpoints/open.ts";
import { type LoadedWeights, loadWeights, type PackOptions } from "../checkpoints/pack.ts";
import type { WeightRequest } from "../checkpoints/pack-plan.ts";
import { sliceCheckpoint } from "../checkpoints/slice.ts";
import type { JsonObject } from "../models/config-reader.ts";
import { sliceConfig, withWholeTable } from "../models/gemma3n/slice.ts";
import { Embedding, type InputRounding, Linear } from "../nn/linear.ts";
import { type Module, namedModules, namedParameters } from "../nn/module.ts";
import { loadEngine } from "../runtime/engine.ts";
import type { Engine } from "../runtime/session.ts";
import {
  adaptableLayers,
  type FoundAdapter,
  findAdapterOption,
  mergeAdapter,
  readAdapter,
} from "./adapter-files.ts";
import type { AdapterWeights } from "./adapters.ts";
import { ModelFiles } from "./model-files.ts";
import { type ModelOptions, modelOptions, type PretrainedOptions } from "./options.ts";
import { checkSavedQuantization, quantizedLinears } from "./quantization-config.ts";

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
  /** The folder or file that encoders are in, and where what is made of it goes. */
  readonly encoderPath: string;
  readonly pack: PackOptions;
  /** What adapters are checked against. */
  readonly base: AdaptedBase;
  /** An adapter that was asked for beside the weights. */
  readonly adapter: { readonly name: string; readonly weights: AdapterWeights } | undefined;
}

/** How a class reads a model's files. */
export interface ModelReader {
  /** The module that says which weights are needed. */
  module(config: JsonObject): Module;
  /** The checkpoint under the module's names. */
  checkpoint(checkpoint: Checkpoint): Checkpoint;
  /** For models with encoders, which load later: looks at the headers of the checkpoint that these are in. */
  encoders?(checkpoint: Checkpoint): void;
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
    const whole =
      (options.config as JsonObject | undefined) ??
      (await files.config({ encoders: reader.encoders !== undefined }));
    const sliced = options.slice == null ? undefined : sliceConfig(whole, options.slice);
    const config = sliced === undefined ? whole : withWholeTable(sliced.config, sliced.slice);
    checkSavedQuantization(config.quantization_config);
    const module = reader.module(config);
    const request = weightRequest(module, checked);
    const named = reader.checkpoint(await files.checkpoint());
    const checkpoint = sliced === undefined ? named : sliceCheckpoint(named, sliced.slice);
    const encoderPath = reader.encoders === undefined ? files.path : await files.encoderPath();
    if (reader.encoders !== undefined) {
      const own = encoderPath === files.path ? undefined : await openCheckpoint(encoderPath);
      await own?.close();
      reader.encoders(own ?? (await files.checkpoint()));
    }
    const adapter = await findAdapterOption(options, request, call);
    const pack = packOptions(id, options);
    const { weights, beside } = await loadAdapted(checkpoint, adapter, module, request, pack).finally(() =>
      adapter?.lora.checkpoint.close(),
    );
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
      encoderPath,
      pack,
      base: request,
      adapter: beside,
    };
  } finally {
    await files.close();
  }
}

/** The weights, with the adapter merged into them or read beside them. */
async function loadAdapted(
  checkpoint: Checkpoint,
  adapter: FoundAdapter | undefined,
  module: Module,
  request: WeightRequest,
  pack: PackOptions,
): Promise<{ weights: LoadedWeights; beside: LoadedModel["adapter"] }> {
  if (adapter === undefined)
    return { weights: await loadWeights(checkpoint, request, pack), beside: undefined };
  const { lora, merge, name } = adapter;
  if (merge) {
    const merged = mergeAdapter(checkpoint, lora, module);
    return { weights: await loadWeights(merged, request, pack), beside: undefined };
  }
  const beside = { name, weights: await readAdapter(lora, adaptableLayers(module)) };
  return { weights: await loadWeights(checkpoint, request, pack), beside };
}

/** Every parameter below `module`, which of them run together, and which are tables. */
export function weightRequest(
  module: Module,
  options: Pick<ModelOptions, "dtype" | "tablesDtype"> & Partial<Pick<ModelOptions, "quantization">>,
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
    byRow: new Set([...parameters].flatMap(([key, { byRow }]) => (byRow ? [key] : []))),
    manyRows: new Map(modules.flatMap(([path, part]) => (part.manyRows ? linearRoundings(part, path) : []))),
    plain: new Set([...parameters].flatMap(([key, { plain }]) => (plain ? [key] : []))),
    dtype: options.dtype,
    tablesDtype: options.tablesDtype,
    ...(options.quantization === undefined
      ? {}
      : { linears: quantizedLinears(module, options.quantization) }),
  };
}

/** How the linear layers of a module round their inputs, by the key of their weight. */
function linearRoundings(module: Module, prefix: string): [string, InputRounding][] {
  return [...namedModules(module, prefix)].flatMap(([path, part]) =>
    part instanceof Linear ? [[`${path}.weight`, part.rounding] as [string, InputRounding]] : [],
  );
}

/** Where packs go, and how their making is reported. */
export function packOptions(id: string, { progress_callback, signal }: PretrainedOptions): PackOptions {
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
