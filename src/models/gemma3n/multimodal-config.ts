import { ConfigReader, type JsonObject } from "../config-reader.ts";
import { MultimodalConfig, partConfig } from "../multimodal-config.ts";
import { Gemma3nAudioConfig } from "./audio-config.ts";
import { Gemma3nTextConfig } from "./config.ts";
import { Gemma3nVisionConfig } from "./vision-config.ts";

/** Configuration of Gemma 3n: a text model, a vision tower, an audio encoder, and how they are joined. Defaults are HF's. */
export class Gemma3nConfig extends MultimodalConfig<Gemma3nTextConfig> {
  readonly model_type = "gemma3n";
  readonly vision_config: Gemma3nVisionConfig;
  readonly audio_config: Gemma3nAudioConfig;
  /** Vectors that an image takes in a text. */
  readonly vision_soft_tokens_per_image: number;
  /** Vectors that a sound takes in a text, however short it is. */
  readonly audio_soft_tokens_per_image: number;
  /** `<start_of_image>`, `<end_of_image>`, and the placeholder in whose places an image's vectors go. */
  readonly boi_token_id: number;
  readonly eoi_token_id: number;
  readonly image_token_id: number;
  /** `<start_of_audio>`, `<end_of_audio>`, and the placeholder in whose places a sound's vectors go. */
  readonly boa_token_id: number;
  readonly eoa_token_id: number;
  readonly audio_token_id: number;
  readonly unknown_keys: readonly string[];

  /** From config.json's contents; the parts' configurations may be instances. */
  constructor(config: JsonObject = {}) {
    const read: ConfigReader = new ConfigReader(config);
    super(read, partConfig(read, "text_config", Gemma3nTextConfig));
    this.vision_config = partConfig(read, "vision_config", Gemma3nVisionConfig);
    this.audio_config = partConfig(read, "audio_config", Gemma3nAudioConfig);
    this.vision_soft_tokens_per_image = read.positiveInt("vision_soft_tokens_per_image", 256);
    this.audio_soft_tokens_per_image = read.positiveInt("audio_soft_tokens_per_image", 188);
    this.boi_token_id = read.id("boi_token_id", 255_999)!;
    this.eoi_token_id = read.id("eoi_token_id", 262_144)!;
    this.image_token_id = read.id("image_token_id", 262_145)!;
    this.boa_token_id = read.id("boa_token_id", 256_000)!;
    this.eoa_token_id = read.id("eoa_token_id", 262_272)!;
    this.audio_token_id = read.id("audio_token_id", 262_273)!;
    this.unknown_keys = read.unknownKeys();
    this.#check(read);
  }

  #check(read: ConfigReader): void {
    const [height, width] = this.vision_config.tower.msfa_output_resolution;
    if (height * width !== this.vision_soft_tokens_per_image) {
      read.fail(
        "vision_soft_tokens_per_image",
        `the vision tower gives ${height}x${width} vectors an image, not ${this.vision_soft_tokens_per_image}`,
      );
    }
    const [vision, audio] = [this.vision_config, this.audio_config];
    if (
      vision.vocab_offset + vision.vocab_size < audio.vocab_offset ||
      vision.vocab_offset > audio.vocab_offset
    )
      read.fail("vision_config.vocab_size", "its ids must reach up to audio_config.vocab_offset");
    // The last id of the vocabulary fills up short sounds.
    const { vocab_size } = this.text_config;
    const last = audio.vocab_offset + audio.vocab_size;
    if (vocab_size <= audio.vocab_offset || vocab_size > last)
      read.fail("audio_config.vocab_size", `its ids end at ${last}, the text model's at ${vocab_size}`);
  }
}
