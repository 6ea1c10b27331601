import { ConfigReader, isJsonObject, type JsonObject } from "../config-reader.ts";
import type { LayerType } from "../decoder-inputs.ts";
import { type RopeParameters, readRopeParameters } from "../rope-config.ts";
import { TextConfig } from "../text-config.ts";

/** Configuration of Gemma (2B, 7B), in either spelling of its rotary base. Defaults are HF's: the 7B's. */
export class GemmaConfig extends TextConfig {
  readonly model_type = "gemma";
  readonly intermediate_size: number;
  readonly hidden_act: string;
  readonly rope_parameters: RopeParameters;
  readonly layer_types: readonly LayerType[];
  readonly unknown_keys: readonly string[];

  constructor(config: JsonObject = {}) {
    const read = new ConfigReader(config);
    super(read, {
      vocab_size: 256_000,
      hidden_size: 3072,
      num_hidden_layers: 28,
      num_attention_heads: 16,
      num_key_value_heads: 16,
      max_position_embeddings: 8192,
    });
    this.intermediate_size = read.positiveInt("intermediate_size", 24_576);
    this.hidden_act = readActivation(read);
    this.rope_parameters = readRope(read);
    this.layer_types = new Array<LayerType>(this.num_hidden_layers).fill("full_attention");
    this.unknown_keys = read.unknownKeys();
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
