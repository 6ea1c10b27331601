import type { Gemma3TextConfig } from "../models/gemma3/config.ts";
import { BaseTextModel } from "./base-model.ts";
import { CausalLM } from "./causal-lm.ts";
import { SequenceClassifier } from "./classifiers.ts";
import type { PretrainedOptions } from "./options.ts";
import { TextModelCore } from "./pretrained-decoder.ts";
import { GEMMA3_TEXT, LANGUAGE_MODEL, NO_HEAD, SEQUENCE_CLASSIFIER } from "./text-models.ts";

/** Gemma 3's text model without its head; with `use_bidirectional_attention` (EmbeddingGemma) an encoder. */
export class Gemma3TextModel extends BaseTextModel<Gemma3TextConfig> {
  /** Loads a model: a folder, a .gguf file, a hub id, or the name of a pinned package. */
  static async from_pretrained(id: string, options?: PretrainedOptions): Promise<Gemma3TextModel> {
    return new Gemma3TextModel(
      await TextModelCore.load(id, options, "Gemma3TextModel", GEMMA3_TEXT, NO_HEAD),
    );
  }
}

/** Gemma 3's text model with its language-model head (270M, 1B). */
export class Gemma3ForCausalLM extends CausalLM<Gemma3TextConfig> {
  /** Loads a model: a folder, a .gguf file, a hub id, or the name of a pinned package. */
  static async from_pretrained(id: string, options?: PretrainedOptions): Promise<Gemma3ForCausalLM> {
    return new Gemma3ForCausalLM(
      await TextModelCore.load(id, options, "Gemma3ForCausalLM", GEMMA3_TEXT, LANGUAGE_MODEL),
    );
  }
}

/** Gemma 3's text model with a score for each label of a text. */
export class Gemma3TextForSequenceClassification extends SequenceClassifier<Gemma3TextConfig> {
  /** Loads a model: a folder or a hub id. */
  static async from_pretrained(
    id: string,
    options?: PretrainedOptions,
  ): Promise<Gemma3TextForSequenceClassification> {
    const core = await TextModelCore.load(
      id,
      options,
      "Gemma3TextForSequenceClassification",
      GEMMA3_TEXT,
      SEQUENCE_CLASSIFIER,
    );
    return new Gemma3TextForSequenceClassification(core);
  }
}
