import type { GraphVariant } from "../graph-variant.ts";
import type { DecoderStep } from "./decoder.ts";
import { type DecoderModel, float32, type RunValues } from "./decoder-model.ts";
import { concatenate, hiddenNames } from "./step-input.ts";

/** Asks for the logits of some positions of the rectangle: [positions, logits_size]. */
export function fetchLogits(
  run: RunValues,
  positions: readonly number[],
  { logits_size }: DecoderModel,
  allocate: (elements: number) => Float32Array = (elements) => new Float32Array(elements),
): Float32Array {
  // An empty selection is not worth the risk of an engine's corner case: one row too many is thrown away.
  const wanted = Math.max(1, positions.length);
  const data = new BigInt64Array(wanted);
  data.set(positions.map(BigInt));
  run.feed("logits_positions", { type: "int64", data, dims: [wanted] });
  const logits = allocate(wanted * logits_size);
  run.fetch("logits", float32(logits, [wanted, logits_size]));
  return logits.subarray(0, positions.length * logits_size);
}

/** Asks for the hidden states of a variant, [rows, longest, hidden_size] each. */
export function fetchStates(
  run: RunValues,
  variant: GraphVariant,
  rows: number,
  longest: number,
  model: DecoderModel,
): Float32Array[] {
  return hiddenNames(variant, model).map((name) => {
    const state = new Float32Array(rows * longest * model.hidden_size);
    run.fetch(name, float32(state, [rows, longest, model.hidden_size]));
    return state;
  });
}

/** What a run gives: [wanted, logits_size], and [all tokens, hidden_size] each. */
export interface PartResult {
  readonly logits: Float32Array;
  readonly states: readonly Float32Array[];
}

/** The results of a step's runs, one after another. */
export function joinParts(variant: GraphVariant, results: readonly PartResult[]): DecoderStep {
  const states = results[0]!.states.map((_, i) => concatenate(results.map((result) => result.states[i]!)));
  return {
    logits: concatenate(results.map((result) => result.logits)),
    ...(variant.hidden_states === "all" ? { hidden_states: states } : {}),
    ...(variant.hidden_states === "last" ? { last_hidden_state: states[0]! } : {}),
  };
}
