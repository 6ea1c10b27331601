import type { GemmaConfig } from "../models/gemma/config.ts";
import { BaseTextModel } from "./base-model.ts";
import { CausalLM } from "./causal-lm.ts";
import { SequenceClassifier, TokenClassifier } from "./classifiers.ts";
import type { PretrainedOptions } from "./options.ts";
import { TextModelCore } from "./pretrained-decoder.ts";
import { GEMMA, LANGUAGE_MODEL, NO_HEAD, SEQUENCE_CLASSIFIER, TOKEN_CLASSIFIER } from "./text-models.ts";

/** Gemma (2B, 7B) without a head. */
export class GemmaModel extends BaseTextModel<GemmaConfig> {
  /** Loads a model: a folder, a .gguf file, a hub id, or the name of a pinned package. */
  static async from_pretrained(id: string, options?: PretrainedOptions): Promise<GemmaModel> {
    return new GemmaModel(await TextModelCore.load(id, options, "GemmaModel", GEMMA, NO_HEAD));
  }
}

/** Gemma (2B, 7B) with its language-model head. */
export class GemmaForCausalLM extends CausalLM<GemmaConfig> {
  /** Loads a model: a folder, a .gguf file, a hub id, or the name of a pinned package. */
  static async from_pretrained(id: string, options?: PretrainedOptions): Promise<GemmaForCausalLM> {
    return new GemmaForCausalLM(
      await TextModelCore.load(id, options, "GemmaForCausalLM", GEMMA, LANGUAGE_MODEL),
    );
  }
}

/** Gemma with a score for each label of a text. */
export class GemmaForSequenceClassification extends SequenceClassifier<GemmaConfig> {
  /** Loads a model: a folder or a hub id. */
  static async from_pretrained(
    id: string,
    options?: PretrainedOptions,
  ): Promise<GemmaForSequenceClassification> {
    const core = await TextModelCore.load(
      id,
      options,
      "GemmaForSequenceClassification",
      GEMMA,
      SEQUENCE_CLASSIFIER,
    );
    return new GemmaForSequenceClassification(core);
  }
}

/** Gemma with a score for each label of a token. */
export class GemmaForTokenClassification extends TokenClassifier<GemmaConfig> {
  /** Loads a model: a folder or a hub id. */
  static async from_pretrained(
    id: string,
    options?: PretrainedOptions,
  ): Promise<GemmaForTokenClassification> {
    const core = await TextModelCore.load(
      id,
      options,
      "GemmaForTokenClassification",
      GEMMA,
      TOKEN_CLASSIFIER,
    );
    return new GemmaForTokenClassification(core);
  }
}

/** The Flax classes of HF's page are the same models; their msgpack checkpoints load as all others do. */
export const FlaxGemmaModel: typeof GemmaModel = GemmaModel;
export const FlaxGemmaForCausalLM: typeof GemmaForCausalLM = GemmaForCausalLM;
