import { InputError } from "../errors.ts";
import type { ModelConfig } from "../models/text-config.ts";
import type { Tensor } from "../tensor.ts";
import type { DecoderForwardInputs } from "./decoder-forward.ts";
import {
  commonOutputs,
  type ModelOutput,
  PretrainedDecoder,
  type TextModelCore,
} from "./pretrained-decoder.ts";

/** As HF's BaseModelOutputWithPast. */
export interface BaseModelOutput extends ModelOutput {
  /** The normed output of the last layer: float32 [batch, length, hidden_size]. */
  readonly last_hidden_state: Tensor;
}

/** A text model without a head. */
export class BaseTextModel<Config extends ModelConfig = ModelConfig> extends PretrainedDecoder<
  Config,
  BaseModelOutput
> {
  constructor(core: TextModelCore<Config>) {
    super(core);
  }

  async _call(inputs: DecoderForwardInputs): Promise<BaseModelOutput> {
    for (const option of ["labels", "logits_to_keep"] as const) {
      if (inputs[option] !== undefined)
        throw new InputError(`${option}: a model without a head has no logits`, { option });
    }
    const result = await this.run(inputs, { logits: 0, last_hidden_state: true });
    return {
      last_hidden_state: result.last_hidden_state ?? result.hidden_states!.at(-1)!,
      ...commonOutputs(result),
    };
  }
}

/** A text model with something on it. */
export abstract class HeadedModel<Config extends ModelConfig, Output> extends PretrainedDecoder<
  Config,
  Output
> {
  #model: BaseTextModel<Config> | undefined;

  /** The text model under the head. */
  get model(): BaseTextModel<Config> {
    this.#model ??= this.makeModel();
    return this.#model;
  }

  protected makeModel(): BaseTextModel<Config> {
    return new BaseTextModel(this.core);
  }
}
