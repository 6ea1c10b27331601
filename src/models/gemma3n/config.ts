import { ConfigReader, isJsonObject, type JsonObject } from "../config-reader.ts";
import type { LayerType } from "../decoder-inputs.ts";
import { readLayerTypes } from "../layer-types.ts";
import { type RopeParameters, readLocalGlobalRope } from "../rope-config.ts";
import { TextConfig } from "../text-config.ts";

/** So many of the first layers are sparse where `activation_sparsity_pattern` is absent, and how sparse. */
const SPARSE_LAYERS = 10;
const SPARSITY = 0.95;

/**
 * Configuration of Gemma 3n's text model, in one normal form whatever the spelling of config.json. Defaults are HF's:
 * E4B.
 */
export class Gemma3nTextConfig extends TextConfig {
  readonly model_type = "gemma3n_text";
  /** For each layer; config.json may state one number for all. */
  readonly intermediate_size: readonly number[];
  readonly hidden_activation: string;
  readonly sliding_window: number;
  readonly layer_types: readonly LayerType[];
  readonly rope_parameters: Readonly<Record<LayerType, RopeParameters>>;
  override readonly final_logit_softcapping: number | null;
  override readonly num_kv_shared_layers: number;
  /** Ids from here on have no per-layer embedding and take that of id 0. */
  readonly vocab_size_per_layer_input: number;
  readonly hidden_size_per_layer_input: number;
  /** The stream that the layers compute on; the others are predicted and corrected. */
  readonly altup_active_idx: number;
  /** Bound of the AltUp coefficients' weights. It acts in training only: released weights keep it. */
  readonly altup_coef_clip: number | null;
  readonly altup_correct_scale: boolean;
  readonly altup_num_inputs: number;
  readonly laurel_rank: number;
  /** For each layer the share of the gate's values that are cut to 0; 0: none. */
  readonly activation_sparsity_pattern: readonly number[];
  /** Of a slice that was cut while loading: the layers that the table of per-layer embeddings has, and which are its own. */
  readonly sliced_from: { readonly num_hidden_layers: number; readonly kept: readonly number[] } | null;
  readonly unknown_keys: readonly string[];

  constructor(config: JsonObject = {}) {
    const read = new ConfigReader(config);
    super(read, {
      vocab_size: 262_400,
      hidden_size: 2048,
      num_hidden_layers: 35,
      num_attention_heads: 8,
      num_key_value_heads: 2,
      max_position_embeddings: 32_768,
    });
    const layers = this.num_hidden_layers;
    this.intermediate_size = readSizes(read, layers);
    this.hidden_activation = read.string("hidden_activation", "gelu_pytorch_tanh");
    this.sliding_window = read.positiveInt("sliding_window", 512);
    this.layer_types = readLayerTypes(read, layers, 5);
    this.rope_parameters = readLocalGlobalRope(read);
    this.final_logit_softcapping =
      config["final_logit_softcapping"] === null ? null : read.positiveNumber("final_logit_softcapping", 30);
    this.num_kv_shared_layers = readSharing(read, this.layer_types);
    this.vocab_size_per_layer_input = read.positiveInt("vocab_size_per_layer_input", 262_144);
    this.hidden_size_per_layer_input = read.positiveInt("hidden_size_per_layer_input", 256);
    this.altup_num_inputs = read.positiveInt("altup_num_inputs", 4);
    this.altup_active_idx = read.id("altup_active_idx", 0)!;
    if (this.altup_active_idx >= this.altup_num_inputs)
      read.fail("altup_active_idx", `${this.altup_active_idx} is none of ${this.altup_num_inputs} streams`);
    this.altup_coef_clip =
      config["altup_coef_clip"] === null ? null : read.positiveNumber("altup_coef_clip", 120);
    this.altup_correct_scale = read.boolean("altup_correct_scale", true);
    this.laurel_rank = read.positiveInt("laurel_rank", 64);
    this.activation_sparsity_pattern = readSparsity(read, layers);
    this.sliced_from = readSlicedFrom(read, layers);
    this.unknown_keys = read.unknownKeys();
  }

