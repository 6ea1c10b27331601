import { ConfigReader, type JsonObject } from "../config-reader.ts";
import { SiglipVisionConfig } from "../siglip/config.ts";
import {
  type LabelConfig,
  type ModelConfig,
  type ProblemType,
  readArchitectures,
  readEos,
  readLabels,
  type TokenIds,
} from "../text-config.ts";
import { Gemma3TextConfig } from "./config.ts";

/** Configuration of Gemma 3 with images (4B, 12B, 27B): a text model, an image encoder, and how they are joined. */
export class Gemma3Config implements ModelConfig {
  readonly model_type = "gemma3";
  readonly architectures: readonly string[];
  readonly text_config: Gemma3TextConfig;
  readonly vision_config: SiglipVisionConfig;
  /** Vectors that an image takes in a text. */
  readonly mm_tokens_per_image: number;
  /** `<start_of_image>` and `<end_of_image>`. */
  readonly boi_token_index: number;
  readonly eoi_token_index: number;
  /** The placeholder in whose places an image's vectors go. */
  readonly image_token_index: number;
  readonly tie_word_embeddings: boolean;
  readonly bos_token_id: number | null;
  readonly eos_token_id: TokenIds;
  readonly pad_token_id: number | null;
  readonly id2label: LabelConfig["id2label"];
  readonly label2id: LabelConfig["label2id"];
  readonly num_labels: number;
  readonly problem_type: ProblemType | null;
  readonly token_classification_bias: boolean;
  readonly unknown_keys: readonly string[];

  /** From config.json's contents; `text_config` and `vision_config` may be instances. */
  constructor(config: JsonObject = {}) {
    const read: ConfigReader = new ConfigReader(config);
    const [text, vision] = [read.raw("text_config"), read.raw("vision_config")];
    this.architectures = readArchitectures(read);
    this.text_config =
      text instanceof Gemma3TextConfig ? text : new Gemma3TextConfig(text as JsonObject, "text_config");
    this.vision_config =
      vision instanceof SiglipVisionConfig
        ? vision
        : new SiglipVisionConfig(vision as JsonObject, "vision_config");
    this.mm_tokens_per_image = read.positiveInt("mm_tokens_per_image", 256);
    this.boi_token_index = readToken(read, "boi", 255_999);
    this.eoi_token_index = readToken(read, "eoi", 256_000);
    this.image_token_index = readToken(read, "image", 262_144);
    this.tie_word_embeddings = read.boolean("tie_word_embeddings", true);
    this.bos_token_id = read.id("bos_token_id", this.text_config.bos_token_id);
    this.eos_token_id = readEos(read, this.text_config.eos_token_id);
    this.pad_token_id = read.id("pad_token_id", this.text_config.pad_token_id);
    const labels = readLabels(read);
    this.id2label = labels.id2label;
    this.label2id = labels.label2id;
    this.num_labels = labels.num_labels;
    this.problem_type = labels.problem_type;
    this.token_classification_bias = labels.token_classification_bias;
    for (const key of KEYS_WITHOUT_EFFECT) read.raw(key);
    this.unknown_keys = read.unknownKeys();
    if (this.pooling === 0)
      read.fail("mm_tokens_per_image", `${this.mm_tokens_per_image} are more than the image has patches`);
  }

  get boi_token_id(): number {
    return this.boi_token_index;
  }

  get eoi_token_id(): number {
    return this.eoi_token_index;
  }

  get image_token_id(): number {
    return this.image_token_index;
  }

  /** Patches along a side that are averaged into one vector; a rest is dropped, as in HF. */
  get pooling(): number {
    return Math.floor(this.vision_config.patches_per_side / Math.floor(Math.sqrt(this.mm_tokens_per_image)));
  }

  get_text_config(): Gemma3TextConfig {
    return this.text_config;
  }
}

/** Either of HF's names of a token: the released configurations have `…_token_index`. */
function readToken(read: ConfigReader, name: string, fallback: number): number {
  const other = read.id(`${name}_token_id`, null);
  return read.id(`${name}_token_index`, other ?? fallback)!;
}

const KEYS_WITHOUT_EFFECT: readonly string[] = [
  "model_type",
  "transformers_version",
  "torch_dtype",
  "dtype",
  "initializer_range",
  "use_cache",
  "_name_or_path",
  "quantization_config",
];
