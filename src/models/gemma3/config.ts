import { windowInUse } from "../../attention-masks.ts";
import { ConfigReader, isJsonObject, type JsonObject } from "../config-reader.ts";
import type { LayerType } from "../decoder-inputs.ts";
import { type RopeParameters, readRopeParameters } from "../rope-config.ts";
import { TextConfig } from "../text-config.ts";

/**
 * Configuration of Gemma 3's text model, in one normal form whatever the spelling of config.json: transformers 4
 * (`rope_theta`, `rope_local_base_freq`, `rope_scaling`, `sliding_window_pattern`) or 5 (`rope_parameters`,
 * `layer_types`). Defaults are HF's.
 */
export class Gemma3TextConfig extends TextConfig {
  readonly model_type = "gemma3_text";
  readonly hidden_activation: string;
  /** The attention's scale is its inverse square root. */
  readonly query_pre_attn_scalar: number;
  /** Distance from which on a sliding layer sees nothing. Bidirectional models state twice as much in config.json. */
  readonly sliding_window: number;
  readonly layer_types: readonly LayerType[];
  readonly rope_parameters: Readonly<Record<LayerType, RopeParameters>>;
  override readonly final_logit_softcapping: number | null;
  readonly unknown_keys: readonly string[];

  constructor(config: JsonObject = {}) {
    const read = new ConfigReader(config);
    super(read, {
      vocab_size: 262_208,
      hidden_size: 2304,
      intermediate_size: 9216,
      num_hidden_layers: 26,
      num_attention_heads: 8,
      num_key_value_heads: 4,
      max_position_embeddings: 131_072,
    });
    this.hidden_activation = read.string("hidden_activation", "gelu_pytorch_tanh");
    this.query_pre_attn_scalar = read.positiveNumber("query_pre_attn_scalar", 256);
    this.sliding_window = windowInUse(
      read.positiveInt("sliding_window", 4096),
      this.use_bidirectional_attention,
    );
    this.layer_types = readLayerTypes(read, this.num_hidden_layers);
    this.rope_parameters = readRope(read);
    this.final_logit_softcapping = read.optionalPositiveNumber("final_logit_softcapping");
    for (const key of ["attn_logit_softcapping", "_sliding_window_pattern"]) read.raw(key);
    this.unknown_keys = read.unknownKeys();
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
