import { ConfigError, rejectUnknownOptions } from "../errors.ts";
import type { JsonObject } from "../models/config-reader.ts";
import { Gemma3ImageProcessing } from "../processing/gemma3-image-processor.ts";
import { Gemma3Processing } from "../processing/gemma3-processor.ts";
import { Gemma3nProcessing } from "../processing/gemma3n-processor.ts";
import { IMAGE_SETTING_NAMES } from "../processing/image-settings.ts";
import type { Processor } from "../processing/processor.ts";
import { SiglipImageProcessing } from "../processing/siglip-image-processor.ts";
import { TOKENIZER_OVERRIDE_NAMES, type TokenizerOverrides } from "../processing/tokenizer-settings.ts";
import { AutoFeatureExtractor } from "./feature-extractors.ts";
import { AutoImageProcessor, type AutoImageProcessorOptions } from "./image-processors.ts";
import { ModelFiles } from "./model-files.ts";
import { checkPretrainedOptions, type PretrainedOptions } from "./options.ts";
import { AutoTokenizer } from "./tokenizers.ts";

/** Options of a processor's `from_pretrained`: where to look, and settings of its parts in place of the files' own. */
export interface ProcessorPretrainedOptions extends AutoImageProcessorOptions, TokenizerOverrides {
  /** Tokens of an image. */
  readonly image_seq_length?: number;
  /** Tokens of a clip (Gemma 3n). */
  readonly audio_seq_length?: number;
}

/** Gemma 3's processor: texts with `<start_of_image>`, or chats with images, to what the model takes. */
export class Gemma3Processor extends Gemma3Processing {
  /** Reads the tokenizer, the image processor, and from processor_config.json or config.json the tokens of an image. */
  static async from_pretrained(
    id: string,
    options: ProcessorPretrainedOptions = {},
  ): Promise<Gemma3Processor> {
    return withFiles(id, options, "Gemma3Processor.from_pretrained", loadGemma3);
  }
}

/** Gemma 3n's processor: texts with `<image_soft_token>` and `<audio_soft_token>`, or chats with images and audio. */
export class Gemma3nProcessor extends Gemma3nProcessing {
  /** Reads the tokenizer, both preprocessors, and the numbers of tokens. */
  static async from_pretrained(
    id: string,
    options: ProcessorPretrainedOptions = {},
  ): Promise<Gemma3nProcessor> {
    return withFiles(id, options, "Gemma3nProcessor.from_pretrained", loadGemma3n);
  }
}

/** The processor of a model that takes more than text. */
export class AutoProcessor {
  static async from_pretrained(id: string, options: ProcessorPretrainedOptions = {}): Promise<Processor> {
    return withFiles(id, options, "AutoProcessor.from_pretrained", async (files, given) => {
      const name = await processorClass(files);
      const load = Object.hasOwn(CLASSES, name) ? CLASSES[name] : undefined;
      if (load !== undefined) return load(files, given);
      throw new ConfigError(`${id}: its processor "${name}" is none of ${Object.keys(CLASSES).join(", ")}`, {
        key: "processor_class",
      });
    });
  }
}

type Loader = (files: ModelFiles, options: ProcessorPretrainedOptions) => Promise<Processor>;

const CLASSES: Readonly<Record<string, Loader>> = {
  Gemma3Processor: loadGemma3,
  Gemma3nProcessor: loadGemma3n,
};
const CLASS_OF_MODEL: Readonly<Record<string, string>> = {
  gemma3: "Gemma3Processor",
  gemma3n: "Gemma3nProcessor",
};

/** Files that may name the processor, in HF's order. */
const NAMING_FILES = ["processor_config.json", "preprocessor_config.json", "tokenizer_config.json"];

async function processorClass(files: ModelFiles): Promise<string> {
  for (const file of NAMING_FILES) {
    const name = (await files.json(file))?.processor_class;
    if (typeof name === "string") return name;
  }
  const { model_type } = await files.config({ encoders: true });
  const name = CLASS_OF_MODEL[String(model_type)];
  if (name !== undefined) return name;
  throw new ConfigError(
    `${files.path}: a model of type ${JSON.stringify(model_type)} has no processor; for text alone take AutoTokenizer`,
    { key: "model_type" },
  );
}

