import type { Checkpoint } from "../checkpoints/checkpoint.ts";
import { withModelPrefix, withVisionTower } from "../checkpoints/model-prefix.ts";
import { withPointwiseMatrices } from "../checkpoints/pointwise.ts";
import { ConfigError } from "../errors.ts";
import type { JsonObject } from "../models/config-reader.ts";
import { GemmaConfig } from "../models/gemma/config.ts";
import { GemmaTextModule } from "../models/gemma/text.ts";
import { type Gemma3TextConfig, gemma3TextConfig } from "../models/gemma3/config.ts";
import { Gemma3Config } from "../models/gemma3/multimodal-config.ts";
import { Gemma3ImageEncoder } from "../models/gemma3/projector.ts";
import { Gemma3TextModule } from "../models/gemma3/text.ts";
import { Gemma3nAudioTower } from "../models/gemma3n/audio/encoder.ts";
import { type Gemma3nTextConfig, gemma3nTextConfig } from "../models/gemma3n/config.ts";
import { Gemma3nConfig } from "../models/gemma3n/multimodal-config.ts";
import { Gemma3nTextModule } from "../models/gemma3n/text.ts";
import { Gemma3nImageEncoder } from "../models/gemma3n/vision/tower.ts";
import { CausalLMModule, ClassificationModule, HeadedModule, type TextModule } from "../models/heads.ts";
import type { ModelConfig, TextConfig } from "../models/text-config.ts";
import { type Module, namedParameters } from "../nn/module.ts";
import { EncoderPart } from "./encoder-part.ts";
import { Gemma3nMedia, type Gemma3nParts } from "./gemma3n-media.ts";
import { EmbedderAt, type EmbedderKey } from "./hard-embeddings.ts";
import { Gemma3Images } from "./image-encoder.ts";
import type { MediaReader } from "./media.ts";
import type { EncoderName, PretrainedOptions } from "./options.ts";
import { partBytes } from "./part-tensors.ts";
import { type LoadedModel, loadModel } from "./pretrained-model.ts";

/** How the models of one architecture are made of its configuration: a text model, and encoders where it has some. */
export interface TextFamily<Config extends ModelConfig> {
  /** `model_type` of its configurations. */
  readonly model_type: string;
  /** That of models with more kinds of input, whose text model it is. */
  readonly wider_type?: string;
  /** From config.json's contents, or an instance as it is. */
  config(json: JsonObject | Config): Config;
  text(config: Config): TextModule;
  readonly media?: MediaFamily<Config>;
}

/** What a model reads besides text. */
export interface MediaFamily<Config extends ModelConfig> {
  /** The checkpoint's tensors under the encoders' names. */
  checkpoint(checkpoint: Checkpoint): Checkpoint;
  /** The modules that make vectors of images or sounds, without weights yet. */
  encoders(config: Config): Readonly<Partial<Record<PartName, Module>>>;
  /** `embed` gives the text model's own vectors of ids, [tokens, hidden_size]. */
  reader(
    config: Config,
    encoders: ReadonlyMap<PartName, EncoderPart<Module>>,
    embed: (row: readonly number[]) => Promise<Float32Array>,
  ): MediaReader;
}

/** A part of a model beside the text model. */
export type PartName = EncoderName | EmbedderKey;

/** What `dtype` maps call the storage of each part. */
const PART_STORAGE: Readonly<Record<PartName, EncoderName>> = {
  vision_encoder: "vision_encoder",
  audio_encoder: "audio_encoder",
  embed_vision: "vision_encoder",
  embed_audio: "audio_encoder",
};

export const GEMMA: TextFamily<GemmaConfig> = {
  model_type: "gemma",
  config: (json) => (json instanceof GemmaConfig ? json : new GemmaConfig(json)),
  text: (config) => new GemmaTextModule(config),
};

export const GEMMA3_TEXT: TextFamily<Gemma3TextConfig> = {
  model_type: "gemma3_text",
  wider_type: "gemma3",
  config: gemma3TextConfig,
  text: (config) => new Gemma3TextModule(config),
};

