import { join } from "node:path";
import { InputError } from "../errors.ts";
import { ConfigReader, isJsonObject } from "../models/config-reader.ts";
import { type ModelFiles, readJsonFile } from "./model-files.ts";
import { SIMILARITY_NAMES, type SimilarityName } from "./similarity.ts";

/** What the folder of a sentence-transformers model says besides its modules. */
export interface SentenceSettings {
  readonly prompts: Readonly<Record<string, string>>;
  readonly default_prompt_name: string | null;
  readonly similarity_fn_name: string;
  readonly truncate_dim: number | null;
  readonly max_seq_length: number | null;
  readonly do_lower_case: boolean;
}

/** config_sentence_transformers.json of the folder, and sentence_bert_config.json beside the transformer. */
export async function readSentenceSettings(
  files: ModelFiles,
  transformer: string,
): Promise<SentenceSettings> {
  const read = new ConfigReader((await files.json("config_sentence_transformers.json")) ?? {});
  const bert = await readJsonFile(join(files.path, transformer, "sentence_bert_config.json"));
  const encoder = new ConfigReader(isJsonObject(bert) ? bert : {});
  const optionalCount = (reader: ConfigReader, key: string): number | null =>
    reader.raw(key) === undefined ? null : reader.positiveInt(key);
  return {
    // Both roles always exist, so that encode_query and encode_document are plain where nothing was trained.
    prompts: { query: "", document: "", ...readPrompts(read) },
    default_prompt_name:
      read.raw("default_prompt_name") === undefined ? null : read.string("default_prompt_name"),
    similarity_fn_name: read.string("similarity_fn_name", "cosine"),
    truncate_dim: optionalCount(read, "truncate_dim"),
    max_seq_length: optionalCount(encoder, "max_seq_length"),
    do_lower_case: encoder.boolean("do_lower_case", false),
  };
}

function readPrompts(read: ConfigReader): Record<string, string> {
  const prompts = read.raw("prompts") ?? {};
  if (!isJsonObject(prompts)) read.fail("prompts", "expected an object of texts by name");
  const texts = Object.entries(prompts).map(([name, text]) => {
    if (text !== null && typeof text !== "string") read.fail(`prompts.${name}`, "expected a text");
    return [name, text ?? ""];
  });
  return Object.fromEntries(texts) as Record<string, string>;
}

/** Checks the name of a measure. */
export function checkSimilarity(name: string): SimilarityName {
  if (SIMILARITY_NAMES.includes(name as SimilarityName)) return name as SimilarityName;
  throw new InputError(`similarity_fn_name: expected ${SIMILARITY_NAMES.join(", ")}, got "${name}"`, {
    option: "similarity_fn_name",
  });
}

/** Checks a count that may be left open (null). */
export function checkPositive(option: string, value: number | null): number | null {
  if (value === null || (Number.isSafeInteger(value) && value > 0)) return value;
  throw new InputError(`${option}: expected a positive whole number, got ${value}`, { option });
}
