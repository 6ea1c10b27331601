import { ConfigError } from "../errors.ts";
import {
  AUDIO_SETTING_NAMES,
  type Gemma3nAudioFeatureExtractorConfig,
} from "../processing/audio/feature-settings.ts";
import { Gemma3nAudioProcessing } from "../processing/audio/gemma3n-audio-processor.ts";
import type { PretrainedOptions } from "./options.ts";
import { loadPreprocessorConfig, type PreprocessorConfig } from "./preprocessor-files.ts";

/** Options of a feature extractor's `from_pretrained`: where to look, and settings in place of the files' own. */
export type FeatureExtractorPretrainedOptions = PretrainedOptions & Gemma3nAudioFeatureExtractorConfig;

/** Gemma 3n's features of sounds: log-mel frames, as HF's class of this name makes them. */
export class Gemma3nAudioFeatureExtractor extends Gemma3nAudioProcessing {
  constructor(config: Gemma3nAudioFeatureExtractorConfig = {}) {
    super(config, "Gemma3nAudioFeatureExtractor");
  }

  /** Reads preprocessor_config.json, or the feature_extractor block of processor_config.json. */
  static async from_pretrained(
    id: string,
    options: FeatureExtractorPretrainedOptions = {},
  ): Promise<Gemma3nAudioFeatureExtractor> {
    const { config } = await load(id, options, "Gemma3nAudioFeatureExtractor.from_pretrained");
    return new Gemma3nAudioFeatureExtractor(config);
  }
}

/** The feature extractor of a model. */
export class AutoFeatureExtractor {
  static async from_pretrained(
    id: string,
    options: FeatureExtractorPretrainedOptions = {},
  ): Promise<Gemma3nAudioFeatureExtractor> {
    const { config, type } = await load(id, options, "AutoFeatureExtractor.from_pretrained");
    if (type !== "Gemma3nAudioFeatureExtractor") {
      throw new ConfigError(`"${type}" is not a feature extractor of lapidary's`, {
        key: "feature_extractor_type",
      });
    }
    return new Gemma3nAudioFeatureExtractor(config);
  }
}

function load(id: string, options: object, call: string): Promise<PreprocessorConfig> {
  return loadPreprocessorConfig(
    id,
    options,
    { block: "feature_extractor", names: AUDIO_SETTING_NAMES },
    call,
  );
}
