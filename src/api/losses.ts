/** Losses of HF's heads (transformers/loss/loss_utils.py), for inputs that come with labels. */
import { InputError } from "../errors.ts";
import type { LabelConfig, ProblemType } from "../models/text-config.ts";
import { Tensor } from "../tensor.ts";

/** Labels of this value do not count. */
const IGNORED = -100;

/** Mean cross entropy of predicting label i [batch, length] from the logits at i - 1 [batch, length, vocab]. */
export function causalLoss(logits: Tensor, labels: Tensor): Tensor {
  const [batch, length] = logits.dims as [number, number, number];
  checkDims(labels, [batch, length], logits);
  const next = numbers(labels).map((_, i, all) => (i % length === length - 1 ? IGNORED : all[i + 1]!));
  return crossEntropy(logits, next);
}

/** Mean cross entropy of the label of each token: logits [batch, length, num_labels], labels [batch, length]. */
export function tokenLoss(logits: Tensor, labels: Tensor): Tensor {
  checkDims(labels, logits.dims.slice(0, 2), logits);
  return crossEntropy(logits, numbers(labels));
}

/**
 * Loss of scores [batch, num_labels] by the problem that the configuration names, else by HF's guess: one label is
 * a regression, whole numbers choose a label, others are a probability for each.
 */
export function sequenceLoss(logits: Tensor, labels: Tensor, config: LabelConfig): Tensor {
  const [batch, count] = logits.dims as [number, number];
  const problem = config.problem_type ?? guessProblem(labels, count);
  if (problem === "single_label_classification") {
    if (labels.size !== batch) checkDims(labels, [batch], logits);
    return crossEntropy(logits, numbers(labels));
  }
  if (problem === "regression" && count === 1 && labels.size === batch)
    return mean(numbers(labels), (label, i) => (Number(logits.data[i]) - label) ** 2);
  checkDims(labels, [batch, count], logits);
  const loss = problem === "regression" ? squaredError : binaryCrossEntropy;
  return mean(numbers(labels), (label, i) => loss(Number(logits.data[i]), label));
}

function guessProblem(labels: Tensor, count: number): ProblemType {
  if (count === 1) return "regression";
  return labels.type === "int64" || labels.type === "int32"
    ? "single_label_classification"
    : "multi_label_classification";
}

function squaredError(score: number, label: number): number {
  return (score - label) ** 2;
}

/** -log of the probability that a sigmoid of the score gives the label, in a form that does not overflow. */
function binaryCrossEntropy(score: number, label: number): number {
  return Math.max(score, 0) - score * label + Math.log1p(Math.exp(-Math.abs(score)));
}

function crossEntropy(logits: Tensor, labels: readonly number[]): Tensor {
  const classes = logits.dims.at(-1)!;
  const data = logits.data as Float32Array;
  const counted = labels.flatMap((label, i) => (label === IGNORED ? [] : [{ label, i }]));
  return mean(counted, ({ label, i }) => {
    if (!Number.isInteger(label) || label < 0 || label >= classes)
      throw new InputError(`labels: ${label} is none of the ids 0 to ${classes - 1}`, { option: "labels" });
    const scores = data.subarray(i * classes, (i + 1) * classes);
    return logSumExp(scores) - scores[label]!;
  });
}

function mean<T>(items: readonly T[], value: (item: T, index: number) => number): Tensor {
  const total = items.reduce((sum, item, i) => sum + value(item, i), 0);
  return new Tensor("float32", Float32Array.of(total / items.length), []);
}

function logSumExp(scores: Float32Array): number {
  let max = Number.NEGATIVE_INFINITY;
  for (const score of scores) if (score > max) max = score;
  let sum = 0;
  for (const score of scores) sum += Math.exp(score - max);
  return max + Math.log(sum);
}

function numbers(labels: Tensor): number[] {
  return Array.from(labels.to("float32").data as Float32Array);
}

function checkDims(labels: Tensor, expected: readonly number[], logits: Tensor): void {
  if (labels.dims.join() === expected.join()) return;
  throw new InputError(
    `labels: [${labels.dims.join(", ")}] does not match logits of [${logits.dims.join(", ")}]; expected [${expected.join(", ")}]`,
    { option: "labels" },
  );
}
