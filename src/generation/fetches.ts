import type { GraphVariant } from "../graph-variant.ts";
import { Tensor } from "../tensor.ts";
import type { DecoderStep } from "./decoder.ts";
import { type DecoderModel, float32, type RunValues } from "./decoder-model.ts";
import { concatenate, dropPadding, hiddenOutputs, LAST_HIDDEN_STATE, type Rectangle } from "./step-input.ts";

/** Logits that a run, and what follows it, will fill. */
export interface FetchedLogits {
  /** [positions, logits_size] */
  readonly values: Float32Array;
  /** To be called after the run: the output layer may run apart. */
  finish(signal: AbortSignal | undefined): Promise<void>;
}

/** Asks for the logits of some positions of the rectangle, none where the variant has none. */
export function fetchLogits(
  run: RunValues,
  variant: GraphVariant,
  positions: readonly number[],
  { logits_size, hidden_size, head }: DecoderModel,
  allocate: (elements: number) => Float32Array = (elements) => new Float32Array(elements),
): FetchedLogits {
  const finish = (): Promise<void> => Promise.resolve();
  if (variant.logits === false) return { values: new Float32Array(0), finish };
  // An empty selection is not worth the risk of an engine's corner case: one row too many is thrown away.
  const wanted = Math.max(1, positions.length);
  const data = new BigInt64Array(wanted);
  data.set(positions.map(BigInt));
  run.feed("logits_positions", { type: "int64", data, dims: [wanted] });
  const logits = allocate(wanted * logits_size);
  const values = logits.subarray(0, positions.length * logits_size);
  if (variant.logits === true) {
    run.fetch("logits", float32(logits, [wanted, logits_size]));
    return { values, finish };
  }
  const hidden = new Float32Array(wanted * hidden_size);
  run.fetch("head_inputs", float32(hidden, [wanted, hidden_size]));
  return {
    values,
    finish: async (signal) => {
      if (positions.length > 0) await head!.run(hidden, logits, signal);
    },
  };
}

/** Asks for the hidden states of a variant; the result takes the rows' padding off once they are there. */
export function fetchStates(
  run: RunValues,
  variant: GraphVariant,
  { tokens, longest }: Rectangle,
  model: DecoderModel,
): () => Float32Array[] {
  const states = hiddenOutputs(variant, model).map(({ name, width }) => {
    const state = new Float32Array(tokens.length * longest * width);
    run.fetch(name, float32(state, [tokens.length, longest, width]));
    return { state, width };
  });
  return () => states.map(({ state, width }) => dropPadding(state, tokens, longest, width));
}

/** What a run gives: [wanted, logits_size], and the hidden states [all tokens, width] each. */
export interface PartResult {
  readonly logits: Float32Array;
  readonly states: readonly Float32Array[];
}

/** The results of a step's runs, one after another. */
export function joinParts(
  variant: GraphVariant,
  model: DecoderModel,
  results: readonly PartResult[],
): DecoderStep {
  const states = results[0]!.states.map((_, i) => concatenate(results.map((result) => result.states[i]!)));
  const last = hiddenOutputs(variant, model).findIndex(({ name }) => name === LAST_HIDDEN_STATE);
  return {
    logits: concatenate(results.map((result) => result.logits)),
    ...(variant.hidden_states === "all" ? { hidden_states: states.filter((_, i) => i !== last) } : {}),
    ...(last === -1 ? {} : { last_hidden_state: states[last]! }),
  };
}

/** Hidden states [rows, positions, streams*hidden_size] as HF has them: [streams, rows, positions, hidden_size]. */
export function splitStreams(states: Tensor, streams: number): Tensor {
  if (streams === 1) return states;
  const [rows, positions, width] = states.dims as [number, number, number];
  const size = width / streams;
  const [from, to] = [states.data as Float32Array, new Float32Array(states.size)];
  for (let token = 0; token < rows * positions; token++) {
    for (let stream = 0; stream < streams; stream++) {
      const start = token * width + stream * size;
      to.set(from.subarray(start, start + size), (stream * rows * positions + token) * size);
    }
  }
  return new Tensor("float32", to, [streams, rows, positions, size]);
}