export const GEMMA3N_TEXT: TextFamily<Gemma3nTextConfig> = {
  model_type: "gemma3n_text",
  wider_type: "gemma3n",
  config: gemma3nTextConfig,
  text: (config) => new Gemma3nTextModule(config),
};

export const GEMMA3: TextFamily<Gemma3Config> = {
  model_type: "gemma3",
  config: (json) => (json instanceof Gemma3Config ? json : new Gemma3Config(json)),
  text: (config) => new Gemma3TextModule(config.text_config),
  media: {
    checkpoint: withVisionTower,
    encoders: (config) => ({ vision_encoder: new Gemma3ImageEncoder(config) }),
    reader: (config, encoders, embed) =>
      new Gemma3Images(config, encoders.get("vision_encoder") as EncoderPart<Gemma3ImageEncoder>, embed),
  },
};

export const GEMMA3N: TextFamily<Gemma3nConfig> = {
  model_type: "gemma3n",
  config: (json) => (json instanceof Gemma3nConfig ? json : new Gemma3nConfig(json)),
  text: (config) => new Gemma3nTextModule(config.text_config),
  media: {
    checkpoint: (checkpoint) => withPointwiseMatrices(withModelPrefix(checkpoint)),
    encoders: ({ vision_config, audio_config, text_config: { hidden_size } }) => ({
      vision_encoder: new Gemma3nImageEncoder(vision_config, hidden_size),
      audio_encoder: new Gemma3nAudioTower(audio_config, hidden_size),
      embed_vision: new EmbedderAt("embed_vision", vision_config, hidden_size),
      embed_audio: new EmbedderAt("embed_audio", audio_config, hidden_size),
    }),
    reader: (config, encoders) =>
      new Gemma3nMedia(config, Object.fromEntries(encoders) as unknown as Gemma3nParts),
  },
};

const TEXT_FAMILIES: readonly TextFamily<TextConfig>[] = [GEMMA, GEMMA3_TEXT, GEMMA3N_TEXT];

/** Keys, below those of the text model, of tables that stay in their file and are read by row. */
export function keysOnDisk(config: TextConfig): string[] {
  const family = TEXT_FAMILIES.find(({ model_type }) => model_type === config.model_type);
  const parameters = family === undefined ? [] : namedParameters(family.text(config));
  return [...parameters].flatMap(([key, { byRow }]) => (byRow ? [key] : []));
}

/** What stands on a text model. */
export interface Head {
  module(text: TextModule, config: ModelConfig): HeadedModule;
  /** Numbers per position. */
  size(config: ModelConfig): number;
}

export const NO_HEAD: Head = { module: (text) => new HeadedModule(text), size: () => 0 };

export const LANGUAGE_MODEL: Head = {
  module: (text, config) => new CausalLMModule(text, config.get_text_config()),
  size: (config) => config.get_text_config().vocab_size,
};

/** The head of a model with several kinds of input. HF applies no `final_logit_softcapping` there (Gemma 3). */
export const UNCAPPED_LANGUAGE_MODEL: Head = {
  ...LANGUAGE_MODEL,
  module: (text, config) => {
    const { hidden_size, vocab_size } = config.get_text_config();
    return new CausalLMModule(text, {
      hidden_size,
      vocab_size,
      tie_word_embeddings: config.tie_word_embeddings,
    });
  },
};

export const SEQUENCE_CLASSIFIER: Head = {
  module: (text, config) =>
    new ClassificationModule(text, config.get_text_config().hidden_size, config.num_labels, false),
  size: ({ num_labels }) => num_labels,
};

export const TOKEN_CLASSIFIER: Head = {
  module: (text, config) =>
    new ClassificationModule(
      text,
      config.get_text_config().hidden_size,
      config.num_labels,
      config.token_classification_bias,
    ),
  size: ({ num_labels }) => num_labels,
};

