import { withModelPrefix } from "../checkpoints/model-prefix.ts";
import { ConfigError } from "../errors.ts";
import type { JsonObject } from "../models/config-reader.ts";
import { GemmaConfig } from "../models/gemma/config.ts";
import { GemmaTextModule } from "../models/gemma/text.ts";
import { Gemma3TextConfig } from "../models/gemma3/config.ts";
import { Gemma3TextModule } from "../models/gemma3/text.ts";
import { type Gemma3nTextConfig, gemma3nTextConfig } from "../models/gemma3n/config.ts";
import { Gemma3nTextModule } from "../models/gemma3n/text.ts";
import { CausalLMModule, ClassificationModule, HeadedModule, type TextModule } from "../models/heads.ts";
import type { TextConfig } from "../models/text-config.ts";
import type { PretrainedOptions } from "./options.ts";
import { type LoadedModel, loadModel } from "./pretrained-model.ts";

/** How the text models of one architecture are made of its configuration. */
export interface TextFamily<Config extends TextConfig> {
  /** `model_type` of its configurations. */
  readonly model_type: string;
  /** That of models with more kinds of input, whose text model it is. */
  readonly wider_type?: string;
  /** From config.json's contents, or an instance as it is. */
  config(json: JsonObject | Config): Config;
  text(config: Config): TextModule;
}

export const GEMMA: TextFamily<GemmaConfig> = {
  model_type: "gemma",
  config: (json) => (json instanceof GemmaConfig ? json : new GemmaConfig(json)),
  text: (config) => new GemmaTextModule(config),
};

export const GEMMA3_TEXT: TextFamily<Gemma3TextConfig> = {
  model_type: "gemma3_text",
  config: (json) => (json instanceof Gemma3TextConfig ? json : new Gemma3TextConfig(json)),
  text: (config) => new Gemma3TextModule(config),
};

export const GEMMA3N_TEXT: TextFamily<Gemma3nTextConfig> = {
  model_type: "gemma3n_text",
  wider_type: "gemma3n",
  config: gemma3nTextConfig,
  text: (config) => new Gemma3nTextModule(config),
};

/** What stands on a text model. */
export interface Head {
  module(text: TextModule, config: TextConfig): HeadedModule;
  /** Numbers per position. */
  size(config: TextConfig): number;
}

export const NO_HEAD: Head = { module: (text) => new HeadedModule(text), size: () => 0 };

export const LANGUAGE_MODEL: Head = {
  module: (text, config) => new CausalLMModule(text, config),
  size: ({ vocab_size }) => vocab_size,
};

export const SEQUENCE_CLASSIFIER: Head = {
  module: (text, config) => new ClassificationModule(text, config.hidden_size, config.num_labels, false),
  size: ({ num_labels }) => num_labels,
};

export const TOKEN_CLASSIFIER: Head = {
  module: (text, config) =>
    new ClassificationModule(text, config.hidden_size, config.num_labels, config.token_classification_bias),
  size: ({ num_labels }) => num_labels,
};

/** A text model that was found and brought into the form that runs. */
export interface LoadedTextModel<Config extends TextConfig> {
  readonly loaded: LoadedModel;
  readonly config: Config;
  readonly module: HeadedModule;
  readonly logits_size: number;
}

/** Loads what a class of this family and head needs; `name` is the class', for messages. */
export async function loadTextModel<Config extends TextConfig>(
  id: string,
  options: PretrainedOptions,
  name: string,
  family: TextFamily<Config>,
  head: Head,
): Promise<LoadedTextModel<Config>> {
  let built: { config: Config; module: HeadedModule } | undefined;
  const loaded = await loadModel(id, options, `${name}.from_pretrained`, {
    module: (json) => {
      checkType(json, family, id, name);
      const config = family.config(json);
      built = { config, module: head.module(family.text(config), config) };
      return built.module;
    },
    checkpoint: withModelPrefix,
  });
  const { config, module } = built!;
  return { loaded, config, module, logits_size: head.size(config) };
}

/** Another architecture's weights may fit by their names, and give nonsense. */
function checkType(
  json: JsonObject,
  { model_type: expected, wider_type }: Pick<TextFamily<TextConfig>, "model_type" | "wider_type">,
  id: string,
  name: string,
): void {
  const { model_type = expected } = json;
  if (model_type === expected || model_type === wider_type) return;
  throw new ConfigError(
    `${id}: model_type ${JSON.stringify(model_type)} is not for ${name}, which runs "${expected}"; an Auto class chooses the right one`,
    { key: "model_type" },
  );
}
