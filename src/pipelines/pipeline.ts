import {
  AutoModel,
  AutoModelForCausalLM,
  AutoModelForImageTextToText,
  AutoModelForSequenceClassification,
  AutoModelForTokenClassification,
} from "../api/auto.ts";
import { BaseTextModel } from "../api/base-model.ts";
import { CausalLM } from "../api/causal-lm.ts";
import { SequenceClassifier, TokenClassifier } from "../api/classifiers.ts";
import { ACCELERATORS_FIRST, loadOnFirst, together } from "../api/loading.ts";
import type { PretrainedOptions } from "../api/options.ts";
import { PretrainedDecoder } from "../api/pretrained-decoder.ts";
import { AutoProcessor } from "../api/processors.ts";
import { SentenceTransformer } from "../api/sentence-transformer.ts";
import { AutoTokenizer } from "../api/tokenizers.ts";
import { InputError, nearestName, rejectUnknownOptions } from "../errors.ts";
import type { Processor } from "../processing/processor.ts";
import type { PreTrainedTokenizer } from "../processing/tokenizer.ts";
import type { PipelineModel, PipelineParts } from "./base.ts";
import { FeatureExtractionPipeline } from "./feature-extraction.ts";
import { ImageTextToTextPipeline } from "./image-text-to-text.ts";
import { SentenceSimilarityPipeline } from "./sentence-similarity.ts";
import { AutomaticSpeechRecognitionPipeline } from "./speech-recognition.ts";
import { TextClassificationPipeline } from "./text-classification.ts";
import { TextGenerationPipeline } from "./text-generation.ts";
import { TokenClassificationPipeline } from "./token-classification.ts";

/** The pipeline of each task. */
export interface PipelineTypes {
  "text-generation": TextGenerationPipeline;
  "feature-extraction": FeatureExtractionPipeline;
  "sentence-similarity": SentenceSimilarityPipeline;
  "text-classification": TextClassificationPipeline;
  "sentiment-analysis": TextClassificationPipeline;
  "token-classification": TokenClassificationPipeline;
  ner: TokenClassificationPipeline;
  "image-text-to-text": ImageTextToTextPipeline;
  "any-to-any": ImageTextToTextPipeline;
  "automatic-speech-recognition": AutomaticSpeechRecognitionPipeline;
}

export type PipelineTask = keyof PipelineTypes;

/** Options of `pipeline`: those of `from_pretrained`, and a device may be a number, as in HF. */
export interface PipelineOptions extends Omit<PretrainedOptions, "device"> {
  /** 0 is the first accelerator, or the processor where there is none; -1 the processor. */
  readonly device?: PretrainedOptions["device"] | number | `${number}` | `cuda:${number}`;
  /** The tokenizer, for a model that is loaded already. */
  readonly tokenizer?: PreTrainedTokenizer;
  /** The processor, for a model that is loaded already and takes more than text. */
  readonly processor?: Processor;
}

/** HF's keyword form, as one object. */
export interface PipelineArguments<Task extends PipelineTask> extends PipelineOptions {
  readonly task: Task;
  readonly model?: string | PipelineModel | null;
}

/** How a task's pipeline comes about. */
interface TaskEntry {
  load(id: string, options: PretrainedOptions): Promise<PipelineModel>;
  create(parts: PipelineParts<never> & { readonly processor: Processor }): PipelineTypes[PipelineTask];
  /** Whether the task takes more than text: it has a processor then. */
  readonly media?: boolean;
  /** Whether a loaded text model suits the task. */
  suits(model: object): boolean;
  /** The model where none is named. */
  readonly model?: string;
}

const TEXT_CLASSIFICATION: TaskEntry = {
  load: (id, options) => AutoModelForSequenceClassification.from_pretrained(id, options),
  create: (parts) => new TextClassificationPipeline(parts),
  suits: (model) => model instanceof SequenceClassifier,
};
const TOKEN_CLASSIFICATION: TaskEntry = {
  load: (id, options) => AutoModelForTokenClassification.from_pretrained(id, options),
  create: (parts) => new TokenClassificationPipeline(parts),
  suits: (model) => model instanceof TokenClassifier,
};

const MEDIA_TO_TEXT: TaskEntry = {
  load: (id, options) => AutoModelForImageTextToText.from_pretrained(id, options),
  create: (parts) => new ImageTextToTextPipeline(parts),
  suits: (model) => model instanceof CausalLM,
  media: true,
};

const TASKS: Readonly<Record<PipelineTask, TaskEntry>> = {
  "text-generation": {
    load: (id, options) => AutoModelForCausalLM.from_pretrained(id, options),
    create: (parts) => new TextGenerationPipeline(parts),
    suits: (model) => model instanceof CausalLM,
    model: "gemma-3-270m",
  },
  "feature-extraction": {
    load: (id, options) => AutoModel.from_pretrained(id, options),
    create: (parts) => new FeatureExtractionPipeline(parts),
    suits: (model) => model instanceof BaseTextModel,
  },
  "sentence-similarity": {
    load: (id, options) => SentenceTransformer.from_pretrained(id, options),
    create: (parts) => new SentenceSimilarityPipeline(parts),
    suits: (model) => model instanceof SentenceTransformer,
  },
  "text-classification": TEXT_CLASSIFICATION,
  "sentiment-analysis": TEXT_CLASSIFICATION,
  "token-classification": TOKEN_CLASSIFICATION,
  ner: TOKEN_CLASSIFICATION,
  "image-text-to-text": MEDIA_TO_TEXT,
  "any-to-any": MEDIA_TO_TEXT,
  "automatic-speech-recognition": {
    ...MEDIA_TO_TEXT,
    create: (parts) => new AutomaticSpeechRecognitionPipeline(parts),
  },
};