  windowOf(kind: LayerType): number | null {
    return kind === "sliding_attention" ? this.sliding_window : null;
  }

  ropeOf(kind: LayerType): RopeParameters {
    return this.rope_parameters[kind];
  }
}

/** The text model's part of a configuration: of a multimodal one what stands under `text_config`. */
export function gemma3nTextConfig(json: JsonObject | Gemma3nTextConfig): Gemma3nTextConfig {
  if (json instanceof Gemma3nTextConfig) return json;
  const { model_type, text_config } = json;
  if (model_type !== "gemma3n") return new Gemma3nTextConfig(json);
  if (text_config instanceof Gemma3nTextConfig) return text_config;
  return new Gemma3nTextConfig(isJsonObject(text_config) ? text_config : {});
}

function readSizes(read: ConfigReader, layers: number): number[] {
  const sizes = read.raw("intermediate_size");
  if (!Array.isArray(sizes))
    return new Array<number>(layers).fill(read.positiveInt("intermediate_size", 16_384));
  return readPerLayer(read, "intermediate_size", sizes, layers, "positive integers", (size) => {
    return Number.isSafeInteger(size) && size > 0;
  });
}

function readSparsity(read: ConfigReader, layers: number): number[] {
  const key = "activation_sparsity_pattern";
  const given = read.raw(key);
  const sparse = layers > SPARSE_LAYERS ? SPARSE_LAYERS : 0;
  const pattern =
    given === undefined ? Array.from({ length: layers }, (_, i) => (i < sparse ? SPARSITY : 0)) : given;
  const list = Array.isArray(pattern) ? pattern : new Array<unknown>(layers).fill(pattern);
  return readPerLayer(
    read,
    key,
    list,
    layers,
    "numbers from 0 to below 1",
    (share) => share >= 0 && share < 1,
  );
}

function readPerLayer(
  read: ConfigReader,
  key: string,
  list: readonly unknown[],
  layers: number,
  expected: string,
  accepts: (value: number) => boolean,
): number[] {
  if (list.length !== layers)
    read.fail(key, `expected a value for each of ${layers} layers, got ${list.length}`);
  const wrong = list.find((value) => typeof value !== "number" || !accepts(value));
  if (wrong !== undefined) read.fail(key, `expected ${expected}, got ${JSON.stringify(wrong)}`);
  return list as number[];
}

function readSlicedFrom(read: ConfigReader, layers: number): Gemma3nTextConfig["sliced_from"] {
  const given = read.raw("sliced_from");
  if (given === undefined) return null;
  const whole = new ConfigReader(isJsonObject(given) ? given : {}, "sliced_from");
  const num_hidden_layers = whole.layerCount("num_hidden_layers");
  const kept = whole.raw("kept");
  const valid =
    Array.isArray(kept) &&
    kept.length === layers &&
    kept.every((layer) => Number.isSafeInteger(layer) && layer >= 0 && layer < num_hidden_layers);
  if (!valid) read.fail("sliced_from", `expected the ${layers} layers that were kept`);
  return { num_hidden_layers, kept };
}

/** Every layer that shares must have one of its kind before the sharing begins. */
function readSharing(read: ConfigReader, layer_types: readonly LayerType[]): number {
  const key = "num_kv_shared_layers";
  const shared = read.id(key, 15)!;
  const own = layer_types.length - shared;
  if (own <= 0) read.fail(key, `${shared} of ${layer_types.length} layers leave none with keys of its own`);
  const kinds = layer_types.slice(0, own);
  const orphan = layer_types.findIndex((kind, i) => i >= own && !kinds.includes(kind));
  if (orphan !== -1)
    read.fail(key, `layer ${orphan} is the first with ${layer_types[orphan]}: there is none to share with`);
  return shared;
}
