import { createHash } from "node:crypto";
import { realpath, stat } from "node:fs/promises";
import { join } from "node:path";
import { cacheFolder } from "../cache-folder.ts";
import type { Checkpoint } from "../checkpoints/checkpoint.ts";
import { CheckpointError } from "../errors.ts";
import { GemmaBpe } from "../processing/gemma-bpe.ts";
import { loadTokenizerParts, type TokenizerParts } from "../processing/load-tokenizer.ts";
import { PreTrainedTokenizer } from "../processing/tokenizer.ts";
import { TOKENIZER_OVERRIDE_NAMES, type TokenizerOverrides } from "../processing/tokenizer-settings.ts";
import { ModelFiles } from "./model-files.ts";
import { checkPretrainedOptions, type PretrainedOptions } from "./options.ts";

/** Options of a tokenizer's `from_pretrained`: where to look, and settings in place of the files' own. */
export type TokenizerOptions = PretrainedOptions & TokenizerOverrides;

/** Every file that a tokenizer is made of: a changed one makes another compact form. */
const SOURCES = [
  "tokenizer.json",
  "tokenizer_config.json",
  "special_tokens_map.json",
  "chat_template.jinja",
  "chat_template.json",
];

async function loadParts(id: string, options: TokenizerOptions, call: string): Promise<TokenizerParts> {
  const overrides = Object.fromEntries(
    TOKENIZER_OVERRIDE_NAMES.flatMap((name) => (options[name] === undefined ? [] : [[name, options[name]]])),
  );
  const others = Object.fromEntries(Object.entries(options).filter(([name]) => !(name in overrides)));
  checkPretrainedOptions(others, call);
  const files = await ModelFiles.find(id, others, { weights: false });
  try {
    const cacheFile = join(cacheFolder(), "tokenizers", `${await sourceKey(files.path)}.bin`);
    const hasJson = await exists(join(files.path, "tokenizer.json"));
    const gguf = async (): Promise<Checkpoint> => {
      const checkpoint = await files.checkpoint();
      if (checkpoint.format === "gguf") return checkpoint;
      throw new CheckpointError("there is no tokenizer.json", { file: files.path });
    };
    const source = hasJson ? { folder: files.path } : { gguf };
    return await loadTokenizerParts({ ...source, cacheFile, overrides });
  } finally {
    await files.close();
  }
}

/** The tokenizer of every Gemma: byte-pair merges over whole texts, spaces as "▁", bytes for what is not in the vocabulary. */
export class GemmaTokenizer extends PreTrainedTokenizer {
  static async from_pretrained(id: string, options: TokenizerOptions = {}): Promise<GemmaTokenizer> {
    const { engine, settings } = await loadParts(id, options, "GemmaTokenizer.from_pretrained");
    return new GemmaTokenizer(engine, settings);
  }
}

/** HF's name of the same tokenizer: there is only one, and it is the fast one. */
export const GemmaTokenizerFast: typeof GemmaTokenizer = GemmaTokenizer;

/** Loads the tokenizer of a model, from tokenizer.json or from a GGUF file's metadata. */
export class AutoTokenizer {
  static async from_pretrained(id: string, options: TokenizerOptions = {}): Promise<PreTrainedTokenizer> {
    const { engine, settings } = await loadParts(id, options, "AutoTokenizer.from_pretrained");
    return engine instanceof GemmaBpe
      ? new GemmaTokenizer(engine, settings)
      : new PreTrainedTokenizer(engine, settings);
  }
}

async function exists(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined)) !== undefined;
}

/** A name for what the files hold: their real paths, sizes and times of change. */
async function sourceKey(path: string): Promise<string> {
  const hash = createHash("sha256").update("lapidary tokenizer 1\n");
  const candidates = [path, ...SOURCES.map((name) => join(path, name))];
  for (const candidate of candidates) {
    const found = await stat(candidate).catch(() => undefined);
    if (found !== undefined && (found.isFile() || candidate === path))
      hash.update(`${await realpath(candidate)}\n${found.size}\n${found.mtimeMs}\n`);
  }
  return hash.digest("hex").slice(0, 40);
}
