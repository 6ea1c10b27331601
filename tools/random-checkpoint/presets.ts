import type { JsonObject } from "../../src/models/config-reader.ts";
import { Gemma3Config } from "../../src/models/gemma3/multimodal-config.ts";
import { Gemma3ImageEncoder } from "../../src/models/gemma3/projector.ts";
import { Gemma3TextModule } from "../../src/models/gemma3/text.ts";
import { Gemma3nAudioTower } from "../../src/models/gemma3n/audio/encoder.ts";
import { Gemma3nConfig } from "../../src/models/gemma3n/multimodal-config.ts";
import { Gemma3nTextModule } from "../../src/models/gemma3n/text.ts";
import { Gemma3nImageEncoder } from "../../src/models/gemma3n/vision/tower.ts";
import type { Module } from "../../src/nn/module.ts";

/** A model's configuration, its modules with the hub's names of their tensors, and further JSON files. */
export interface Preset {
  readonly config: JsonObject;
  readonly modules: readonly (readonly [Module, (key: string) => string])[];
  readonly files: Readonly<Record<string, JsonObject>>;
}

/** Gemma 3 4B as its repository describes it. */
function gemma3_4b(): Preset {
  const config = {
    architectures: ["Gemma3ForConditionalGeneration"],
    model_type: "gemma3",
    boi_token_index: 255_999,
    eoi_token_index: 256_000,
    eos_token_id: [1, 106],
    image_token_index: 262_144,
    mm_tokens_per_image: 256,
    text_config: {
      model_type: "gemma3_text",
      hidden_size: 2560,
      intermediate_size: 10_240,
      num_hidden_layers: 34,
      rope_scaling: { factor: 8, rope_type: "linear" },
      sliding_window: 1024,
      vocab_size: 262_208,
    },
    vision_config: {
      model_type: "siglip_vision_model",
      hidden_size: 1152,
      image_size: 896,
      intermediate_size: 4304,
      num_attention_heads: 16,
      num_hidden_layers: 27,
      patch_size: 14,
      vision_use_head: false,
    },
  };
  const parsed = new Gemma3Config(config);
  return {
    config,
    modules: [
      [new Gemma3TextModule(parsed.text_config), (key) => `language_model.model.${key}`],
      [new Gemma3ImageEncoder(parsed), (key) => key.replace(/^vision_tower\./, "vision_tower.vision_model.")],
    ],
    files: {
      "processor_config.json": { image_seq_length: 256, processor_class: "Gemma3Processor" },
      "preprocessor_config.json": {
        image_processor_type: "Gemma3ImageProcessor",
        image_mean: [0.5, 0.5, 0.5],
        image_std: [0.5, 0.5, 0.5],
        size: { height: 896, width: 896 },
      },
    },
  };
}

/** Gemma 3n as transformers describes E4B; `text` is what another size has in place of that. */
function gemma3n(text: JsonObject): Preset {
  const config = {
    architectures: ["Gemma3nForConditionalGeneration"],
    model_type: "gemma3n",
    eos_token_id: [1, 106],
    text_config: { model_type: "gemma3n_text", ...text },
    vision_config: { model_type: "gemma3n_vision" },
    audio_config: { model_type: "gemma3n_audio" },
  };
  const parsed = new Gemma3nConfig(config);
  const { text_config, vision_config, audio_config } = parsed;
  const { hidden_size } = text_config;
  return {
    config,
    modules: [
      [new Gemma3nTextModule(text_config), (key) => `model.language_model.${key}`],
      [new Gemma3nImageEncoder(vision_config, hidden_size), (key) => `model.${key}`],
      [new Gemma3nAudioTower(audio_config, hidden_size), (key) => `model.${key}`],
    ],
    files: {
      "processor_config.json": { processor_class: "Gemma3nProcessor" },
      "preprocessor_config.json": {
        image_processor_type: "SiglipImageProcessorFast",
        feature_extractor_type: "Gemma3nAudioFeatureExtractor",
        do_normalize: false,
        size: { height: 768, width: 768 },
      },
    },
  };
}

/** E2B has five layers fewer, half as wide. */
const E2B: JsonObject = {
  num_hidden_layers: 30,
  num_kv_shared_layers: 10,
  intermediate_size: 8192,
  activation_sparsity_pattern: Array.from({ length: 30 }, (_, layer) => (layer < 10 ? 0.95 : 0)),
};

export const presets: Readonly<Record<"gemma-3-4b" | "gemma-3n-e2b" | "gemma-3n-e4b", () => Preset>> = {
  "gemma-3-4b": gemma3_4b,
  "gemma-3n-e2b": () => gemma3n(E2B),
  "gemma-3n-e4b": () => gemma3n({}),
};