async function loadGemma3(files: ModelFiles, options: ProcessorPretrainedOptions): Promise<Gemma3Processor> {
  const [tokenizer, image_processor] = await Promise.all([
    AutoTokenizer.from_pretrained(files.path, pick(options, TOKENIZER_OVERRIDE_NAMES)),
    AutoImageProcessor.from_pretrained(files.path, pick(options, IMAGE_OPTIONS)),
  ]);
  if (!(image_processor instanceof Gemma3ImageProcessing)) throw foreignProcessor(files, "Gemma3Processor");
  rejectUnknownOptions(pick(options, ["audio_seq_length"]), [], "Gemma3Processor.from_pretrained");
  const image_seq_length =
    options.image_seq_length ?? (await tokensOf(files, "image_seq_length", "mm_tokens_per_image")) ?? 256;
  return new Gemma3Processor({ tokenizer, image_processor, image_seq_length });
}

async function loadGemma3n(
  files: ModelFiles,
  options: ProcessorPretrainedOptions,
): Promise<Gemma3nProcessor> {
  const [tokenizer, image_processor, feature_extractor] = await Promise.all([
    AutoTokenizer.from_pretrained(files.path, pick(options, TOKENIZER_OVERRIDE_NAMES)),
    AutoImageProcessor.from_pretrained(files.path, pick(options, IMAGE_OPTIONS)),
    AutoFeatureExtractor.from_pretrained(files.path),
  ]);
  if (!(image_processor instanceof SiglipImageProcessing)) throw foreignProcessor(files, "Gemma3nProcessor");
  const image_seq_length =
    options.image_seq_length ??
    (await tokensOf(files, "image_seq_length", "vision_soft_tokens_per_image")) ??
    256;
  const audio_seq_length =
    options.audio_seq_length ??
    (await tokensOf(files, "audio_seq_length", "audio_soft_tokens_per_image")) ??
    188;
  return new Gemma3nProcessor({
    tokenizer,
    image_processor,
    feature_extractor,
    image_seq_length,
    audio_seq_length,
  });
}

const IMAGE_OPTIONS: readonly string[] = [...IMAGE_SETTING_NAMES, "backend", "mmproj"];

function foreignProcessor({ path }: ModelFiles, name: string): ConfigError {
  return new ConfigError(`${path}: ${name} does not take this image processor`, {
    key: "image_processor_type",
  });
}

/** config.json, or what GGUF files say in its place. */
async function modelConfig(files: ModelFiles): Promise<JsonObject | undefined> {
  const config = await files.json("config.json");
  if (config !== undefined || (await files.imageProcessor()) === undefined) return config;
  return files.config({ encoders: true });
}

/** A number of tokens, which processor_config.json has under one name and config.json under another. */
async function tokensOf(
  files: ModelFiles,
  processorKey: string,
  modelKey: string,
): Promise<number | undefined> {
  const number = (json: JsonObject | undefined, key: string): number | undefined => {
    const value = json?.[key];
    if (value === undefined || value === null || typeof value === "number") return value ?? undefined;
    throw new ConfigError(`expected a number, got ${JSON.stringify(value)}`, { key });
  };
  return (
    number(await files.json("processor_config.json"), processorKey) ??
    number(await modelConfig(files), modelKey)
  );
}

/** Finds the model once; its parts are then loaded from where it lies. */
async function withFiles<Loaded>(
  id: string,
  options: ProcessorPretrainedOptions,
  call: string,
  load: (files: ModelFiles, options: ProcessorPretrainedOptions) => Promise<Loaded>,
): Promise<Loaded> {
  const isOwn = (name: string): boolean => OWN_OPTIONS.includes(name);
  const others = Object.fromEntries(Object.entries(options).filter(([name]) => !isOwn(name)));
  checkPretrainedOptions(others, call);
  const files = await ModelFiles.find(id, others as PretrainedOptions, { weights: false });
  return load(files, options).finally(() => files.close());
}

const OWN_OPTIONS: readonly string[] = [
  ...TOKENIZER_OVERRIDE_NAMES,
  ...IMAGE_SETTING_NAMES,
  "backend",
  "image_seq_length",
  "audio_seq_length",
];

function pick(options: object, names: readonly string[]): object {
  return Object.fromEntries(
    Object.entries(options).filter(([name, value]) => names.includes(name) && value !== undefined),
  );
}
