/** The configuration classes with HF's way to read them, `GemmaConfig.from_pretrained(id)`: no weights are needed. */
import { ConfigError } from "../errors.ts";
import { isJsonObject, type JsonObject } from "../models/config-reader.ts";
import { GemmaConfig as Gemma } from "../models/gemma/config.ts";
import { Gemma3TextConfig as Gemma3Text } from "../models/gemma3/config.ts";
import { Gemma3Config as Gemma3 } from "../models/gemma3/multimodal-config.ts";
import { Gemma3nAudioConfig as Gemma3nAudio } from "../models/gemma3n/audio-config.ts";
import { Gemma3nTextConfig as Gemma3nText } from "../models/gemma3n/config.ts";
import { Gemma3nConfig as Gemma3n } from "../models/gemma3n/multimodal-config.ts";
import { Gemma3nVisionConfig as Gemma3nVision } from "../models/gemma3n/vision-config.ts";
import { SiglipVisionConfig as SiglipVision } from "../models/siglip/config.ts";
import { configJson } from "./auto.ts";
import { checkPretrainedOptions, type PretrainedOptions } from "./options.ts";

interface Readable<Config> {
  from_pretrained(id: string, options?: PretrainedOptions): Promise<Config>;
}

/** `inner`: the key of config.json of a larger model that holds this configuration. */
function readable<
  Config extends { readonly model_type: string },
  Class extends new (
    json: JsonObject,
  ) => Config,
>(config: Class, model_type: string, inner?: string): Class & Readable<Config> {
  return Object.assign(config, {
    async from_pretrained(id: string, options: PretrainedOptions = {}): Promise<Config> {
      checkPretrainedOptions(options, `${config.name}.from_pretrained`);
      const json = await configJson(id, options);
      const nested = inner === undefined || json.model_type === model_type ? undefined : json[inner];
      const own = isJsonObject(nested) ? nested : json;
      if (own.model_type !== undefined && own.model_type !== model_type)
        throw new ConfigError(
          `${id}: model_type ${JSON.stringify(own.model_type)} is not for ${config.name}, which reads "${model_type}"`,
          { key: "model_type" },
        );
      return new config(own);
    },
  });
}

export const GemmaConfig: typeof Gemma & Readable<Gemma> = readable(Gemma, "gemma");
export const Gemma3TextConfig: typeof Gemma3Text & Readable<Gemma3Text> = readable(
  Gemma3Text,
  "gemma3_text",
  "text_config",
);
export const Gemma3Config: typeof Gemma3 & Readable<Gemma3> = readable(Gemma3, "gemma3");
export const SiglipVisionConfig: typeof SiglipVision & Readable<SiglipVision> = readable(
  SiglipVision,
  "siglip_vision_model",
  "vision_config",
);
export const Gemma3nTextConfig: typeof Gemma3nText & Readable<Gemma3nText> = readable(
  Gemma3nText,
  "gemma3n_text",
  "text_config",
);
export const Gemma3nVisionConfig: typeof Gemma3nVision & Readable<Gemma3nVision> = readable(
  Gemma3nVision,
  "gemma3n_vision",
  "vision_config",
);
export const Gemma3nAudioConfig: typeof Gemma3nAudio & Readable<Gemma3nAudio> = readable(
  Gemma3nAudio,
  "gemma3n_audio",
  "audio_config",
);
export const Gemma3nConfig: typeof Gemma3n & Readable<Gemma3n> = readable(Gemma3n, "gemma3n");

export type GemmaConfig = Gemma;
export type Gemma3TextConfig = Gemma3Text;
export type Gemma3Config = Gemma3;
export type SiglipVisionConfig = SiglipVision;
export type Gemma3nTextConfig = Gemma3nText;
export type Gemma3nVisionConfig = Gemma3nVision;
export type Gemma3nAudioConfig = Gemma3nAudio;
export type Gemma3nConfig = Gemma3n;
