import { alignHeadDim } from "../nn/head-dim.ts";
import type { ConfigReader } from "./config-reader.ts";
import type { LayerCacheSpec, LayerType } from "./decoder-inputs.ts";
import type { RopeParameters } from "./rope-config.ts";

/** What the configurations of Gemma's text models have in common; where a model's own defaults differ, it gives them. */
export abstract class TextConfig implements ModelConfig {
  abstract readonly model_type: string;
  readonly architectures: readonly string[];
  readonly vocab_size: number;
  readonly hidden_size: number;
  /** Of the feed-forward layers; a list where each may have its own (MatFormer). */
  abstract readonly intermediate_size: number | readonly number[];
  readonly num_hidden_layers: number;
  readonly num_attention_heads: number;
  /** 1 is multi-query attention; as many as heads is multi-head attention. */
  readonly num_key_value_heads: number;
  readonly head_dim: number;
  readonly max_position_embeddings: number;
  readonly rms_norm_eps: number;
  abstract readonly layer_types: readonly LayerType[];
  declare readonly final_logit_softcapping?: number | null;
  /** So many layers at the end read the keys and values of earlier ones. */
  declare readonly num_kv_shared_layers?: number;
  readonly attention_bias: boolean;
  readonly tie_word_embeddings: boolean;
  readonly use_bidirectional_attention: boolean;
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

  protected constructor(read: ConfigReader, defaults: TextDefaults) {
    this.architectures = readArchitectures(read);
    this.vocab_size = read.positiveInt("vocab_size", defaults.vocab_size);
    this.hidden_size = read.positiveInt("hidden_size", defaults.hidden_size);
    this.num_hidden_layers = read.layerCount("num_hidden_layers", defaults.num_hidden_layers);
    this.num_attention_heads = read.positiveInt("num_attention_heads", defaults.num_attention_heads);
    this.num_key_value_heads = read.positiveInt("num_key_value_heads", defaults.num_key_value_heads);
    this.head_dim = read.positiveInt("head_dim", 256);
    this.max_position_embeddings = read.positiveInt(
      "max_position_embeddings",
      defaults.max_position_embeddings,
    );
    this.rms_norm_eps = read.positiveNumber("rms_norm_eps", 1e-6);
    this.attention_bias = read.boolean("attention_bias", false);
    this.tie_word_embeddings = read.boolean("tie_word_embeddings", true);
    this.use_bidirectional_attention = read.boolean("use_bidirectional_attention", false);
    this.bos_token_id = read.id("bos_token_id", 2);
    this.eos_token_id = readEos(read);
    this.pad_token_id = read.id("pad_token_id", 0);
    const labels = readLabels(read);
    this.id2label = labels.id2label;
    this.label2id = labels.label2id;
    this.num_labels = labels.num_labels;
    this.problem_type = labels.problem_type;
    this.token_classification_bias = labels.token_classification_bias;
    for (const key of KEYS_WITHOUT_EFFECT) read.raw(key);
    checkHeads(read, this);
  }

  /** As in HF: the part of a configuration that describes the text model, here all of it. */
  get_text_config(): this {
    return this;
  }

  /** Distance from which on a layer of this kind sees nothing, or null. */
  abstract windowOf(kind: LayerType): number | null;
  abstract ropeOf(kind: LayerType): RopeParameters;
}

/** What the configurations of all models have, those of text models and those that contain one. */
export interface ModelConfig extends LabelConfig {
  readonly model_type: string;
  readonly architectures: readonly string[];
  readonly bos_token_id: number | null;
  readonly eos_token_id: TokenIds;
  readonly pad_token_id: number | null;
  readonly tie_word_embeddings: boolean;
  get_text_config(): TextConfig;
}

/** Sizes that a configuration without them has. */
export type TextDefaults = Pick<
  TextConfig,
  | "vocab_size"
  | "hidden_size"
  | "num_hidden_layers"
  | "num_attention_heads"
  | "num_key_value_heads"
  | "max_position_embeddings"
>;

/** Labels of a classifier. */
export interface LabelConfig {
  readonly id2label: Readonly<Record<number, string>>;
  readonly label2id: Readonly<Record<string, number>>;
  readonly num_labels: number;
  /** What the scores mean, and so which loss they have; null: it depends on the labels. */
  readonly problem_type: ProblemType | null;
  /** Whether a token classifier's scores have a bias. */
  readonly token_classification_bias: boolean;
}

export type ProblemType = "regression" | "single_label_classification" | "multi_label_classification";

const PROBLEM_TYPES: readonly unknown[] = [
  "regression",
  "single_label_classification",
  "multi_label_classification",
];

/** More labels than this are a mistake, not a classifier. */
const MAX_LABELS = 1_000_000;

