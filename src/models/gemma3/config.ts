import { windowInUse } from "../../attention-masks.ts";
import { ConfigReader, isJsonObject, type JsonObject } from "../config-reader.ts";
import type { LayerType } from "../decoder-inputs.ts";
import { readLayerTypes } from "../layer-types.ts";
import { type RopeParameters, readLocalGlobalRope } from "../rope-config.ts";
import { TextConfig } from "../text-config.ts";

/**
 * Configuration of Gemma 3's text model, in one normal form whatever the spelling of config.json: transformers 4
 * (`rope_theta`, `rope_local_base_freq`, `rope_scaling`, `sliding_window_pattern`) or 5 (`rope_parameters`,
 * `layer_types`). Defaults are HF's.
 */
export class Gemma3TextConfig extends TextConfig {
  readonly model_type = "gemma3_text";
  readonly intermediate_size: number;
  readonly hidden_activation: string;
  /** The attention's scale is its inverse square root. */
  readonly query_pre_attn_scalar: number;
  /** Distance from which on a sliding layer sees nothing. Bidirectional models state twice as much in config.json. */
  readonly sliding_window: number;
  readonly layer_types: readonly LayerType[];
  readonly rope_parameters: Readonly<Record<LayerType, RopeParameters>>;
  override readonly final_logit_softcapping: number | null;
  readonly unknown_keys: readonly string[];

  /** `prefix`: where it stands in config.json, for messages. */
  constructor(config: JsonObject = {}, prefix = "") {
    const read = new ConfigReader(config, prefix);
    super(read, {
      vocab_size: 262_208,
      hidden_size: 2304,
      num_hidden_layers: 26,
      num_attention_heads: 8,
      num_key_value_heads: 4,
      max_position_embeddings: 131_072,
    });
    this.intermediate_size = read.positiveInt("intermediate_size", 9216);
    this.hidden_activation = read.string("hidden_activation", "gelu_pytorch_tanh");
    this.query_pre_attn_scalar = read.positiveNumber("query_pre_attn_scalar", 256);
    this.sliding_window = windowInUse(
      read.positiveInt("sliding_window", 4096),
      this.use_bidirectional_attention,
    );
    this.layer_types = readLayerTypes(
      read,
      this.num_hidden_layers,
      read.positiveInt("sliding_window_pattern", 6),
    );
    this.rope_parameters = readLocalGlobalRope(read);
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

/** From config.json's contents; of a model with images the part about text. An instance stays what it is. */
export function gemma3TextConfig(json: JsonObject | Gemma3TextConfig): Gemma3TextConfig {
  if (json instanceof Gemma3TextConfig) return json;
  const { model_type, text_config } = json;
  if (model_type !== "gemma3") return new Gemma3TextConfig(json);
  if (text_config instanceof Gemma3TextConfig) return text_config;
  return new Gemma3TextConfig(isJsonObject(text_config) ? text_config : {}, "text_config");
}
