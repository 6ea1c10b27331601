import { ConfigError } from "../errors.ts";
import { isJsonObject, type JsonObject } from "../models/config-reader.ts";
import { Gemma3TextConfig } from "../models/gemma3/config.ts";
import { Gemma3ForCausalLM } from "./gemma3.ts";
import { ModelFiles } from "./model-files.ts";
import { checkPretrainedOptions, type PretrainedOptions } from "./options.ts";

/** The configuration class of each `model_type`. */
const CONFIGS: Readonly<Record<string, new (config: JsonObject) => Gemma3TextConfig>> = {
  gemma3_text: Gemma3TextConfig,
};

const CAUSAL_LMS: Readonly<
  Record<string, { from_pretrained(id: string, options: PretrainedOptions): Promise<Gemma3ForCausalLM> }>
> = {
  gemma3_text: Gemma3ForCausalLM,
};

function lookUp<T>(table: Readonly<Record<string, T>>, config: object, id: string, what: string): T {
  const { model_type } = config as { model_type?: unknown };
  const found =
    typeof model_type === "string" && Object.hasOwn(table, model_type) ? table[model_type] : undefined;
  if (found !== undefined) return found;
  throw new ConfigError(
    `${id}: model_type ${JSON.stringify(model_type)} has no ${what}; supported are ${Object.keys(table).join(", ")}`,
    { key: "model_type" },
  );
}

/** Reads a configuration without its weights. */
export class AutoConfig {
  static async from_pretrained(id: string, options: PretrainedOptions = {}): Promise<Gemma3TextConfig> {
    checkPretrainedOptions(options, "AutoConfig.from_pretrained");
    const config = await readConfig(id, options);
    return new (lookUp(CONFIGS, config, id, "configuration class"))(config);
  }
}

async function readConfig(id: string, options: PretrainedOptions): Promise<JsonObject> {
  const files = await ModelFiles.find(id, options);
  return files.config().finally(() => files.close());
}

/** Chooses the class of a language model by its configuration. */
export class AutoModelForCausalLM {
  static async from_pretrained(id: string, options: PretrainedOptions = {}): Promise<Gemma3ForCausalLM> {
    checkPretrainedOptions(options, "AutoModelForCausalLM.from_pretrained");
    const config = isJsonObject(options.config) ? options.config : await readConfig(id, options);
    return lookUp(CAUSAL_LMS, config, id, "language model").from_pretrained(id, { ...options, config });
  }
}
