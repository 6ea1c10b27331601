import { windowInUse } from "../../attention-masks.ts";
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

/**
 * Configuration of Gemma 3's text model, in one normal form whatever the spelling of config.json: transformers 4
 * (`rope_theta`, `rope_local_base_freq`, `rope_scaling`, `sliding_window_pattern`) or 5 (`rope_parameters`,
 * `layer_types`). Defaults are HF's.
 */
export class Gemma3TextConfig implements TextConfig {
  readonly model_type = "gemma3_text";
  readonly architectures: readonly string[];
  readonly vocab_size: number;
  readonly hidden_size: number;
  readonly intermediate_size: number;
  readonly num_hidden_layers: number;
  readonly num_attention_heads: number;
  readonly num_key_value_heads: number;
  readonly head_dim: number;
  readonly hidden_activation: string;
  readonly max_position_embeddings: number;
  readonly rms_norm_eps: number;
  /** The attention's scale is its inverse square root. */
  readonly query_pre_attn_scalar: number;
  /** Distance from which on a sliding layer sees nothing. Bidirectional models state twice as much in config.json. */
  readonly sliding_window: number;
  readonly layer_types: readonly LayerType[];
  readonly rope_parameters: Readonly<Record<LayerType, RopeParameters>>;
  readonly final_logit_softcapping: number | null;
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
    this.vocab_size = read.positiveInt("vocab_size", 262_208);
    this.hidden_size = read.positiveInt("hidden_size", 2304);
    this.intermediate_size = read.positiveInt("intermediate_size", 9216);
    this.num_hidden_layers = read.positiveInt("num_hidden_layers", 26);
    this.num_attention_heads = read.positiveInt("num_attention_heads", 8);
    this.num_key_value_heads = read.positiveInt("num_key_value_heads", 4);
    this.head_dim = read.positiveInt("head_dim", 256);
    this.hidden_activation = read.string("hidden_activation", "gelu_pytorch_tanh");
    this.max_position_embeddings = read.positiveInt("max_position_embeddings", 131_072);
    this.rms_norm_eps = read.positiveNumber("rms_norm_eps", 1e-6);
    this.query_pre_attn_scalar = read.positiveNumber("query_pre_attn_scalar", 256);
    this.use_bidirectional_attention = read.boolean("use_bidirectional_attention", false);
    this.sliding_window = windowInUse(
      read.positiveInt("sliding_window", 4096),
      this.use_bidirectional_attention,
    );
    this.layer_types = readLayerTypes(read, this.num_hidden_layers);
    this.rope_parameters = readRope(read);
    this.final_logit_softcapping = read.optionalPositiveNumber("final_logit_softcapping");
    this.attention_bias = read.boolean("attention_bias", false);
    this.tie_word_embeddings = read.boolean("tie_word_embeddings", true);
    this.bos_token_id = read.id("bos_token_id", 2);
    this.eos_token_id = readEos(read);
    this.pad_token_id = read.id("pad_token_id", 0);
    const labels = readLabels(read);
    this.id2label = labels.id2label;
    this.label2id = labels.label2id;
    this.num_labels = labels.num_labels;
    this.problem_type = labels.problem_type;
    this.token_classification_bias = labels.token_classification_bias;
    for (const key of [...KEYS_WITHOUT_EFFECT, "attn_logit_softcapping", "_sliding_window_pattern"])
      read.raw(key);
    this.unknown_keys = read.unknownKeys();
    checkHeads(read, this);
  }

  windowOf(kind: LayerType): number | null {
    return kind === "sliding_attention" ? this.sliding_window : null;
  }

  ropeOf(kind: LayerType): RopeParameters {
    return this.rope_parameters[kind];
  }
}

/** `layer_types` wins; else layer i is global when (i + 1) is a multiple of `sliding_window_pattern`. */
function readLayerTypes(read: ConfigReader, count: number): LayerType[] {
  const pattern = read.positiveInt("sliding_window_pattern", 6);
  const types = read.raw("layer_types");
  if (types === undefined) {
    return Array.from({ length: count }, (_, i) =>
      (i + 1) % pattern === 0 ? "full_attention" : "sliding_attention",
    );
  }
  if (!Array.isArray(types) || types.length !== count) {
    const got = Array.isArray(types) ? `${types.length} entries` : JSON.stringify(types);
    read.fail("layer_types", `expected a list of ${count} entries, one a layer, got ${got}`);
  }
  for (const type of types) {
    if (type !== "sliding_attention" && type !== "full_attention")
      read.fail("layer_types", `unknown layer type ${JSON.stringify(type)}`);
  }
  return types;
}

function readRope(read: ConfigReader): Record<LayerType, RopeParameters> {
  const theta = read.positiveNumber("rope_theta", 1_000_000);
  const localTheta = read.positiveNumber("rope_local_base_freq", 10_000);
  const scaling = read.raw("rope_scaling");
  const parameters = read.raw("rope_parameters");
  if (parameters === undefined) {
    return {
      full_attention: readRopeParameters(read, "rope_scaling", scaling, theta),
      sliding_attention: { rope_type: "default", rope_theta: localTheta, factor: 1 },
    };
  }
  if (!isJsonObject(parameters))
    read.fail("rope_parameters", `expected an object, got ${JSON.stringify(parameters)}`);
  // A flat object (one kind of rope for all layers) is how transformers 5 keeps an unconverted rope_scaling.
  const full =
    "full_attention" in parameters || "sliding_attention" in parameters
      ? parameters["full_attention"]
      : parameters;
  return {
    full_attention: readRopeParameters(read, "rope_parameters.full_attention", full, theta),
    sliding_attention: readRopeParameters(
      read,
      "rope_parameters.sliding_attention",
      parameters["sliding_attention"],
      localTheta,
    ),
  };
}
