import { ConfigError } from "../errors.ts";
import { isJsonObject, type JsonObject } from "../models/config-reader.ts";
import { GemmaConfig } from "../models/gemma/config.ts";
import { Gemma3TextConfig } from "../models/gemma3/config.ts";
import { Gemma3nTextConfig } from "../models/gemma3n/config.ts";
import type { BaseTextModel } from "./base-model.ts";
import type { CausalLM } from "./causal-lm.ts";
import type { SequenceClassifier, TokenClassifier } from "./classifiers.ts";
import {
  GemmaForCausalLM,
  GemmaForSequenceClassification,
  GemmaForTokenClassification,
  GemmaModel,
} from "./gemma.ts";
import { Gemma3ForCausalLM, Gemma3TextForSequenceClassification, Gemma3TextModel } from "./gemma3.ts";
import { Gemma3nForCausalLM, Gemma3nTextModel } from "./gemma3n.ts";
import { ModelFiles } from "./model-files.ts";
import { checkPretrainedOptions, type PretrainedOptions } from "./options.ts";

/** Something that has a class for each `model_type`. */
type ByType<T> = Readonly<Record<string, T>>;

interface ModelClass<Model> {
  from_pretrained(id: string, options: PretrainedOptions): Promise<Model>;
}

/** A configuration that some model class is made for. */
type KnownConfig = GemmaConfig | Gemma3TextConfig | Gemma3nTextConfig;

const CONFIGS: ByType<new (config: JsonObject) => KnownConfig> = {
  gemma: GemmaConfig,
  gemma3_text: Gemma3TextConfig,
  gemma3n_text: Gemma3nTextConfig,
};

const MODELS: ByType<ModelClass<BaseTextModel>> = {
  gemma: GemmaModel,
  gemma3_text: Gemma3TextModel,
  gemma3n_text: Gemma3nTextModel,
};

const CAUSAL_LMS: ByType<ModelClass<CausalLM>> = {
  gemma: GemmaForCausalLM,
  gemma3_text: Gemma3ForCausalLM,
  gemma3n_text: Gemma3nForCausalLM,
  gemma3n: Gemma3nForCausalLM,
};

const SEQUENCE_CLASSIFIERS: ByType<ModelClass<SequenceClassifier>> = {
  gemma: GemmaForSequenceClassification,
  gemma3_text: Gemma3TextForSequenceClassification,
};

const TOKEN_CLASSIFIERS: ByType<ModelClass<TokenClassifier>> = {
  gemma: GemmaForTokenClassification,
};

function lookUp<T>(table: ByType<T>, config: object, id: string, what: string): T {
  const { model_type } = config as { model_type?: unknown };
  const found =
    typeof model_type === "string" && Object.hasOwn(table, model_type) ? table[model_type] : undefined;
  if (found !== undefined) return found;
  throw new ConfigError(
    `${id}: model_type ${JSON.stringify(model_type)} has no ${what}; supported are ${Object.keys(table).join(", ")}`,
    { key: "model_type" },
  );
}

/** An instance of the class that a configuration's `model_type` asks for; `id` is for messages. */
export function configOf(config: JsonObject, id: string): KnownConfig {
  return new (lookUp(CONFIGS, config, id, "configuration class"))(config);
}

/** Reads a configuration without its weights. */
export class AutoConfig {
  static async from_pretrained(id: string, options: PretrainedOptions = {}): Promise<KnownConfig> {
    checkPretrainedOptions(options, "AutoConfig.from_pretrained");
    return configOf(await readConfig(id, options, false), id);
  }
}

async function readConfig(id: string, options: PretrainedOptions, weights = true): Promise<JsonObject> {
  const files = await ModelFiles.find(id, options, { weights });
  return files.config().finally(() => files.close());
}

/** Chooses the class of a model by its configuration, and loads it. */
async function load<T>(
  classes: ByType<ModelClass<T>>,
  id: string,
  options: PretrainedOptions,
  auto: string,
  what: string,
): Promise<T> {
  checkPretrainedOptions(options, `${auto}.from_pretrained`);
  const config = isJsonObject(options.config) ? options.config : await readConfig(id, options);
  return lookUp(classes, config, id, what).from_pretrained(id, { ...options, config });
}

/** The model without a head that a configuration asks for. */
export class AutoModel {
  static from_pretrained(id: string, options: PretrainedOptions = {}): Promise<BaseTextModel> {
    return load(MODELS, id, options, "AutoModel", "model class");
  }
}

/** The language model that a configuration asks for. */
export class AutoModelForCausalLM {
  static from_pretrained(id: string, options: PretrainedOptions = {}): Promise<CausalLM> {
    return load(CAUSAL_LMS, id, options, "AutoModelForCausalLM", "language model");
  }
}

/** The classifier of texts that a configuration asks for. */
export class AutoModelForSequenceClassification {
  static from_pretrained(id: string, options: PretrainedOptions = {}): Promise<SequenceClassifier> {
    return load(
      SEQUENCE_CLASSIFIERS,
      id,
      options,
      "AutoModelForSequenceClassification",
      "classifier of texts",
    );
  }
}

/** The classifier of tokens that a configuration asks for. */
export class AutoModelForTokenClassification {
  static from_pretrained(id: string, options: PretrainedOptions = {}): Promise<TokenClassifier> {
    return load(TOKEN_CLASSIFIERS, id, options, "AutoModelForTokenClassification", "classifier of tokens");
  }
}
