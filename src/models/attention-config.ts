import { windowInUse } from "../attention-masks.ts";
import { ConfigReader, type JsonObject } from "./config-reader.ts";
import { Gemma3TextConfig } from "./gemma3/config.ts";

/** What a configuration says about who sees whom. */
export interface AttentionConfig {
  readonly model_type: string;
  /** HF's class of the bare model, and the folder of transformers that it lies in. */
  readonly model_class: string;
  readonly family: string;
  /** What stands for an image in a text of the model's processor; null where the model takes text alone. */
  readonly image_placeholder: string | null;
  /** Whether the tokens of an image see each other's later ones. */
  readonly image_blocks: boolean;
  /** Window in use on sliding layers, as `attentionMask` takes it; null where no layer has one. */
  readonly window: number | null;
  readonly bidirectional: boolean;
}

interface KnownModel {
  readonly model_class: string;
  readonly family: string;
  readonly image_placeholder: string | null;
  readonly image_blocks: boolean;
  /** HF's default of `sliding_window`; null for models that have none. */
  readonly sliding_window: number | null;
}

const TEXT_ALONE = { image_placeholder: null, image_blocks: false } as const;

/** Text models and models of several kinds of input, by `model_type`. */
const MODELS: Readonly<Record<string, KnownModel>> = {
  gemma: { ...TEXT_ALONE, model_class: "GemmaModel", family: "gemma", sliding_window: null },
  gemma3_text: { ...TEXT_ALONE, model_class: "Gemma3TextModel", family: "gemma3", sliding_window: 4096 },
  gemma3: {
    model_class: "Gemma3Model",
    family: "gemma3",
    image_placeholder: "<start_of_image>",
    image_blocks: true,
    sliding_window: 4096,
  },
  gemma3n_text: { ...TEXT_ALONE, model_class: "Gemma3nTextModel", family: "gemma3n", sliding_window: 512 },
  gemma3n: {
    model_class: "Gemma3nModel",
    family: "gemma3n",
    image_placeholder: "<image_soft_token>",
    image_blocks: false,
    sliding_window: 512,
  },
};

/** Reads config.json of any Gemma; models of several kinds of input keep their text model's part in `text_config`. */
export function readAttentionConfig(config: JsonObject): AttentionConfig {
  const read: ConfigReader = new ConfigReader(config);
  const model_type = read.string("model_type");
  const known = Object.hasOwn(MODELS, model_type) ? MODELS[model_type]! : undefined;
  if (known === undefined) {
    const names = Object.keys(MODELS).join(", ");
    read.fail(
      "model_type",
      `attention of ${JSON.stringify(model_type)} is not known; supported are ${names}`,
    );
  }
  const { sliding_window: _default, ...fixed } = known;
  const nested = read.raw("text_config");
  const text = nested === undefined ? config : (nested as JsonObject);
  const textRead = nested === undefined ? read : new ConfigReader(nested, "text_config");
  const bidirectional = textRead.boolean("use_bidirectional_attention", false);
  // Here null is no window, as in HF, and not the default.
  const windowless = known.sliding_window === null || text.sliding_window === null;
  const sliding = windowless ? null : textRead.positiveInt("sliding_window", known.sliding_window);
  // An instance of the class has done this already.
  const asStated = sliding === null || text instanceof Gemma3TextConfig;
  const window = asStated ? sliding : windowInUse(sliding, bidirectional);
  return { model_type, ...fixed, window, bidirectional };
}
