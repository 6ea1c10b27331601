import { InputError } from "../errors.ts";
import type { ModelConfig } from "../models/text-config.ts";
import { Tensor } from "../tensor.ts";
import { HeadedModel } from "./base-model.ts";
import type { DecoderForwardInputs } from "./decoder-forward.ts";
import { idRows, labelTensor } from "./inputs.ts";
import { sequenceLoss, tokenLoss } from "./losses.ts";
import { commonOutputs, type ModelOutput } from "./pretrained-decoder.ts";

/** As HF's SequenceClassifierOutputWithPast and TokenClassifierOutput. */
export interface ClassifierOutput extends ModelOutput {
  /** float32 [batch, num_labels], or of tokens [batch, length, num_labels]. */
  readonly logits: Tensor;
  /** A scalar, when labels were given. */
  readonly loss?: Tensor;
}

/** A text model with a score for each label. */
abstract class Classifier<Config extends ModelConfig> extends HeadedModel<Config, ClassifierOutput> {
  async _call(inputs: DecoderForwardInputs): Promise<ClassifierOutput> {
    if (inputs.logits_to_keep !== undefined)
      throw new InputError("logits_to_keep: a classifier scores all tokens", { option: "logits_to_keep" });
    const { labels } = inputs;
    const result = await this.run(inputs, { logits: this.core.logits_size, last_hidden_state: false });
    const logits = this.pool(result.logits, inputs);
    return {
      logits,
      ...(labels == null ? {} : { loss: this.loss(logits, labelTensor(labels)) }),
      ...commonOutputs(result),
    };
  }

  protected abstract pool(logits: Tensor, inputs: DecoderForwardInputs): Tensor;
  protected abstract loss(logits: Tensor, labels: Tensor): Tensor;
}

/** Scores a text by its last token: the last one that is not the padding token, as HF looks for it. */
export abstract class SequenceClassifier<
  Config extends ModelConfig = ModelConfig,
> extends Classifier<Config> {
  protected override pool(logits: Tensor, { input_ids, attention_mask }: DecoderForwardInputs): Tensor {
    const [batch, length, count] = logits.dims as [number, number, number];
    const { pad_token_id } = this.config.get_text_config();
    if (pad_token_id === null && batch > 1)
      throw new InputError(
        "a batch needs a pad_token_id in the configuration, to find each text's last token",
        {
          option: "input_ids",
        },
      );
    const rows = input_ids && idRows(input_ids, "input_ids");
    const mask = attention_mask && idRows(attention_mask, "attention_mask");
    const pooled = new Float32Array(batch * count);
    for (let r = 0; r < batch; r++) {
      const last = lastToken(length, rows?.[r], pad_token_id, mask?.[r]?.slice(-length));
      const start = (r * length + last) * count;
      pooled.set((logits.data as Float32Array).subarray(start, start + count), r * count);
    }
    return new Tensor("float32", pooled, [batch, count]);
  }

  protected override loss(logits: Tensor, labels: Tensor): Tensor {
    return sequenceLoss(logits, labels, this.config);
  }
}

/** The last token that is no padding, by its id or by the mask. A row of nothing but padding counts as its first token, as in HF. */
function lastToken(
  length: number,
  row: readonly number[] | undefined,
  pad_token_id: number | null,
  mask: readonly number[] | undefined,
): number {
  let last = length - 1;
  while (last > 0 && ((row !== undefined && row[last] === pad_token_id) || mask?.[last] === 0)) last--;
  return last;
}

/** Scores every token. */
export abstract class TokenClassifier<Config extends ModelConfig = ModelConfig> extends Classifier<Config> {
  protected override pool(logits: Tensor): Tensor {
    return logits;
  }

  protected override loss(logits: Tensor, labels: Tensor): Tensor {
    return tokenLoss(logits, labels);
  }
}