/** HF's other names of two tasks; `pipe.task` is the one that they stand for. */
const ALIASES: Readonly<Partial<Record<PipelineTask, PipelineTask>>> = {
  "sentiment-analysis": "text-classification",
  ner: "token-classification",
};

/**
 * A model and its tokenizer, ready for a task: `pipeline("text-generation", "folder or id", options)`, or all in one
 * object, `pipeline({ task, model, dtype })`. A model that is loaded already comes with `options.tokenizer`.
 */
export function pipeline<Task extends PipelineTask>(
  task: Task,
  model?: string | PipelineModel | null,
  options?: PipelineOptions,
): Promise<PipelineTypes[Task]>;
export function pipeline<Task extends PipelineTask>(
  all: PipelineArguments<Task>,
): Promise<PipelineTypes[Task]>;
export async function pipeline(
  first: PipelineTask | PipelineArguments<PipelineTask>,
  second?: string | PipelineModel | null,
  third: PipelineOptions = {},
): Promise<PipelineTypes[PipelineTask]> {
  if (typeof first === "object" && first !== null) {
    const { task, model, ...options } = first;
    return create(task, model ?? undefined, options);
  }
  return create(first, second ?? undefined, third);
}

async function create(
  task: PipelineTask,
  model: string | PipelineModel | undefined,
  { device, tokenizer, processor, ...rest }: PipelineOptions,
): Promise<PipelineTypes[PipelineTask]> {
  const entry = entryOf(task);
  if (processor !== undefined && entry.media !== true)
    throw new InputError(`pipeline: ${task} takes text alone, and a tokenizer`, { option: "processor" });
  const name = ALIASES[task] ?? task;
  const companion = { tokenizer, processor };
  if (model !== undefined && typeof model !== "string") return around(name, entry, model, companion, rest);
  const id = model ?? entry.model;
  if (id === undefined)
    throw new InputError(`pipeline: name a model for ${task}; there is no default`, { option: "model" });
  const load = (given: PretrainedOptions["device"]): Promise<PipelineModel> =>
    entry.load(id, given === undefined ? rest : { ...rest, device: given });
  const choice = readDevice(device);
  const [loaded, found] = await together(
    choice === "first" ? loadOnFirst(ACCELERATORS_FIRST, load).then((first) => first.model) : load(choice),
    loadCompanion(id, entry, companion, rest),
  );
  return entry.create({ task: name, model: loaded, ...found } as never);
}

/** What goes with a model: its tokenizer, or its processor with the tokenizer inside. */
interface Companion {
  readonly tokenizer: PreTrainedTokenizer | undefined;
  readonly processor: Processor | undefined;
}

async function loadCompanion(
  id: string,
  { media }: TaskEntry,
  { tokenizer, processor }: Companion,
  options: PretrainedOptions,
): Promise<Companion> {
  if (media !== true)
    return {
      tokenizer: tokenizer ?? (await AutoTokenizer.from_pretrained(id, options)),
      processor: undefined,
    };
  const found = processor ?? (await AutoProcessor.from_pretrained(id, options));
  return { processor: found, tokenizer: found.tokenizer };
}

/** The pipeline of a model that is loaded already. */
function around(
  task: string,
  entry: TaskEntry,
  model: PipelineModel,
  { tokenizer, processor }: Companion,
  rest: PretrainedOptions,
): PipelineTypes[PipelineTask] {
  const known =
    processor?.tokenizer ?? tokenizer ?? (model as Partial<{ tokenizer: PreTrainedTokenizer }>).tokenizer;
  const wanted = entry.media === true ? "processor" : "tokenizer";
  if (known === undefined || (entry.media === true && processor === undefined))
    throw new InputError(
      `pipeline: a loaded model needs its ${wanted}: pipeline(task, model, { ${wanted} })`,
      { option: wanted },
    );
  rejectUnknownOptions(rest, [], "pipeline with a loaded model");
  if (model instanceof PretrainedDecoder && !entry.suits(model))
    throw new InputError(`pipeline: a ${model.constructor.name} is no model for ${task}`, {
      option: "model",
    });
  return entry.create({ task, model, tokenizer: known, processor } as never);
}

function entryOf(task: unknown): TaskEntry {
  if (typeof task === "string" && Object.hasOwn(TASKS, task)) return TASKS[task as PipelineTask];
  const names = Object.keys(TASKS);
  const near = typeof task === "string" ? nearestName(task, names) : undefined;
  const hint = near === undefined ? "" : `did you mean "${near}"? `;
  throw new InputError(
    `pipeline: unknown task ${JSON.stringify(task)}; ${hint}Tasks are ${names.join(", ")}`,
    { option: "task" },
  );
}

/** Numbers as HF takes them ("first" for the first accelerator); names are left to from_pretrained. */
function readDevice(device: PipelineOptions["device"]): PretrainedOptions["device"] | "first" {
  switch (String(device)) {
    case "0":
      return "first";
    case "-1":
      return "cpu";
    case "cuda:0":
      return "cuda";
  }
  if (typeof device === "number" || /^(cuda:)?\d+$/.test(String(device)))
    throw new InputError(`device: only the first accelerator (0) can be chosen, got ${device}`, {
      option: "device",
    });
  return device as PretrainedOptions["device"];
}
