import { ConfigReader, isJsonObject, type JsonObject } from "../config-reader.ts";
import type { LayerType } from "../decoder-inputs.ts";
import { type RopeParameters, readRopeParameters } from "../rope-config.ts";
import {
  checkHeads,
  KEYS_WITHOUT_EFFECT,
  type LabelConfig,
  type ProblemType,
  readEos,
  readLabels,
  readStrings,
  type TextConfig,
} from "../text-config.ts";

/** Configuration of Gemma (2B, 7B), in either spelling of its rotary base. Defaults are HF's: the 7B's. */
export class GemmaConfig implements TextConfig {
  readonly model_type = "gemma";
  readonly architectures: readonly string[];
  readonly vocab_size: number;
  readonly hidden_size: number;
  readonly intermediate_size: number;
  readonly num_hidden_layers: number;
  readonly num_attention_heads: number;
  /** 1 is multi-query attention (2B); as many as heads is multi-head attention (7B). */
  readonly num_key_value_heads: number;
  readonly head_dim: number;
  readonly hidden_act: string;
  readonly max_position_embeddings: number;
  readonly rms_norm_eps: number;
  readonly rope_parameters: RopeParameters;
  readonly layer_types: readonly LayerType[];
  readonly attention_bias: boolean;
  readonly tie_word_embeddings: boolean;
  readonly use_bidirectional_attention: boolean;
  readonly bos_token_id: number | null;
  readonly eos_token_id: number | readonly number[] | null;
  readonly pad_token_id: number | null;
  readonly id2label: LabelConfig["id2label"];
  readonly label2id: LabelConfig["label2id"];
  readonly num_labels: number;
  readonly problem_type: ProblemType | null;
  readonly token_classification_bias: boolean;
  /** Keys of config.json that this class does not know; they have no effect. */
  readonly unknown_keys: readonly string[];

  constructor(config: JsonObject = {}) {
    const read = new ConfigReader(config);
    this.architectures = readStrings(read, "architectures");
    this.vocab_size = read.positiveInt("vocab_size", 256_000);
    this.hidden_size = read.positiveInt("hidden_size", 3072);
    this.intermediate_size = read.positiveInt("intermediate_size", 24_576);
    this.num_hidden_layers = read.positiveInt("num_hidden_layers", 28);
    this.num_attention_heads = read.positiveInt("num_attention_heads", 16);
    this.num_key_value_heads = read.positiveInt("num_key_value_heads", 16);
    this.head_dim = read.positiveInt("head_dim", 256);
    this.hidden_act = readActivation(read);
    this.max_position_embeddings = read.positiveInt("max_position_embeddings", 8192);
    this.rms_norm_eps = read.positiveNumber("rms_norm_eps", 1e-6);
    this.rope_parameters = readRope(read);
    this.layer_types = new Array<LayerType>(this.num_hidden_layers).fill("full_attention");
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
    this.unknown_keys = read.unknownKeys();
    checkHeads(read, this);
  }

  windowOf(_kind: LayerType): null {
    return null;
  }

  ropeOf(_kind: LayerType): RopeParameters {
    return this.rope_parameters;
  }
}

/** The first releases wrote `hidden_act: "gelu"` and meant the tanh approximation; HF's old code read `hidden_activation` instead. */
function readActivation(read: ConfigReader): string {
  const activation = read.string("hidden_act", "gelu_pytorch_tanh");
  read.raw("hidden_activation");
  return activation === "gelu" ? "gelu_pytorch_tanh" : activation;
}

function readRope(read: ConfigReader): RopeParameters {
  const theta = read.positiveNumber("rope_theta", 10_000);
  const scaling = read.raw("rope_scaling");
  const parameters = read.raw("rope_parameters");
  if (parameters === undefined) return readRopeParameters(read, "rope_scaling", scaling, theta);
  if (!isJsonObject(parameters))
    read.fail("rope_parameters", `expected an object, got ${JSON.stringify(parameters)}`);
  return readRopeParameters(read, "rope_parameters", parameters, theta);
}
