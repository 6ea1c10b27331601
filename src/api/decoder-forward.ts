import { InputError } from "../errors.ts";
import type { DecoderStep } from "../generation/decoder.ts";
import { KeyValueCache } from "../generation/kv-cache.ts";
import type { IdsInput } from "../generation/prompt.ts";
import type { TransformerDecoder } from "../generation/transformer-decoder.ts";
import { Tensor } from "../tensor.ts";
import { idRows, type RowSpan, rowSpans } from "./inputs.ts";

/** Inputs of a decoder's forward call, by HF's names. */
export interface DecoderForwardInputs {
  /** int64 [batch, length] */
  readonly input_ids: IdsInput;
  /** [batch, length], or with cached positions [batch, past + length]; 0 at padding on either side. */
  readonly attention_mask?: IdsInput;
  /** Accepted where they count up within each row: only distances between positions matter. */
  readonly position_ids?: IdsInput;
  /** Ids to predict, -100 where none; position i is predicted from i - 1. */
  readonly labels?: IdsInput;
  /** The cache of an earlier call; the new positions are appended to it. */
  readonly past_key_values?: KeyValueCache | null;
  readonly use_cache?: boolean;
  readonly output_hidden_states?: boolean;
  /** Logits of the last so many positions; 0 (default): all. */
  readonly logits_to_keep?: number;
  readonly signal?: AbortSignal;
}

/** What the rows of a padded batch give, back in the shape of the batch; zeros at padding. */
export interface DecoderForwardResult {
  /** float32 [batch, kept, vocab_size] */
  readonly logits: Tensor;
  /** float32 [batch, length, hidden_size] each: the embeddings first, the normed output last. */
  readonly hidden_states: readonly Tensor[] | undefined;
  readonly past_key_values: KeyValueCache;
}

/** One forward call over a padded batch: padding is taken off the rows and put back around the results. */
export async function forwardDecoder(
  decoder: TransformerDecoder,
  inputs: DecoderForwardInputs,
): Promise<DecoderForwardResult> {
  const ids = idRows(inputs.input_ids, "input_ids");
  const [batch, length] = [ids.length, ids[0]!.length];
  if (length === 0) throw new InputError("input_ids: there is no token", { option: "input_ids" });
  const spans = rowSpans(
    inputs.attention_mask && idRows(inputs.attention_mask, "attention_mask"),
    batch,
    length,
  );
  if (inputs.position_ids !== undefined) checkPositions(idRows(inputs.position_ids, "position_ids"), spans);
  const keep = checkKeep(inputs.logits_to_keep ?? 0, length);
  const cache = inputs.past_key_values ?? decoder.createCache(batch, length);
  if (!(cache instanceof KeyValueCache))
    throw new InputError("past_key_values: expected the cache that an earlier call returned", {
      option: "past_key_values",
    });
  const rightPadded = spans.some(({ end }) => end < length);
  const step = await decoder.step(
    ids.map((row, r) => row.slice(spans[r]!.start, spans[r]!.end)),
    cache,
    {
      logits: rightPadded || keep === length ? "all" : keep,
      output_hidden_states: inputs.output_hidden_states === true,
      ...(inputs.signal === undefined ? {} : { signal: inputs.signal }),
    },
  );
  return {
    logits: scatterLogits(step, spans, length, keep, rightPadded, decoder.vocab_size),
    hidden_states: step.hidden_states?.map((state) => scatterStates(state, spans, length)),
    past_key_values: cache,
  };
}

/** Mean cross entropy of predicting label i from the logits at i - 1; labels of -100 do not count. */
export function causalLoss(logits: Tensor, labels: readonly (readonly number[])[]): Tensor {
  const [batch, length, vocab] = logits.dims as [number, number, number];
  if (labels.length !== batch || labels[0]!.length !== length) {
    throw new InputError(
      `labels: [${labels.length}, ${labels[0]!.length}] does not match logits of [${batch}, ${length}]`,
      { option: "labels" },
    );
  }
  const data = logits.data as Float32Array;
  let total = 0;
  let count = 0;
  for (const [r, row] of labels.entries()) {
    for (let i = 1; i < length; i++) {
      const label = row[i]!;
      if (label === -100) continue;
      if (label < 0 || label >= vocab)
        throw new InputError(`labels: ${label} is outside the vocabulary of ${vocab}`, { option: "labels" });
      const scores = data.subarray((r * length + i - 1) * vocab, (r * length + i) * vocab);
      total += logSumExp(scores) - scores[label]!;
      count++;
    }
  }
  return new Tensor("float32", Float32Array.of(total / count), []);
}

function logSumExp(scores: Float32Array): number {
  let max = Number.NEGATIVE_INFINITY;
  for (const score of scores) if (score > max) max = score;
  let sum = 0;
  for (const score of scores) sum += Math.exp(score - max);
  return max + Math.log(sum);
}

/** The decoder numbers a row's tokens itself. Other numbers with the same distances mean the same attention. */
function checkPositions(positions: readonly (readonly number[])[], spans: readonly RowSpan[]): void {
  for (const [r, { start, end }] of spans.entries()) {
    const row = positions[positions.length === 1 ? 0 : r];
    if (row === undefined || row.length < end)
      throw new InputError("position_ids: not as many as input_ids", { option: "position_ids" });
    for (let i = start + 1; i < end; i++) {
      if (row[i]! - row[i - 1]! !== 1) {
        throw new InputError(
          `position_ids: row ${r} jumps from ${row[i - 1]} to ${row[i]}; only positions that count up are supported`,
          { option: "position_ids" },
        );
      }
    }
  }
}

function checkKeep(keep: number, length: number): number {
  if (!Number.isInteger(keep) || keep < 0)
    throw new InputError(`logits_to_keep: expected a count, got ${keep}`, { option: "logits_to_keep" });
  return keep === 0 ? length : Math.min(keep, length);
}

function scatterLogits(
  { logits }: DecoderStep,
  spans: readonly RowSpan[],
  length: number,
  keep: number,
  all: boolean,
  vocab: number,
): Tensor {
  const result = new Float32Array(spans.length * keep * vocab);
  let taken = 0;
  for (const [r, { start, end }] of spans.entries()) {
    const first = all ? start : Math.max(start, end - keep);
    for (let column = first; column < end; column++, taken++) {
      const row = column - (length - keep);
      if (row >= 0) result.set(logits.subarray(taken * vocab, (taken + 1) * vocab), (r * keep + row) * vocab);
    }
  }
  return new Tensor("float32", result, [spans.length, keep, vocab]);
}

function scatterStates(state: Float32Array, spans: readonly RowSpan[], length: number): Tensor {
  const tokens = spans.reduce((sum, { start, end }) => sum + end - start, 0);
  const width = state.length / tokens;
  const result = new Float32Array(spans.length * length * width);
  let taken = 0;
  for (const [r, { start, end }] of spans.entries()) {
    result.set(state.subarray(taken * width, (taken + end - start) * width), (r * length + start) * width);
    taken += end - start;
  }
  return new Tensor("float32", result, [spans.length, length, width]);
}
