import { randomBytes } from "node:crypto";
import { mkdir, open, readFile, rename, rm } from "node:fs/promises";
import path from "node:path";
import type { MetadataValue } from "../checkpoints/checkpoint.ts";
import { CheckpointError } from "../errors.ts";
import { deserializeTokenizer, serializeTokenizer } from "./compact-tokenizer.ts";
import { GemmaBpe } from "./gemma-bpe.ts";
import { GemmaTokenizer, PreTrainedTokenizer } from "./tokenizer.ts";
import type { TokenizerEngine } from "./tokenizer-engine.ts";
import { tokenizerFromGguf } from "./tokenizer-gguf.ts";
import { postProcessorFromJson, tablesFromJson } from "./tokenizer-json.ts";
import {
  isObject,
  overrideSettings,
  settingsFromFiles,
  type TokenizerOverrides,
  type TokenizerSettings,
} from "./tokenizer-settings.ts";

/** Where a tokenizer comes from: exactly one of `folder` and `gguf`. */
export interface TokenizerSource {
  /** Folder with tokenizer.json and its companions. */
  folder?: string;
  /** A GGUF checkpoint, or a function that opens it: it is not called when the cache has the tokenizer. */
  gguf?: GgufSource | (() => GgufSource | Promise<GgufSource>);
  /**
   * The compact form's place: read when it is there and sound, written otherwise. The caller names it after what it
   * is made of, so that a changed source gets another name.
   */
  cacheFile?: string;
  /** Settings in place of the files' own. */
  overrides?: TokenizerOverrides;
}

/** The part of a Checkpoint that a tokenizer is made of. */
export interface GgufSource {
  readonly metadata: ReadonlyMap<string, MetadataValue>;
  readonly files?: readonly string[];
}

/** Vocabulary and settings of a tokenizer, for a caller who makes the object. */
export interface TokenizerParts {
  readonly engine: TokenizerEngine;
  readonly settings: TokenizerSettings;
}

/** Loads a tokenizer: from the cache in some 20 ms, else from tokenizer.json or GGUF metadata. */
export async function loadTokenizer(source: TokenizerSource): Promise<PreTrainedTokenizer> {
  const { engine, settings } = await loadTokenizerParts(source);
  const Class = engine instanceof GemmaBpe ? GemmaTokenizer : PreTrainedTokenizer;
  return new Class(engine, settings);
}

/** As `loadTokenizer`, without making the object. */
export async function loadTokenizerParts(source: TokenizerSource): Promise<TokenizerParts> {
  const parts = (await readCache(source.cacheFile)) ?? (await build(source));
  return { engine: parts.engine, settings: overrideSettings(parts.settings, source.overrides ?? {}) };
}

async function readCache(file: string | undefined): Promise<TokenizerParts | undefined> {
  if (file === undefined) return undefined;
  try {
    const { tables, settings } = deserializeTokenizer(await readWhole(file), file);
    return { engine: new GemmaBpe(tables), settings };
  } catch {
    // Missing, unreadable or damaged: it is made anew, and what is wrong with the source itself shows then.
    return undefined;
  }
}

/** One read into memory of the right size: readFile reads in many pieces. */
async function readWhole(file: string): Promise<Uint8Array> {
  const handle = await open(file);
  try {
    const { size } = await handle.stat();
    const bytes = new Uint8Array(size);
    const { bytesRead } = await handle.read(bytes, 0, size, 0);
    return bytes.subarray(0, bytesRead);
  } finally {
    await handle.close();
  }
}

async function build(source: TokenizerSource): Promise<TokenizerParts> {
  let parts: TokenizerParts;
  if (source.gguf !== undefined) {
    const gguf = typeof source.gguf === "function" ? await source.gguf() : source.gguf;
    const { tables, settings } = tokenizerFromGguf(gguf.metadata, gguf.files?.[0] ?? "GGUF");
    parts = { engine: new GemmaBpe(tables), settings };
  } else if (source.folder !== undefined) {
    parts = await readFolder(source.folder);
  } else {
    throw new CheckpointError("tokenizer: neither a folder nor a GGUF file was given");
  }
  if (source.cacheFile !== undefined && parts.engine instanceof GemmaBpe) {
    const bytes = serializeTokenizer(parts.engine.tables, parts.settings);
    // A full or read-only disk costs the next start some time, not this one its tokenizer.
    await writeAtomically(source.cacheFile, bytes).catch(() => undefined);
  }
  return parts;
}

async function readFolder(folder: string): Promise<TokenizerParts> {
  const file = path.join(folder, "tokenizer.json");
  const json = await readJson(file);
  if (json === undefined) throw new CheckpointError("there is no tokenizer.json", { file: folder });
  if (!isObject(json)) throw new CheckpointError("not a JSON object", { file });
  const [config, map, jinja, templateJson] = await Promise.all([
    readJson(path.join(folder, "tokenizer_config.json")),
    readJson(path.join(folder, "special_tokens_map.json")),
    readText(path.join(folder, "chat_template.jinja")),
    readJson(path.join(folder, "chat_template.json")),
  ]);
  const fromJson =
    isObject(templateJson) && typeof templateJson.chat_template === "string" && templateJson.chat_template;
  const template = jinja ?? (fromJson || undefined);
  const tables = tablesFromJson(json, config, file);
  const engine =
    tables === undefined
      ? await (await import("./hf-engine.ts")).createHfEngine(json, config, file)
      : new GemmaBpe(tables);
  const files = {
    tokenizer_config: config,
    special_tokens_map: map,
    ...(template !== undefined && { chat_template: template }),
  };
  const settings = settingsFromFiles(
    files,
    postProcessorFromJson(json, file),
    (token) => engine.idOf(token) !== undefined,
  );
  return { engine, settings };
}

async function readJson(file: string): Promise<unknown> {
  const text = await readText(file);
  if (text === undefined) return undefined;
  try {
    return JSON.parse(text) as unknown;
  } catch (error) {
    throw new CheckpointError(`not JSON: ${String(error)}`, { file, cause: error });
  }
}

async function readText(file: string): Promise<string | undefined> {
  try {
    return await readFile(file, "utf8");
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
}

/** Whole or not at all, also when two processes write at once or the machine stops. */
async function writeAtomically(file: string, bytes: Uint8Array): Promise<void> {
  await mkdir(path.dirname(file), { recursive: true });
  const temporary = `${file}.${process.pid}.${randomBytes(4).toString("hex")}.tmp`;
  try {
    const handle = await open(temporary, "wx");
    try {
      await handle.writeFile(bytes);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temporary, file);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}

function isMissing(error: unknown): boolean {
  return ["ENOENT", "ENOTDIR"].includes((error as NodeJS.ErrnoException | null)?.code ?? "");
}
