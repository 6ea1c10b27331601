import { ConfigError, InputError } from "../errors.ts";
import { Gemma3ImageProcessing } from "../processing/gemma3-image-processor.ts";
import {
  type Gemma3ImageProcessorConfig,
  IMAGE_SETTING_NAMES,
  SIGLIP_SETTING_NAMES,
  type SiglipImageProcessorConfig,
} from "../processing/image-settings.ts";
import { SiglipImageProcessing } from "../processing/siglip-image-processor.ts";
import type { PretrainedOptions } from "./options.ts";
import { loadPreprocessorConfig } from "./preprocessor-files.ts";

/** Options of an image processor's `from_pretrained`: where to look, and settings in place of the files' own. */
export type ImageProcessorPretrainedOptions = PretrainedOptions & Gemma3ImageProcessorConfig;

/** The same of SigLIP's. */
export type SiglipImageProcessorPretrainedOptions = PretrainedOptions & SiglipImageProcessorConfig;

/** Options of AutoImageProcessor; `backend` chooses as in HF, torchvision's arithmetic by default. */
export type AutoImageProcessorOptions = ImageProcessorPretrainedOptions & {
  readonly backend?: "torchvision" | "pil" | null;
};

/** Gemma 3's image processor with torchvision's arithmetic: HF's default. */
export class Gemma3ImageProcessor extends Gemma3ImageProcessing {
  constructor(config: Gemma3ImageProcessorConfig = {}) {
    super(config, "torchvision", "Gemma3ImageProcessor");
  }

  /** Reads preprocessor_config.json, or the image_processor block of processor_config.json. */
  static async from_pretrained(
    id: string,
    options: ImageProcessorPretrainedOptions = {},
  ): Promise<Gemma3ImageProcessor> {
    const { config } = await loadConfig(id, options, "Gemma3ImageProcessor.from_pretrained");
    return new Gemma3ImageProcessor(config);
  }
}

/** Gemma 3's image processor with Pillow's arithmetic: it differs by up to two grey levels. */
export class Gemma3ImageProcessorPil extends Gemma3ImageProcessing {
  constructor(config: Gemma3ImageProcessorConfig = {}) {
    super(config, "pil", "Gemma3ImageProcessorPil");
  }

  /** Reads preprocessor_config.json, or the image_processor block of processor_config.json. */
  static async from_pretrained(
    id: string,
    options: ImageProcessorPretrainedOptions = {},
  ): Promise<Gemma3ImageProcessorPil> {
    const { config } = await loadConfig(id, options, "Gemma3ImageProcessorPil.from_pretrained");
    return new Gemma3ImageProcessorPil(config);
  }
}

/** SigLIP's image processor, which is Gemma 3n's, with torchvision's arithmetic: HF's default. */
export class SiglipImageProcessor extends SiglipImageProcessing {
  constructor(config: SiglipImageProcessorConfig = {}) {
    super(config, "torchvision", "SiglipImageProcessor");
  }

  /** Reads preprocessor_config.json, or the image_processor block of processor_config.json. */
  static async from_pretrained(
    id: string,
    options: SiglipImageProcessorPretrainedOptions = {},
  ): Promise<SiglipImageProcessor> {
    const call = "SiglipImageProcessor.from_pretrained";
    const { config } = await loadConfig(id, options, call, SIGLIP_SETTING_NAMES);
    return new SiglipImageProcessor(config);
  }
}

/** SigLIP's image processor with Pillow's arithmetic: it differs by up to two grey levels. */
export class SiglipImageProcessorPil extends SiglipImageProcessing {
  constructor(config: SiglipImageProcessorConfig = {}) {
    super(config, "pil", "SiglipImageProcessorPil");
  }

  /** Reads preprocessor_config.json, or the image_processor block of processor_config.json. */
  static async from_pretrained(
    id: string,
    options: SiglipImageProcessorPretrainedOptions = {},
  ): Promise<SiglipImageProcessorPil> {
    const call = "SiglipImageProcessorPil.from_pretrained";
    const { config } = await loadConfig(id, options, call, SIGLIP_SETTING_NAMES);
    return new SiglipImageProcessorPil(config);
  }
}

/** The image processor of a model. */
export class AutoImageProcessor {
  static async from_pretrained(
    id: string,
    options: AutoImageProcessorOptions = {},
  ): Promise<Gemma3ImageProcessing | SiglipImageProcessing> {
    const { backend, ...others } = options;
    if (![undefined, null, "torchvision", "pil"].includes(backend)) {
      throw new InputError(`backend: expected "torchvision" or "pil", got ${JSON.stringify(backend)}`, {
        option: "backend",
      });
    }
    const { config, type } = await loadConfig(id, others, "AutoImageProcessor.from_pretrained");
    const isPil = backend === "pil";
    // HF's older names of torchvision's processors end in Fast.
    switch (type.replace(/(Fast|Pil)$/, "")) {
      case "Gemma3ImageProcessor":
        return isPil ? new Gemma3ImageProcessorPil(config) : new Gemma3ImageProcessor(config);
      case "SiglipImageProcessor": {
        const known = withoutPanAndScan(config, others);
        return isPil ? new SiglipImageProcessorPil(known) : new SiglipImageProcessor(known);
      }
      default:
        throw new ConfigError(`"${type}" is not an image processor of lapidary's`, {
          key: "image_processor_type",
        });
    }
  }
}

/** Settings of Gemma 3's alone: left out where a file has them, refused as options. */
function withoutPanAndScan(config: Gemma3ImageProcessorConfig, options: object): SiglipImageProcessorConfig {
  const given = Object.entries(config).filter(
    ([name]) => SIGLIP_SETTING_NAMES.includes(name) || Object.hasOwn(options, name),
  );
  return Object.fromEntries(given);
}

interface LoadedConfig {
  readonly config: Gemma3ImageProcessorConfig;
  readonly type: string;
}

async function loadConfig(
  id: string,
  options: object,
  call: string,
  names: readonly string[] = IMAGE_SETTING_NAMES,
): Promise<LoadedConfig> {
  const place = { block: "image_processor", names } as const;
  const { config, type } = await loadPreprocessorConfig(id, options, place, call);
  return { config, type: type ?? "Gemma3ImageProcessor" };
}
