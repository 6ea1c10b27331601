import type { ConfigReader, JsonObject } from "./config-reader.ts";
import {
  type LabelConfig,
  type ModelConfig,
  type ProblemType,
  readArchitectures,
  readEos,
  readLabels,
  type TextConfig,
  type TokenIds,
} from "./text-config.ts";

/** What the configurations of models with several kinds of input have in common. */
export abstract class MultimodalConfig<Text extends TextConfig> implements ModelConfig {
  abstract readonly model_type: string;
  readonly architectures: readonly string[];
  readonly text_config: Text;
  readonly tie_word_embeddings: boolean;
  readonly bos_token_id: number | null;
  readonly eos_token_id: TokenIds;
  readonly pad_token_id: number | null;
  readonly id2label: LabelConfig["id2label"];
  readonly label2id: LabelConfig["label2id"];
  readonly num_labels: number;
  readonly problem_type: ProblemType | null;
  readonly token_classification_bias: boolean;
  /** Keys of config.json that the class does not know; they have no effect. */
  abstract readonly unknown_keys: readonly string[];

  protected constructor(read: ConfigReader, text_config: Text) {
    this.architectures = readArchitectures(read);
    this.text_config = text_config;
    this.tie_word_embeddings = read.boolean("tie_word_embeddings", true);
    this.bos_token_id = read.id("bos_token_id", text_config.bos_token_id);
    this.eos_token_id = readEos(read, text_config.eos_token_id);
    this.pad_token_id = read.id("pad_token_id", text_config.pad_token_id);
    const labels = readLabels(read);
    this.id2label = labels.id2label;
    this.label2id = labels.label2id;
    this.num_labels = labels.num_labels;
    this.problem_type = labels.problem_type;
    this.token_classification_bias = labels.token_classification_bias;
    for (const key of KEYS_WITHOUT_EFFECT) read.raw(key);
  }

  get_text_config(): Text {
    return this.text_config;
  }
}

/** A part's configuration: config.json's contents under a key, or an instance as it is. */
export function partConfig<Config>(
  read: ConfigReader,
  key: string,
  Type: new (json?: JsonObject, prefix?: string) => Config,
): Config {
  const given = read.raw(key);
  return given instanceof Type ? given : new Type(given as JsonObject | undefined, key);
}

const KEYS_WITHOUT_EFFECT: readonly string[] = [
  "model_type",
  "transformers_version",
  "torch_dtype",
  "dtype",
  "initializer_range",
  "use_cache",
  "_name_or_path",
  "quantization_config",
];
