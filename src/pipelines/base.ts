import { Callable } from "../callable.ts";
import type { PreTrainedTokenizer } from "../processing/tokenizer.ts";

/** What a pipeline needs of its model: to be given back. */
export interface PipelineModel {
  dispose(): Promise<void>;
}

/** What a pipeline is made of. */
export interface PipelineParts<Model extends PipelineModel> {
  readonly task: string;
  readonly model: Model;
  readonly tokenizer: PreTrainedTokenizer;
}

/** What every pipeline has besides its call. */
export interface PipelineFields<Model extends PipelineModel> extends PipelineParts<Model> {
  /** Releases the model. */
  dispose(): Promise<void>;
}

type AnyFunction = (...args: never[]) => unknown;

interface PipelineConstructor {
  new <Call extends AnyFunction, Model extends PipelineModel>(
    parts: PipelineParts<Model>,
  ): Call & PipelineFields<Model>;
}

/** Base of the pipelines: a model and its tokenizer behind one call, `await pipe(inputs, options)`. */
export const Pipeline: PipelineConstructor = class
  extends Callable<AnyFunction>
  implements PipelineFields<PipelineModel>
{
  readonly task: string;
  readonly model: PipelineModel;
  readonly tokenizer: PreTrainedTokenizer;

  constructor({ task, model, tokenizer }: PipelineParts<PipelineModel>) {
    super();
    this.task = task;
    this.model = model;
    this.tokenizer = tokenizer;
  }

  dispose(): Promise<void> {
    return this.model.dispose();
  }
} as unknown as PipelineConstructor;
