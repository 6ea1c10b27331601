import { ConfigError } from "../errors.ts";
import type { Checkpoint, MetadataArray, MetadataValue } from "./checkpoint.ts";
import { configFromGguf, GgufKeys } from "./gguf-config.ts";
import { PackedStrings } from "./packed-strings.ts";

type Config = Record<string, unknown>;

/** Patches along a side that llama.cpp averages into one vector where the file does not say. */
const SCALE_FACTOR = 4;

/**
 * The config.json that HF would have beside a text model's GGUF file and an image encoder's ("mmproj"). What neither
 * of them says is as in the released models.
 */
export function imageConfigFromGguf(text: Checkpoint, images: Checkpoint): Config {
  const text_config = configFromGguf(text);
  if (text_config.model_type !== "gemma3_text")
    throw new ConfigError(`GGUF general.architecture: "${text_config.model_type}" has no image encoder`);
  const keys = new GgufKeys(images.metadata, "clip.vision.");
  const [image_size, patch_size] = [keys.size("image_size"), keys.size("patch_size")];
  const side = Math.floor(image_size / patch_size / keys.numberOr("projector.scale_factor", SCALE_FACTOR));
  if (side < 1) keys.fail("image_size", `${image_size} pixels are too few for patches of ${patch_size}`);
  const projected = keys.numberOr("projection_dim", Number(text_config.hidden_size));
  if (projected !== text_config.hidden_size) {
    keys.fail(
      "projection_dim",
      `is ${projected}, but the text model's vectors have ${text_config.hidden_size}`,
    );
  }
  return {
    architectures: ["Gemma3ForConditionalGeneration"],
    model_type: "gemma3",
    text_config,
    vision_config: {
      model_type: "siglip_vision_model",
      hidden_size: keys.size("embedding_length"),
      intermediate_size: keys.size("feed_forward_length"),
      num_hidden_layers: keys.size("block_count"),
      num_attention_heads: keys.size("attention.head_count"),
      layer_norm_eps: keys.number("attention.layer_norm_epsilon"),
      image_size,
      patch_size,
      vision_use_head: false,
    },
    mm_tokens_per_image: side ** 2,
    ...imageTokens(text),
    tie_word_embeddings: text_config.tie_word_embeddings,
  };
}

/** The preprocessor_config.json that HF would have: how pixels become numbers for an image encoder's file. */
export function imageProcessorFromGguf({ metadata }: Checkpoint): Config {
  const keys = new GgufKeys(metadata, "clip.vision.");
  const side = keys.size("image_size");
  const statistic = (key: string): number[] | undefined => {
    const value = keys.value(key);
    if (value === undefined) return undefined;
    if (value instanceof Float32Array || value instanceof Float64Array) return Array.from(value);
    return keys.fail(key, "expected a list of numbers");
  };
  return {
    image_processor_type: "Gemma3ImageProcessor",
    size: { height: side, width: side },
    image_mean: statistic("image_mean"),
    image_std: statistic("image_std"),
  };
}

/** Ids of the tokens around and in an image, by their texts; a vocabulary without them leaves the usual ids. */
function imageTokens({ metadata }: Checkpoint): Config {
  const tokens: MetadataValue | MetadataArray | undefined = metadata.get("tokenizer.ggml.tokens");
  if (!(tokens instanceof PackedStrings)) return {};
  const names = new Map([
    ["<start_of_image>", "boi_token_index"],
    ["<end_of_image>", "eoi_token_index"],
    ["<image_soft_token>", "image_token_index"],
  ]);
  const found: Config = {};
  for (const [id, token] of tokens.toArray().entries()) {
    const key = names.get(token);
    if (key !== undefined) found[key] = id;
  }
  return found;
}
