import { Tensor } from "../tensor.ts";
import type { DecoderRows, RowsStep } from "./decoder-rows.ts";
import type { GenerationConfig } from "./generation-config.ts";
import type { LogitsProcessorList } from "./logits-processors/base.ts";
import type { Prompt } from "./prompt.ts";
import type { Drafter } from "./speculation/draft.ts";
import type { StoppingCriteriaList } from "./stopping.ts";
import type { BaseStreamer } from "./streamer.ts";

/** One call of generate, prepared: what the loops share. */
export interface Run {
  readonly config: GenerationConfig;
  readonly prompt: Prompt;
  readonly vocab_size: number;
  readonly maxLength: number;
  readonly eos: readonly number[];
  readonly pad: number;
  readonly seed: number | bigint;
  readonly rows: DecoderRows;
  readonly processors: LogitsProcessorList;
  readonly criteria: StoppingCriteriaList;
  readonly streamer: BaseStreamer | undefined;
  readonly record: Recorder;
  /** Guesses at the next tokens, where they are wanted. */
  readonly drafter: Drafter | undefined;
}

/** Collects what `return_dict_in_generate` returns besides the sequences. */
export class Recorder {
  readonly scores: Tensor[] | undefined;
  readonly logits: Tensor[] | undefined;
  readonly hidden_states: Tensor[][] | undefined;
  readonly attentions: Tensor[][] | undefined;

  constructor(config: GenerationConfig) {
    const wanted = config.return_dict_in_generate === true;
    this.scores = wanted && config.output_scores === true ? [] : undefined;
    this.logits = wanted && config.output_logits === true ? [] : undefined;
    this.hidden_states = wanted && config.output_hidden_states === true ? [] : undefined;
    this.attentions = wanted && config.output_attentions === true ? [] : undefined;
  }

  /** Whether anything is kept of every step. Then finished rows go on as in HF, so that its numbers come out. */
  get active(): boolean {
    return (this.scores ?? this.logits ?? this.hidden_states ?? this.attentions) !== undefined;
  }

  /** Copies what a step gave. */
  add(step: RowsStep, vocab_size: number): void {
    this.logits?.push(stackRows(step.logits, vocab_size));
    this.hidden_states?.push(step.hidden_states ?? []);
    this.attentions?.push(step.attentions ?? []);
  }

  /** The parts of the result that were asked for. */
  parts(): { scores?: Tensor[]; logits?: Tensor[]; hidden_states?: Tensor[][]; attentions?: Tensor[][] } {
    return {
      ...(this.scores && { scores: this.scores }),
      ...(this.logits && { logits: this.logits }),
      ...(this.hidden_states && { hidden_states: this.hidden_states }),
      ...(this.attentions && { attentions: this.attentions }),
    };
  }
}

/** A copy of rows of logits as one tensor [rows, vocab_size], zero where there are none. */
export function stackRows(rows: readonly (Float32Array | undefined)[], vocab_size: number): Tensor {
  const out = new Float32Array(rows.length * vocab_size);
  rows.forEach((row, r) => {
    if (row !== undefined) out.set(row, r * vocab_size);
  });
  return new Tensor("float32", out, [rows.length, vocab_size]);
}

/** Rows of one length as an int64 tensor. */
export function sequencesTensor(rows: readonly (readonly bigint[])[]): Tensor {
  const length = rows[0]!.length;
  const data = new BigInt64Array(rows.length * length);
  rows.forEach((row, r) => {
    data.set(row, r * length);
  });
  return new Tensor("int64", data, [rows.length, length]);
}
