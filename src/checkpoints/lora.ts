/** LoRA adapters as PEFT saves them: adapter_config.json and adapter_model.safetensors in one folder. */
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { CheckpointError } from "../errors.ts";
import { dequantize } from "../quantization/gguf-blocks.ts";
import type { Checkpoint, CheckpointDtype, TensorSlice } from "./checkpoint.ts";
import { type LoraConfig, readLoraConfig } from "./lora-config.ts";
import { patternValues, targetedModules } from "./lora-targets.ts";
import type { WeightRequest } from "./pack-plan.ts";
import { openSafetensors } from "./safetensors.ts";

const WEIGHTS_FILE = "adapter_model.safetensors";
const PREFIX = "base_model.model.";
/** How releases of transformers have called the text part of models that also see or hear, and text models theirs. */
const SPELLINGS: readonly string[] = ["model.language_model.", "language_model.model.", "model.", ""];
const PART = /^(.+)\.(lora_(?:embedding_)?[AB]|lora_magnitude_vector)(?:\.weight)?$/;
const FLOATS: readonly CheckpointDtype[] = ["F32", "F16", "BF16"];

/** The parameters of the model that an adapter is for: their shapes, and which of them are tables. */
export type AdaptedBase = Pick<WeightRequest, "parameters" | "tables">;

/** What an adapter adds to one weight W [out, in]: scale · B · A; to a table [rows, width] the transpose of that. */
export interface LoraLayer {
  /** Key of the weight. */
  readonly key: string;
  readonly table: boolean;
  /** [rank, in], of a table [rank, rows] */
  readonly A: TensorSlice;
  /** [out, rank], of a table [width, rank] */
  readonly B: TensorSlice;
  /** DoRA: the length of every row of the sum, [out]. */
  readonly magnitude: TensorSlice | undefined;
  readonly rank: number;
  readonly scale: number;
}

export interface LoraAdapter {
  readonly folder: string;
  /** By path of the module. */
  readonly layers: ReadonlyMap<string, LoraLayer>;
  /** Weights that replace the base's (`modules_to_save`), by key. */
  readonly saved: ReadonlyMap<string, TensorSlice>;
  /** Its weight file. */
  readonly checkpoint: Checkpoint;
}

/** Opens an adapter and checks it against its configuration and the base. close() its checkpoint afterwards. */
export async function openLora(folder: string, base: AdaptedBase): Promise<LoraAdapter> {
  const config = await readLoraConfig(folder);
  const checkpoint = await openSafetensors(await weightsFile(folder));
  try {
    return { folder, checkpoint, ...new Assembly(config, base, checkpoint).assemble() };
  } catch (error) {
    await checkpoint.close();
    throw error;
  }
}

/** A tensor as float32. */
export async function readFloat32(checkpoint: Checkpoint, slice: TensorSlice): Promise<Float32Array> {
  const values = new Float32Array(slice.shape.reduce((product, dim) => product * dim, 1));
  dequantize(slice.dtype, await checkpoint.read(slice), values);
  return values;
}

async function weightsFile(folder: string): Promise<string> {
  const names = await readdir(folder);
  if (!names.includes(WEIGHTS_FILE) && names.includes("adapter_model.bin")) {
    const advice = `save it again as ${WEIGHTS_FILE}`;
    throw new CheckpointError(`a pickle can't be read; ${advice}`, {
      file: join(folder, "adapter_model.bin"),
    });
  }
  return join(folder, WEIGHTS_FILE);
}

/** Sorts an adapter's tensors by module and checks that they make sense. */
class Assembly {
  readonly #config: LoraConfig;
  readonly #base: AdaptedBase;
  readonly #checkpoint: Checkpoint;
  readonly #parts: Map<string, Map<string, TensorSlice>> = new Map();
  readonly #saved: Map<string, TensorSlice> = new Map();

  constructor(config: LoraConfig, base: AdaptedBase, checkpoint: Checkpoint) {
    this.#config = config;
    this.#base = base;
    this.#checkpoint = checkpoint;
  }