/** A model that was found, and whose text model was brought into the form that runs. */
export interface LoadedTextModel<Config extends ModelConfig> {
  readonly loaded: LoadedModel;
  readonly config: Config;
  readonly module: HeadedModule;
  readonly logits_size: number;
  /** Undefined for a model of text alone. */
  readonly media: ((embed: (row: readonly number[]) => Promise<Float32Array>) => MediaReader) | undefined;
}

/** Loads what a class of this family and head needs; `name` is the class', for messages. */
export async function loadTextModel<Config extends ModelConfig>(
  id: string,
  options: PretrainedOptions,
  name: string,
  family: TextFamily<Config>,
  head: Head,
): Promise<LoadedTextModel<Config>> {
  let built: { config: Config; module: HeadedModule } | undefined;
  let encoders: readonly FoundEncoder[] = [];
  const loaded = await loadModel(id, options, `${name}.from_pretrained`, {
    module: (json) => {
      checkType(json, family, id, name);
      const config = family.config(json);
      built = { config, module: head.module(family.text(config), config) };
      return built.module;
    },
    checkpoint: withModelPrefix,
    ...(family.media && {
      encoders: (checkpoint) => {
        encoders = findEncoders(family, built!.config, checkpoint);
      },
    }),
  });
  const { config, module } = built!;
  const { media } = family;
  return {
    loaded,
    config,
    module,
    logits_size: head.size(config),
    media: media && ((embed) => media.reader(config, encoderParts(encoders, media, loaded), embed)),
  };
}

interface FoundEncoder {
  readonly name: PartName;
  readonly module: Module;
  /** Of its tensors in the checkpoint. */
  readonly bytes: number;
}

/** The encoders of a model, whose tensors must be there although nothing of them is read yet. */
function findEncoders<Config extends ModelConfig>(
  { media }: TextFamily<Config>,
  config: Config,
  checkpoint: Checkpoint,
): FoundEncoder[] {
  if (media === undefined) return [];
  const named = media.checkpoint(checkpoint);
  return Object.entries(media.encoders(config)).map(([name, module]) => ({
    name: name as PartName,
    module,
    bytes: partBytes(name, module, named),
  }));
}

/** Bytes of the tensors of a model's encoders in its checkpoint, by part; empty for a model of text alone. */
export function encoderBytes(config: ModelConfig, checkpoint: Checkpoint): Readonly<Record<string, number>> {
  const found =
    config instanceof Gemma3Config
      ? findEncoders(GEMMA3, config, checkpoint)
      : config instanceof Gemma3nConfig
        ? findEncoders(GEMMA3N, config, checkpoint)
        : [];
  return Object.fromEntries(found.map(({ name, bytes }) => [name, bytes]));
}

function encoderParts(
  encoders: readonly FoundEncoder[],
  reader: Pick<MediaFamily<never>, "checkpoint">,
  { encoderPath: path, pack, engine, options }: LoadedModel,
): ReadonlyMap<PartName, EncoderPart<Module>> {
  const { device, threads } = options;
  return new Map(
    encoders.map(({ name, module, bytes }) => {
      const weights = options.encoders[PART_STORAGE[name]];
      const run = { engine, device, ...(threads === undefined ? {} : { threads }) };
      return [name, new EncoderPart(module, { path, reader, weights, pack, engine: run }, bytes)] as const;
    }),
  );
}

/** Another architecture's weights may fit by their names, and give nonsense. */
function checkType(
  json: JsonObject,
  { model_type: expected, wider_type }: Pick<TextFamily<ModelConfig>, "model_type" | "wider_type">,
  id: string,
  name: string,
): void {
  const { model_type = expected } = json;
  if (model_type === expected || model_type === wider_type) return;
  throw new ConfigError(
    `${id}: model_type ${JSON.stringify(model_type)} is not for ${name}, which runs "${expected}"; an Auto class chooses the right one`,
    { key: "model_type" },
  );
}
