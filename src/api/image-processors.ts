import { ConfigError, InputError } from "../errors.ts";
import { Gemma3ImageProcessing } from "../processing/gemma3-image-processor.ts";
import { type Gemma3ImageProcessorConfig, IMAGE_SETTING_NAMES } from "../processing/image-settings.ts";
import type { PretrainedOptions } from "./options.ts";
import { loadPreprocessorConfig } from "./preprocessor-files.ts";

/** Options of an image processor's `from_pretrained`: where to look, and settings in place of the files' own. */
export type ImageProcessorPretrainedOptions = PretrainedOptions & Gemma3ImageProcessorConfig;

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

/** The image processor of a model. */
export class AutoImageProcessor {
  static async from_pretrained(
    id: string,
    options: AutoImageProcessorOptions = {},
  ): Promise<Gemma3ImageProcessing> {
    const { backend, ...others } = options;
    if (![undefined, null, "torchvision", "pil"].includes(backend)) {
      throw new InputError(`backend: expected "torchvision" or "pil", got ${JSON.stringify(backend)}`, {
        option: "backend",
      });
    }
    const { config, type } = await loadConfig(id, others, "AutoImageProcessor.from_pretrained");
    if (!/^Gemma3ImageProcessor(Fast|Pil)?$/.test(type)) {
      throw new ConfigError(`"${type}" is not an image processor of lapidary's`, {
        key: "image_processor_type",
      });
    }
    return backend === "pil" ? new Gemma3ImageProcessorPil(config) : new Gemma3ImageProcessor(config);
  }
}

interface LoadedConfig {
  readonly config: Gemma3ImageProcessorConfig;
  readonly type: string;
}

async function loadConfig(id: string, options: object, call: string): Promise<LoadedConfig> {
  const place = { block: "image_processor", names: IMAGE_SETTING_NAMES } as const;
  const { config, type } = await loadPreprocessorConfig(id, options, place, call);
  return { config, type: type ?? "Gemma3ImageProcessor" };
}