/** Reads the labels; two unnamed ones where there are none, as in HF. */
export function readLabels(read: ConfigReader): LabelConfig {
  const given = read.raw("id2label");
  const count = read.positiveInt("num_labels", 2);
  if (given === undefined && count > MAX_LABELS) read.fail("num_labels", `${count} are too many`);
  const id2label =
    given === undefined
      ? Object.fromEntries(Array.from({ length: count }, (_, i) => [i, `LABEL_${i}`]))
      : labelNames(read, given);
  const problem_type = read.raw("problem_type") ?? null;
  if (problem_type !== null && !PROBLEM_TYPES.includes(problem_type))
    read.fail(
      "problem_type",
      `expected one of ${PROBLEM_TYPES.join(", ")}, got ${JSON.stringify(problem_type)}`,
    );
  read.raw("label2id");
  return {
    id2label,
    label2id: Object.fromEntries(Object.entries(id2label).map(([id, label]) => [label, Number(id)])),
    num_labels: Object.keys(id2label).length,
    problem_type: problem_type as ProblemType | null,
    token_classification_bias: read.boolean("token_classification_bias", true),
  };
}

function labelNames(read: ConfigReader, given: unknown): Record<number, string> {
  const names = Object.entries(given as object);
  const valid =
    typeof given === "object" &&
    names.length > 0 &&
    names.every(([id, label]) => Number(id) < names.length && /^\d+$/.test(id) && typeof label === "string");
  if (!valid) read.fail("id2label", "expected an object with a name for each of the ids 0, 1, …");
  return Object.fromEntries(names);
}

/** Checks what attention asks of the sizes. */
function checkHeads(
  read: ConfigReader,
  config: Pick<TextConfig, "num_attention_heads" | "num_key_value_heads" | "head_dim">,
): void {
  const { num_attention_heads, num_key_value_heads, head_dim } = config;
  if (num_attention_heads % num_key_value_heads !== 0) {
    read.fail(
      "num_key_value_heads",
      `${num_attention_heads} attention heads are no multiple of ${num_key_value_heads}`,
    );
  }
  if (head_dim % 2 !== 0) read.fail("head_dim", `must be even for rotary embeddings, got ${head_dim}`);
}

/** Known keys that change nothing here: training, bookkeeping, and what HF stores without using it. */
const KEYS_WITHOUT_EFFECT: readonly string[] = [
  "model_type",
  "transformers_version",
  "torch_dtype",
  "dtype",
  "attention_dropout",
  "classifier_dropout",
  "hidden_dropout",
  "initializer_range",
  "use_cache",
  "cache_implementation",
  "_name_or_path",
  "output_attentions",
  "output_hidden_states",
  "return_dict",
  "is_encoder_decoder",
  "quantization_config",
];

/** HF's classes that the checkpoint was made for. */
export function readArchitectures(read: ConfigReader): string[] {
  const value = read.raw("architectures") ?? [];
  if (!Array.isArray(value) || value.some((item) => typeof item !== "string"))
    read.fail("architectures", "expected a list of strings");
  return value;
}

/** One token, a list of them, or none. */
export type TokenIds = number | readonly number[] | null;

export function readEos(read: ConfigReader, fallback: TokenIds = 1): TokenIds {
  const value = read.raw("eos_token_id");
  if (Array.isArray(value)) {
    if (value.some((id) => !Number.isSafeInteger(id)))
      read.fail("eos_token_id", "expected a token id or a list of them");
    return value;
  }
  if (value === undefined && typeof fallback === "object") return fallback;
  return read.id("eos_token_id", fallback as number);
}

/** The caches of a model: one for each layer that has keys and values of its own. */
export function layerCaches(config: TextConfig): LayerCacheSpec[] {
  const keysOf = keySources(config);
  return config.layer_types.flatMap((kind, layer) => {
    if (keysOf[layer] !== layer) return [];
    const readers = keysOf.flatMap((source, reader) => (source === layer && reader > layer ? [reader] : []));
    return {
      kind,
      kv_heads: config.num_key_value_heads,
      head_dim: alignHeadDim(config.head_dim),
      true_head_dim: config.head_dim,
      window: config.windowOf(kind),
      ...(readers.length === 0 ? {} : { readers }),
    };
  });
}

/**
 * For each layer the one whose keys and values it reads: its own, or where the last layers share them (config key
 * `num_kv_shared_layers`) those of the last layer of its kind before them.
 */
export function keySources({
  layer_types,
  num_kv_shared_layers = 0,
}: Pick<TextConfig, "layer_types" | "num_kv_shared_layers">): number[] {
  const own = layer_types.length - num_kv_shared_layers;
  const last = (kind: LayerType): number => layer_types.slice(0, own).lastIndexOf(kind);
  return layer_types.map((kind, layer) => (layer < own ? layer : last(kind)));
}
