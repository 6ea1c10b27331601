import { readdir, readFile, stat } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import type { Checkpoint } from "../checkpoints/checkpoint.ts";
import { configFromGguf } from "../checkpoints/gguf-config.ts";
import { imageConfigFromGguf, imageProcessorFromGguf } from "../checkpoints/gguf-images.ts";
import { openCheckpoint } from "../checkpoints/open.ts";
import { type ResolvedModel, resolveModel } from "../checkpoints/resolve.ts";
import { expandHome } from "../env.ts";
import { ConfigError, InputError } from "../errors.ts";
import { isJsonObject, type JsonObject } from "../models/config-reader.ts";
import type { PretrainedOptions } from "./options.ts";

/** Configurations are small; a file beyond this is none. */
const MAX_JSON_BYTES = 16 * 2 ** 20;

/** Where a model's files lie, and its configuration files when asked for. */
export class ModelFiles {
  readonly resolved: ResolvedModel;
  /** The folder, or the .gguf file, of the weights. */
  readonly path: string;
  readonly #isFile: boolean;
  readonly #mmproj: string | undefined;
  #checkpoint: Promise<Checkpoint> | undefined;

  private constructor(resolved: ResolvedModel, path: string, isFile: boolean, mmproj: string | undefined) {
    this.#mmproj = mmproj;
    this.resolved = resolved;
    this.path = path;
    this.#isFile = isFile;
  }

  /** Finds a model by path, name or hub id, fetching it if it must; `weights: false` fetches none where it can. */
  static async find(
    id: string,
    options: PretrainedOptions,
    { weights = true }: { readonly weights?: boolean } = {},
  ): Promise<ModelFiles> {
    const { revision, cache_dir, local_files_only, source, file, progress_callback, signal, subfolder } =
      options;
    const given = {
      revision,
      cache_dir,
      local_files_only,
      source,
      file,
      progress_callback: progress_callback ?? undefined,
      signal,
      subfolder,
      weights,
    };
    const resolved = await resolveModel(
      id,
      Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)),
    );
    const isFile = (await stat(resolved.path)).isFile();
    return new ModelFiles(resolved, resolved.path, isFile, options.mmproj ?? undefined);
  }

  /** The weights; opened once, closed by `close`. */
  checkpoint(): Promise<Checkpoint> {
    this.#checkpoint ??= openCheckpoint(this.path);
    return this.#checkpoint;
  }

  /**
   * Where the weights of encoders lie: with the others, or beside a GGUF file in one of their own, which the option
   * `mmproj` names where there are several.
   */
  async encoderPath(): Promise<string> {
    if ((await this.checkpoint()).format !== "gguf") return this.path;
    if (this.#mmproj !== undefined) return resolve(expandHome(this.#mmproj));
    const [textFile] = (await this.checkpoint()).files as [string];
    // The hub's cache keeps its files under other names: the folder is that of the link.
    const folder = this.#isFile ? dirname(this.path) : dirname(textFile);
    const found = (await readdir(folder)).filter((name) => /mmproj.*\.gguf$/i.test(name)).sort();
    if (found.length === 1) return join(folder, found[0]!);
    const problem =
      found.length === 0 ? "there is no mmproj file beside it" : `there are ${found.join(", ")}`;
    throw new InputError(
      `${join(folder, basename(textFile))}: has no image encoder in it, and ${problem}; name the file with the option mmproj`,
      { option: "mmproj" },
    );
  }

  /** config.json, or what a GGUF file's metadata says in its place; `encoders`: of the model with its image encoder. */
  async config({ encoders = false }: { readonly encoders?: boolean } = {}): Promise<JsonObject> {
    const config = await this.json("config.json");
    if (config !== undefined) return config;
    const adapter = await this.json("adapter_config.json");
    if (adapter !== undefined) {
      const base = JSON.stringify(adapter.base_model_name_or_path ?? "its base");
      throw new ConfigError(`${this.path}: is an adapter; load ${base} with the option adapter`);
    }
    const checkpoint = await this.checkpoint();
    if (checkpoint.format === "gguf" && encoders) {
      return imageConfigFromGguf(checkpoint, await this.#imageHeader());
    }
    if (checkpoint.format === "gguf") return configFromGguf(checkpoint);
    throw new ConfigError(`${this.path}: there is no config.json beside the weights`);
  }

  /** What the file of an image encoder beside a GGUF file says of its pixels; undefined for other models. */
  async imageProcessor(): Promise<JsonObject | undefined> {
    return (await this.#isGguf()) ? imageProcessorFromGguf(await this.#imageHeader()) : undefined;
  }

  /** Whether there is nothing but GGUF files to learn from. */
  async #isGguf(): Promise<boolean> {
    if (this.#isFile) return (await this.checkpoint()).format === "gguf";
    if ((await this.json("config.json")) !== undefined) return false;
    return (await readdir(this.path)).some((name) => name.toLowerCase().endsWith(".gguf"));
  }

  async #imageHeader(): Promise<Checkpoint> {
    const images = await openCheckpoint(await this.encoderPath());
    await images.close();
    return images;
  }

  /** A JSON file of the folder, or undefined where there is none. */
  async json(name: string): Promise<JsonObject | undefined> {
    if (this.#isFile) return undefined;
    const path = join(this.path, name);
    const value = await readJsonFile(path);
    if (value !== undefined && !isJsonObject(value)) throw new ConfigError(`${path}: expected an object`);
    return value;
  }

  async close(): Promise<void> {
    await (await this.#checkpoint)?.close();
  }
}

/** What a small JSON file holds, or undefined where there is none. */
export async function readJsonFile(path: string): Promise<unknown> {
  const found = await stat(path).catch(() => undefined);
  if (found === undefined) return undefined;
  if (found.size > MAX_JSON_BYTES)
    throw new ConfigError(`${path}: ${found.size} bytes are too many for a configuration`);
  try {
    return JSON.parse(await readFile(path, "utf8"));
  } catch (cause) {
    throw new ConfigError(`${path}: not valid JSON: ${(cause as Error).message}`, { cause });
  }
}
