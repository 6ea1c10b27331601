import type { Tensor } from "../tensor.ts";
import type { DecoderCache } from "./decoder.ts";

/**
 * What generate returns with `return_dict_in_generate`. `rows` below is batch * num_return_sequences, or
 * batch * num_beams in beam search. `output[0]` is the first row of `sequences`.
 */
export interface GenerateDecoderOnlyOutput {
  /** int64 [batch * num_return_sequences, length]: prompts with their padding, then the new tokens. */
  readonly sequences: Tensor;
  /** float32 [rows, vocab_size] for each step: what tokens were chosen from, after all processors. */
  readonly scores?: Tensor[];
  /** float32 [rows, vocab_size] for each step: what the model gave. */
  readonly logits?: Tensor[];
  /**
   * For each step, one float32 [rows, new positions, hidden_size] per layer: the embeddings first, the normed output
   * last. The first step has the prompt's positions, zero where there is padding.
   */
  readonly hidden_states?: Tensor[][];
  /** For each step, one float32 [rows, heads, new positions, keys] per layer, aligned at the right. */
  readonly attentions?: Tensor[][];
  /** The cache, all tokens but the last ones in it. It belongs to the caller, who disposes of it. */
  readonly past_key_values?: DecoderCache;
  readonly [row: number]: Tensor;
}

/** Beam search adds how good the sequences are and where they come from. */
export interface GenerateBeamDecoderOnlyOutput extends GenerateDecoderOnlyOutput {
  /** float32 [batch * num_return_sequences]: sum of the scores, divided by length ** length_penalty. */
  readonly sequences_scores: Tensor;
  /** int32 [batch * num_return_sequences, new tokens]: the row of each step that a token came from, -1 after the end. */
  readonly beam_indices: Tensor;
}

/** Any result with `return_dict_in_generate`. */
export type GenerateOutput = GenerateDecoderOnlyOutput & Partial<GenerateBeamDecoderOnlyOutput>;

/** Adds `output[row]`, the rows of `sequences`, without making them appear among the keys. */
export function withRows<T extends { readonly sequences: Tensor }>(output: T): T & { [row: number]: Tensor } {
  for (let row = 0; row < output.sequences.dims[0]!; row++) {
    Object.defineProperty(output, row, { get: () => output.sequences.at(row), enumerable: false });
  }
  return output;
}
