import { ConfigReader, type JsonObject } from "../config-reader.ts";

/** Configuration of SigLIP's vision model, Gemma 3's image encoder. Defaults are HF's. */
export class SiglipVisionConfig {
  readonly model_type = "siglip_vision_model";
  readonly hidden_size: number;
  readonly intermediate_size: number;
  readonly num_hidden_layers: number;
  readonly num_attention_heads: number;
  readonly num_channels: number;
  /** Pixels of a side; images are square. */
  readonly image_size: number;
  readonly patch_size: number;
  readonly hidden_act: string;
  readonly layer_norm_eps: number;
  /** Whether a pooling head follows the encoder. Gemma 3 does without. */
  readonly vision_use_head: boolean;
  /** Keys of config.json that the class does not know; they have no effect. */
  readonly unknown_keys: readonly string[];

  constructor(config: JsonObject = {}, prefix = "") {
    const read: ConfigReader = new ConfigReader(config, prefix);
    this.hidden_size = read.positiveInt("hidden_size", 768);
    this.intermediate_size = read.positiveInt("intermediate_size", 3072);
    this.num_hidden_layers = read.layerCount("num_hidden_layers", 12);
    this.num_attention_heads = read.positiveInt("num_attention_heads", 12);
    this.num_channels = read.positiveInt("num_channels", 3);
    this.image_size = readSide(read, "image_size", 224);
    this.patch_size = readSide(read, "patch_size", 16);
    this.hidden_act = read.string("hidden_act", "gelu_pytorch_tanh");
    this.layer_norm_eps = read.positiveNumber("layer_norm_eps", 1e-6);
    this.vision_use_head = read.boolean("vision_use_head", true);
    for (const key of KEYS_WITHOUT_EFFECT) read.raw(key);
    this.unknown_keys = read.unknownKeys();
    if (this.hidden_size % this.num_attention_heads !== 0)
      read.fail("num_attention_heads", `${this.num_attention_heads} heads do not divide ${this.hidden_size}`);
    if (this.patches_per_side === 0)
      read.fail("patch_size", `a patch of ${this.patch_size} is larger than the image of ${this.image_size}`);
  }

  /** Patches along one side of an image. */
  get patches_per_side(): number {
    return Math.floor(this.image_size / this.patch_size);
  }
}

/** Known keys that change nothing here. */
const KEYS_WITHOUT_EFFECT: readonly string[] = [
  "model_type",
  "architectures",
  "attention_dropout",
  "transformers_version",
  "torch_dtype",
  "dtype",
  "initializer_range",
  "_name_or_path",
];

/** One number, or a pair of equal ones. */
function readSide(read: ConfigReader, key: string, fallback: number): number {
  const value = read.raw(key);
  if (!Array.isArray(value)) return read.positiveInt(key, fallback);
  const [height, width] = value as unknown[];
  const square = value.length === 2 && height === width && Number.isSafeInteger(height) && Number(height) > 0;
  if (!square) read.fail(key, `expected a number or a pair of equal ones, got ${JSON.stringify(value)}`);
  return height as number;
}
