import { ConfigReader, type JsonObject } from "../config-reader.ts";
import { MultimodalConfig, partConfig } from "../multimodal-config.ts";
import { SiglipVisionConfig } from "../siglip/config.ts";
import { Gemma3TextConfig } from "./config.ts";

/** Configuration of Gemma 3 with images (4B, 12B, 27B): a text model, an image encoder, and how they are joined. */
export class Gemma3Config extends MultimodalConfig<Gemma3TextConfig> {
  readonly model_type = "gemma3";
  readonly vision_config: SiglipVisionConfig;
  /** Vectors that an image takes in a text. */
  readonly mm_tokens_per_image: number;
  /** `<start_of_image>` and `<end_of_image>`. */
  readonly boi_token_index: number;
  readonly eoi_token_index: number;
  /** The placeholder in whose places an image's vectors go. */
  readonly image_token_index: number;
  readonly unknown_keys: readonly string[];

  /** From config.json's contents; `text_config` and `vision_config` may be instances. */
  constructor(config: JsonObject = {}) {
    const read: ConfigReader = new ConfigReader(config);
    super(read, partConfig(read, "text_config", Gemma3TextConfig));
    this.vision_config = partConfig(read, "vision_config", SiglipVisionConfig);
    this.mm_tokens_per_image = read.positiveInt("mm_tokens_per_image", 256);
    this.boi_token_index = readToken(read, "boi", 255_999);
    this.eoi_token_index = readToken(read, "eoi", 256_000);
    this.image_token_index = readToken(read, "image", 262_144);
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
}

/** Either of HF's names of a token: the released configurations have `…_token_index`. */
function readToken(read: ConfigReader, name: string, fallback: number): number {
  const other = read.id(`${name}_token_id`, null);
  return read.id(`${name}_token_index`, other ?? fallback)!;
}
