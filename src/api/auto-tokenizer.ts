import { createHash } from "node:crypto";
import { realpath, stat } from "node:fs/promises";
import { join } from "node:path";
import { cacheFolder } from "../cache-folder.ts";
import { loadTokenizer } from "../processing/load-tokenizer.ts";
import type { PreTrainedTokenizer } from "../processing/tokenizer.ts";
import type { TokenizerOverrides } from "../processing/tokenizer-settings.ts";
import { ModelFiles } from "./model-files.ts";
import { checkPretrainedOptions, type PretrainedOptions } from "./options.ts";

/** Options of a tokenizer's `from_pretrained`: where to look, and settings in place of the files' own. */
export type TokenizerOptions = PretrainedOptions & TokenizerOverrides;

const OVERRIDES: readonly (keyof TokenizerOverrides)[] = ["padding_side", "model_max_length", "add_bos_token", "add_eos_token"];

/** Every file that a tokenizer is made of: a changed one makes another compact form. */
const SOURCES = ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja", "chat_template.json"];

/** Loads the tokenizer of a model, from tokenizer.json or from a GGUF file's metadata. */
export class AutoTokenizer {
  static async from_pretrained(id: string, options: TokenizerOptions = {}): Promise<PreTrainedTokenizer> {
    const overrides = Object.fromEntries(OVERRIDES.flatMap((name) => (options[name] === undefined ? [] : [[name, options[name]]])));
    const others = Object.fromEntries(Object.entries(options).filter(([name]) => !(name in overrides)));
    checkPretrainedOptions(others, "AutoTokenizer.from_pretrained");
    const files = await ModelFiles.find(id, others);
    try {
      const cacheFile = join(cacheFolder(), "tokenizers", `${await sourceKey(files.path)}.bin`);
      const isFile = (await stat(files.path)).isFile();
      const hasJson = !isFile && (await exists(join(files.path, "tokenizer.json")));
      const source = hasJson ? { folder: files.path } : { gguf: () => files.checkpoint() };
      return await loadTokenizer({ ...source, cacheFile, overrides });
    } finally {
      await files.close();
    }
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
    if (found !== undefined && (found.isFile() || candidate === path)) hash.update(`${await realpath(candidate)}\n${found.size}\n${found.mtimeMs}\n`);
  }
  return hash.digest("hex").slice(0, 40);
}