  assemble(): Pick<LoraAdapter, "layers" | "saved"> {
    for (const slice of this.#checkpoint.tensors.values()) this.#sort(slice);
    this.#checkTargets();
    const names = [...this.#parts.keys()];
    const ranks = patternValues(this.#config.rank_pattern, names, this.#config);
    const alphas = patternValues(this.#config.alpha_pattern, names, this.#config);
    const layers = new Map<string, LoraLayer>();
    for (const [name, parts] of this.#parts) {
      const path = this.#key(name)!.slice(0, -".weight".length);
      layers.set(path, this.#layer(name, parts, ranks.get(name), alphas.get(name)));
    }
    return { layers, saved: this.#saved };
  }

  #sort(slice: TensorSlice): void {
    const place = { file: slice.file, tensor: slice.name };
    if (!FLOATS.includes(slice.dtype))
      throw new CheckpointError(`is ${slice.dtype}; expected ${FLOATS.join(", ")}`, place);
    const name = slice.name.startsWith(PREFIX) ? slice.name.slice(PREFIX.length) : slice.name;
    const [, module, part] = PART.exec(name) ?? [];
    if (module === undefined || part === undefined) {
      this.#save(slice, name);
      return;
    }
    if (this.#key(module) === undefined)
      throw new CheckpointError("the model has no such module; is the adapter for another base?", place);
    const parts = this.#parts.get(module);
    if (parts === undefined) this.#parts.set(module, new Map([[part, slice]]));
    else parts.set(part, slice);
  }

  /** A weight kept whole. A targeted table is saved with its base, which training leaves as it is. */
  #save(slice: TensorSlice, name: string): void {
    const place = { file: slice.file, tensor: slice.name };
    const key = this.#find(name.replace(/\.base_layer\.weight$/, ".weight"));
    if (key === undefined) {
      throw new CheckpointError(
        "the model has no such weight of its own; is the adapter for another base, or is it one that the model shares?",
        place,
      );
    }
    this.#checkShape(slice, this.#base.parameters.get(key)!, `the base's ${key}`);
    if (!name.endsWith(".base_layer.weight")) this.#saved.set(key, slice);
  }

  /** The key of a module's weight in the base, or undefined. */
  #key(module: string): string | undefined {
    return this.#find(`${module}.weight`);
  }

  /** The base's key of a parameter under any of its spellings, or undefined. */
  #find(name: string): string | undefined {
    const { length } = SPELLINGS.find((prefix) => name.startsWith(prefix))!;
    const others = SPELLINGS.map((prefix) => prefix + name.slice(length));
    return [name, ...others].find((key) => this.#base.parameters.has(key));
  }

  /** Every module of the file is one that the configuration targets, and the other way round. */
  #checkTargets(): void {
    const held = [...this.#parts.keys()];
    const { file } = this.#config;
    const targeted = targetedModules(this.#config, held);
    const stray = held.find((name) => !targeted.has(name));
    if (stray !== undefined)
      throw new CheckpointError(`${WEIGHTS_FILE} holds ${stray}, which target_modules does not name`, {
        file,
      });
    if (this.#config.target_modules === undefined) return;
    const covered = new Set(held.map((name) => this.#key(name)));
    const { parameters, tables } = this.#base;
    const uncovered = [...parameters]
      .filter(([key, { length }]) => key.endsWith(".weight") && length === 2 && !tables.has(key))
      .filter(([key]) => !covered.has(key))
      .map(([key]) => key.slice(0, -".weight".length));
    const [missing] = targetedModules(this.#config, uncovered);
    if (missing !== undefined)
      throw new CheckpointError(`target_modules names ${missing}, which ${WEIGHTS_FILE} lacks`, { file });
  }

  #layer(
    name: string,
    parts: ReadonlyMap<string, TensorSlice>,
    patternRank: number | undefined,
    patternAlpha: number | undefined,
  ): LoraLayer {
    const key = this.#key(name)!;
    const table = this.#base.tables.has(key);
    const kind = table ? "lora_embedding_" : "lora_";
    const [A, B] = [this.#part(name, parts, `${kind}A`), this.#part(name, parts, `${kind}B`)];
    const [rows, columns] = this.#base.parameters.get(key) as [number, number];
    const rank = patternRank ?? this.#config.r;
    const alpha = patternAlpha ?? this.#config.lora_alpha;
    this.#checkShape(A, [rank, table ? rows : columns], `rank ${rank} and the base's ${key}`);
    this.#checkShape(B, [table ? columns : rows, rank], `rank ${rank} and the base's ${key}`);
    return {
      key,
      table,
      A,
      B,
      magnitude: this.#magnitude(name, parts, rows, table),
      rank,
      scale: alpha / (this.#config.use_rslora ? Math.sqrt(rank) : rank),
    };
  }

  #magnitude(
    name: string,
    parts: ReadonlyMap<string, TensorSlice>,
    rows: number,
    table: boolean,
  ): TensorSlice | undefined {
    if (!this.#config.use_dora) return undefined;
    if (table)
      throw new CheckpointError(`use_dora is not supported for the table ${name}`, {
        file: this.#config.file,
      });
    const magnitude = this.#part(name, parts, "lora_magnitude_vector");
    this.#checkShape(magnitude, [rows], `the base's ${name}`);
    return magnitude;
  }

  #part(name: string, parts: ReadonlyMap<string, TensorSlice>, part: string): TensorSlice {
    const slice = parts.get(part);
    if (slice !== undefined) return slice;
    const [file = WEIGHTS_FILE] = this.#checkpoint.files;
    throw new CheckpointError(`lacks ${part}; it has ${[...parts.keys()].join(", ")}`, {
      file,
      tensor: `${PREFIX}${name}`,
    });
  }

  #checkShape(slice: TensorSlice, expected: readonly number[], reason: string): void {
    if (slice.shape.join() === expected.join()) return;
    const found = `[${slice.shape.join(", ")}]`;
    throw new CheckpointError(
      `its shape is ${found}; ${reason} ask for [${expected.join(", ")}]: the adapter is for another base, or its configuration is wrong`,
      { file: slice.file, tensor: slice.name },
    );
  }
}
