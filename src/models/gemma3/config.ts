import { ConfigReader, isJsonObject, type JsonObject } from "../config-reader.ts";
import { type RopeParameters, readRopeParameters } from "../rope-config.ts";

export type LayerType = "sliding_attention" | "full_attention";

/**
 * Configuration of Gemma 3's text model, in one normal form whatever the spelling of config.json: transformers 4
 * (`rope_theta`, `rope_local_base_freq`, `rope_scaling`, `sliding_window_pattern`) or 5 (`rope_parameters`,
 * `layer_types`). Defaults are HF's.
 */
export class Gemma3TextConfig {
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
  /** Keys that a query of a sliding layer sees, itself included. */
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
    this.sliding_window = read.positiveInt("sliding_window", 4096);
    this.layer_types = readLayerTypes(read, this.num_hidden_layers);
    this.rope_parameters = readRope(read);
    this.final_logit_softcapping = read.optionalPositiveNumber("final_logit_softcapping");
    this.attention_bias = read.boolean("attention_bias", false);
    this.tie_word_embeddings = read.boolean("tie_word_embeddings", true);
    this.use_bidirectional_attention = read.boolean("use_bidirectional_attention", false);
    this.bos_token_id = read.id("bos_token_id", 2);
    this.eos_token_id = readEos(read);
    this.pad_token_id = read.id("pad_token_id", 0);
    for (const key of WITHOUT_EFFECT) read.raw(key);
    this.unknown_keys = read.unknownKeys();
    this.#check(read);
  }

  /** Layers' window: positions that a layer of this kind can see, or null for all. */
  windowOf(layerType: LayerType): number | null {
    return layerType === "sliding_attention" ? this.sliding_window : null;
  }

  #check(read: ConfigReader): void {
    const { num_attention_heads, num_key_value_heads } = this;
    if (num_attention_heads % num_key_value_heads !== 0) {
      read.fail(
        "num_key_value_heads",
        `${num_attention_heads} attention heads are no multiple of ${num_key_value_heads}`,
      );
    }
    if (this.head_dim % 2 !== 0)
      read.fail("head_dim", `must be even for rotary embeddings, got ${this.head_dim}`);
    if (this.attention_bias)
      read.fail("attention_bias", "true is not supported: no Gemma 3 checkpoint has these biases");
    if (this.use_bidirectional_attention)
      read.fail("use_bidirectional_attention", "true is not supported yet");
  }
}

/** Known keys that change nothing here: training, bookkeeping, and what HF stores without using it. */
const WITHOUT_EFFECT = [
  "model_type",
  "transformers_version",
  "torch_dtype",
  "dtype",
  "attention_dropout",
  "initializer_range",
  "use_cache",
  "cache_implementation",
  "attn_logit_softcapping",
  "_sliding_window_pattern",
  "_name_or_path",
  "output_attentions",
  "output_hidden_states",
  "return_dict",
  "is_encoder_decoder",
];

function readStrings(read: ConfigReader, key: string): string[] {
  const value = read.raw(key) ?? [];
  if (!Array.isArray(value) || value.some((item) => typeof item !== "string"))
    read.fail(key, "expected a list of strings");
  return value;
}

function readEos(read: ConfigReader): number | readonly number[] | null {
  const value = read.raw("eos_token_id");
  if (Array.isArray(value)) {
    if (value.some((id) => !Number.isSafeInteger(id)))
      read.fail("eos_token_id", "expected a token id or a list of them");
    return value;
  }
  return read.id("eos_token_id", 1);
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
