import { ConfigError } from "../errors.ts";
import { isJsonObject, type JsonObject } from "../models/config-reader.ts";
import { GemmaConfig } from "../models/gemma/config.ts";
import { Gemma3TextConfig } from "../models/gemma3/config.ts";
import { Gemma3Config } from "../models/gemma3/multimodal-config.ts";
import { Gemma3nTextConfig } from "../models/gemma3n/config.ts";
import { Gemma3nConfig } from "../models/gemma3n/multimodal-config.ts";
import { sliceConfig } from "../models/gemma3n/slice.ts";
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
import {
  Gemma3ForConditionalGeneration,
  Gemma3ForSequenceClassification,
  Gemma3Model,
} from "./gemma3-multimodal.ts";
import { Gemma3nForCausalLM, Gemma3nTextModel } from "./gemma3n.ts";
import { Gemma3nForConditionalGeneration, Gemma3nModel } from "./gemma3n-multimodal.ts";
import { ModelFiles } from "./model-files.ts";
import { checkPretrainedOptions, type PretrainedOptions } from "./options.ts";

/** Something that has a class for each `model_type`. */
type ByType<T> = Readonly<Record<string, T>>;

interface ModelClass<Model> {
  from_pretrained(id: string, options: PretrainedOptions): Promise<Model>;
}

/** An instance of any model's configuration class. */
export type AnyConfig = GemmaConfig | Gemma3TextConfig | Gemma3Config | Gemma3nTextConfig | Gemma3nConfig;

const CONFIGS: ByType<new (config: JsonObject) => AnyConfig> = {
  gemma: GemmaConfig,
  gemma3_text: Gemma3TextConfig,
  gemma3: Gemma3Config,
  gemma3n_text: Gemma3nTextConfig,
  gemma3n: Gemma3nConfig,
};

const MODELS: ByType<ModelClass<BaseTextModel>> = {
  gemma: GemmaModel,
  gemma3_text: Gemma3TextModel,
  gemma3n_text: Gemma3nTextModel,
  gemma3: Gemma3Model,
  gemma3n: Gemma3nModel,
};

const CAUSAL_LMS: ByType<ModelClass<CausalLM>> = {
  gemma: GemmaForCausalLM,
  gemma3_text: Gemma3ForCausalLM,
  gemma3n_text: Gemma3nForCausalLM,
  gemma3n: Gemma3nForCausalLM,
  gemma3: Gemma3ForConditionalGeneration,
};

const IMAGE_TEXT_MODELS: ByType<ModelClass<CausalLM>> = {
  gemma3: Gemma3ForConditionalGeneration,
  gemma3n: Gemma3nForConditionalGeneration,
};

const SEQUENCE_CLASSIFIERS: ByType<ModelClass<SequenceClassifier>> = {
  gemma: GemmaForSequenceClassification,
  gemma3_text: Gemma3TextForSequenceClassification,
  gemma3: Gemma3ForSequenceClassification,
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
export function configOf(config: JsonObject, id: string): AnyConfig {
  return new (lookUp(CONFIGS, config, id, "configuration class"))(config);
}

/** Reads a configuration without its weights. */
export class AutoConfig {
  static async from_pretrained(id: string, options: PretrainedOptions = {}): Promise<AnyConfig> {
    checkPretrainedOptions(options, "AutoConfig.from_pretrained");
    return configOf(await configJson(id, options), id);
  }
}

/** A model's configuration as JSON, of the slice that was asked for; no weights are fetched. */
export async function configJson(id: string, options: PretrainedOptions): Promise<JsonObject> {
  const json = await readConfig(id, options, { weights: false });
  return options.slice == null ? json : sliceConfig(json, options.slice).config;
}

async function readConfig(
  id: string,
  options: PretrainedOptions,
  { weights = true, encoders = false }: { readonly weights?: boolean; readonly encoders?: boolean } = {},
): Promise<JsonObject> {
  const files = await ModelFiles.find(id, options, { weights });
  return files.config({ encoders }).finally(() => files.close());
}

/** Chooses the class of a model by its configuration, and loads it. */
async function load<T>(
  classes: ByType<ModelClass<T>>,
  id: string,
  options: PretrainedOptions,
  auto: string,
  what: string,
  encoders = false,
): Promise<T> {
  checkPretrainedOptions(options, `${auto}.from_pretrained`);
  const config = isJsonObject(options.config) ? options.config : await readConfig(id, options, { encoders });
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

/** The language model that reads images besides text. */
export class AutoModelForImageTextToText {
  static from_pretrained(id: string, options: PretrainedOptions = {}): Promise<CausalLM> {
    return load(
      IMAGE_TEXT_MODELS,
      id,
      options,
      "AutoModelForImageTextToText",
      "language model with images",
      true,
    );
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
