import type { Tensor } from "../tensor.ts";
import type { PipelineModel } from "./base.ts";

/** What the classification pipelines need of their models. */
export interface ClassificationModel extends PipelineModel {
  (inputs: {
    input_ids: Tensor;
    attention_mask: Tensor;
    signal?: AbortSignal;
  }): Promise<{
    readonly logits: Tensor;
  }>;
  readonly config: LabelConfig;
}

/** The part of a configuration that says what the logits stand for. */
export interface LabelConfig {
  readonly id2label?: Readonly<Record<number | string, string>>;
  readonly num_labels?: number;
  readonly problem_type?: string | null;
}

/** Name of a label. */
export function labelOf(config: LabelConfig, index: number): string {
  return config.id2label?.[index] ?? `LABEL_${index}`;
}

/** Position of the largest score. */
export function best(scores: ArrayLike<number>): number {
  let found = 0;
  for (let i = 1; i < scores.length; i++) if (scores[i]! > scores[found]!) found = i;
  return found;
}
