import { ConfigError } from "../errors.ts";
import { isJsonObject, type JsonObject } from "../models/config-reader.ts";
import { ModelFiles } from "./model-files.ts";
import { checkPretrainedOptions, type PretrainedOptions } from "./options.ts";

/** What a model's files say about one of its preprocessors. */
export interface PreprocessorConfig {
  /** Settings of the files and, before them, of the options. */
  readonly config: Readonly<Record<string, unknown>>;
  /** The class that the files name. */
  readonly type: string | undefined;
}

/** Where a preprocessor's settings stand. */
export interface PreprocessorPlace {
  /** Its block of processor_config.json. */
  readonly block: "image_processor" | "feature_extractor";
  /** The settings that it knows, in files and as options. */
  readonly names: readonly string[];
}

/**
 * Reads the settings of a preprocessor: newer checkpoints have them inside processor_config.json, which comes first in
 * HF too, older ones in preprocessor_config.json.
 */
export async function loadPreprocessorConfig(
  id: string,
  options: object,
  { block, names }: PreprocessorPlace,
  call: string,
): Promise<PreprocessorConfig> {
  const isSetting = ([name]: [string, unknown]): boolean => names.includes(name);
  const given = Object.entries(options);
  const others = Object.fromEntries(given.filter((entry) => !isSetting(entry))) as PretrainedOptions;
  checkPretrainedOptions(others, call);
  const files = await ModelFiles.find(id, others, { weights: false });
  try {
    const found = await preprocessorJson(files, block);
    const known = Object.entries(found).filter(isSetting);
    const overrides = given.filter((entry) => isSetting(entry) && entry[1] !== undefined);
    const type = found[`${block}_type`];
    return {
      config: Object.fromEntries([...known, ...overrides]),
      type: typeof type === "string" ? type : undefined,
    };
  } finally {
    await files.close();
  }
}

async function preprocessorJson(files: ModelFiles, block: PreprocessorPlace["block"]): Promise<JsonObject> {
  const inside = (await files.json("processor_config.json"))?.[block];
  const found = isJsonObject(inside) ? inside : await files.json("preprocessor_config.json");
  if (found !== undefined) return found;
  const beside = block === "image_processor" ? await files.imageProcessor() : undefined;
  if (beside !== undefined) return beside;
  throw new ConfigError(
    `${files.path}: there is neither a preprocessor_config.json nor ${block === "image_processor" ? "an" : "a"} ${block} in processor_config.json`,
  );
}
