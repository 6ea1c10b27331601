import { InputError, rejectUnknownOptions } from "../errors.ts";
import { softmax } from "../generation/math.ts";
import { Pipeline } from "./base.ts";
import { type ClassificationModel, type LabelConfig, labelOf } from "./labels.ts";
import { encodeTexts, type TextPair } from "./text-batch.ts";

/** Options of the call, as in HF. */
export interface TextClassificationOptions {
  /** Labels of each text, best first: so many, or all (null, or 0). Without it the best one. */
  readonly top_k?: number | null;
  /** What makes scores of logits; by default what the model was trained with. */
  readonly function_to_apply?: "softmax" | "sigmoid" | "none" | null;
  readonly signal?: AbortSignal;
}

/** A label and its score. */
export interface ClassifiedLabel {
  readonly label: string;
  readonly score: number;
}

type Texts = readonly (string | TextPair)[];

/** How the pipeline is called: one label a text, in a list; with a top_k other than 1 a list of labels a text. */
export interface TextClassificationCall {
  (
    texts: string | TextPair | Texts,
    options?: TextClassificationOptions & { top_k?: 1 },
  ): Promise<ClassifiedLabel[]>;
  (text: string | TextPair, options: TextClassificationOptions): Promise<ClassifiedLabel[]>;
  (texts: Texts, options: TextClassificationOptions): Promise<ClassifiedLabel[][]>;
}

const OPTIONS = ["top_k", "function_to_apply", "signal"] as const;

const FUNCTIONS = {
  softmax: (logits: Float32Array): number[] => Array.from(softmax(logits)),
  sigmoid: (logits: Float32Array): number[] => Array.from(logits, (value) => 1 / (1 + Math.exp(-value))),
  none: (logits: Float32Array): number[] => Array.from(logits),
} as const;

/** What a text is about, or what it feels like: the labels of a sequence classifier. */
export class TextClassificationPipeline extends Pipeline<TextClassificationCall, ClassificationModel> {
  async _call(
    inputs: string | TextPair | Texts,
    options: TextClassificationOptions = {},
  ): Promise<ClassifiedLabel[] | ClassifiedLabel[][]> {
    rejectUnknownOptions(options, OPTIONS, "text-classification");
    const { signal } = options;
    const top = checkTop(options.top_k);
    const { config } = this.model;
    const apply = FUNCTIONS[checkFunction(options.function_to_apply) ?? defaultFunction(config)];
    const batched = Array.isArray(inputs);
    const texts = (batched ? (inputs as Texts) : [inputs as string | TextPair]).map(readText);
    if (texts.length === 0) return [];
    const { input_ids, attention_mask } = encodeTexts(this.tokenizer, texts);
    const { logits } = await this.model({
      input_ids,
      attention_mask,
      ...(signal === undefined ? {} : { signal }),
    });
    const results = [...logits.to("float32")].map((row) =>
      ranked(apply(row.data as Float32Array), config).slice(0, top),
    );
    if (top === 1) return results.flat();
    return batched ? results : results[0]!;
  }
}

/** Labels by score; equal scores keep the labels' order. */
function ranked(scores: readonly number[], config: LabelConfig): ClassifiedLabel[] {
  return scores.map((score, i) => ({ label: labelOf(config, i), score })).sort((a, b) => b.score - a.score);
}

/** HF's choice: regression as it is, several labels at once or a single one by sigmoid, else softmax. */
function defaultFunction({ problem_type, num_labels, id2label }: LabelConfig): keyof typeof FUNCTIONS {
  if (problem_type === "regression") return "none";
  const labels = num_labels ?? Object.keys(id2label ?? {}).length;
  return problem_type === "multi_label_classification" || labels === 1 ? "sigmoid" : "softmax";
}

function checkFunction(value: unknown): keyof typeof FUNCTIONS | undefined {
  if (value === undefined || value === null) return undefined;
  if (typeof value === "string" && Object.hasOwn(FUNCTIONS, value)) return value as keyof typeof FUNCTIONS;
  throw new InputError(
    `function_to_apply: expected ${Object.keys(FUNCTIONS).join(", ")}, got ${JSON.stringify(value)}`,
    { option: "function_to_apply" },
  );
}

function checkTop(value: number | null | undefined): number {
  if (value === undefined) return 1;
  if (value === null || value === 0) return Number.POSITIVE_INFINITY;
  if (Number.isSafeInteger(value) && value > 0) return value;
  throw new InputError(`top_k: expected a positive whole number, 0 or null for all, got ${value}`, {
    option: "top_k",
  });
}

function readText(input: unknown): TextPair {
  if (typeof input === "string") return { text: input };
  const { text, text_pair } = (input ?? {}) as Partial<TextPair>;
  if (typeof text === "string") {
    rejectUnknownOptions(input as object, ["text", "text_pair"], "text-classification");
    if (text_pair === undefined || text_pair === null || typeof text_pair === "string")
      return { text, ...(text_pair === undefined ? {} : { text_pair }) };
  }
  throw new InputError("text-classification: expected texts, or pairs { text, text_pair }");
}
