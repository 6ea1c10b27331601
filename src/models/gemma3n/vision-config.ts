import { ConfigReader, isJsonObject, type JsonObject } from "../config-reader.ts";
import { FUSED_CHANNELS, readTowerConfig, type TowerConfig } from "./vision/tower-config.ts";

const ARCHITECTURE = "mobilenetv5_300m_enc";

/** Keys that change nothing here: training, bookkeeping, and labels of a classifier that Gemma 3n has not. */
const KEYS_WITHOUT_EFFECT: readonly string[] = [
  "model_type",
  "initializer_range",
  "do_pooling",
  "num_classes",
  "label_names",
  "id2label",
  "label2id",
  "dtype",
  "torch_dtype",
  "transformers_version",
  "_name_or_path",
];

/** Configuration of Gemma 3n's vision tower and of what embeds its features. Defaults are HF's. */
export class Gemma3nVisionConfig {
  readonly model_type = "gemma3n_vision";
  /** timm's name; there is only this one. */
  readonly architecture: string;
  /** Arguments to timm in place of the architecture's own, as config.json has them. */
  readonly model_args: JsonObject;
  /** Channels of the tower's output. */
  readonly hidden_size: number;
  /** Ids from `vocab_offset` on, so many, that stand for images' vectors of fixed kinds. */
  readonly vocab_size: number;
  readonly vocab_offset: number;
  /** Of the norms that embed features; the tower's own have 1e-6. */
  readonly rms_norm_eps: number;
  /** Keys of config.json that the class does not know; they have no effect. */
  readonly unknown_keys: readonly string[];
  /** `model_args` over the architecture's own arguments. */
  readonly tower: TowerConfig;

  constructor(config: JsonObject = {}) {
    const read: ConfigReader = new ConfigReader(config, "vision_config");
    this.architecture = read.string("architecture", ARCHITECTURE);
    if (this.architecture !== ARCHITECTURE)
      read.fail("architecture", `"${this.architecture}" is not supported; there is ${ARCHITECTURE}`);
    const model_args = read.raw("model_args") ?? {};
    if (!isJsonObject(model_args))
      read.fail("model_args", `expected an object, got ${JSON.stringify(model_args)}`);
    this.model_args = model_args;
    this.hidden_size = read.positiveInt("hidden_size", FUSED_CHANNELS);
    if (this.hidden_size !== FUSED_CHANNELS)
      read.fail("hidden_size", `the tower gives ${FUSED_CHANNELS} channels, not ${this.hidden_size}`);
    this.vocab_size = read.positiveInt("vocab_size", 128);
    this.vocab_offset = read.positiveInt("vocab_offset", 262_144);
    this.rms_norm_eps = read.positiveNumber("rms_norm_eps", 1e-6);
    this.tower = readTowerConfig(model_args, "vision_config.model_args");
    for (const key of KEYS_WITHOUT_EFFECT) read.raw(key);
    this.unknown_keys = read.unknownKeys();
  }
}
