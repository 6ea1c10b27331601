import { InputError } from "../errors.ts";
import type { GraphVariant } from "../graph-variant.ts";
import type { LogitsWanted, StepOptions } from "./decoder.ts";
import { type DecoderModel, float32, type RunValues } from "./decoder-model.ts";
import type { KeyValueCache } from "./kv-cache.ts";

/** Consecutive rows of a batch with the new tokens of one run, right-padded to a rectangle. */
export interface Rectangle {
  /** Token ids; where there are vectors instead, as many numbers as there are vectors. */
  readonly tokens: readonly (readonly number[])[];
  readonly longest: number;
  readonly inputs_embeds: readonly Float32Array[] | undefined;
  /** Whether the ids count beside vectors. */
  readonly ids_too: boolean;
  /** Rotary positions, one per token. */
  readonly position_ids: readonly (readonly number[])[];
}

/** Columns of the new tokens of consecutive rows: what one run of the graph computes. */
export interface Part extends Rectangle {
  readonly firstRow: number;
  /** The first of the columns. */
  readonly start: number;
  /** Indices into the rectangle of the positions whose logits are wanted. */
  readonly logitsPositions: readonly number[];
}

/** A step as its caller asks for it. */
export interface StepRequest {
  readonly rows: readonly (readonly number[])[];
  /** What the rows come after. */
  readonly cache: KeyValueCache | undefined;
  readonly options: StepOptions;
  readonly hidden_size: number;
}

/** Columns start..end-1 of the new tokens of rows firstRow..endRow-1, as far as the rows have them. */
export function slicePart(
  { rows, cache, options, hidden_size }: StepRequest,
  firstRow: number,
  endRow: number,
  start: number,
  end: number,
): Part {
  const taken = rows.slice(firstRow, endRow);
  const tokens = taken.map((row) => row.slice(start, end));
  const longest = Math.max(...tokens.map((row) => row.length));
  return {
    firstRow,
    start,
    tokens,
    longest,
    logitsPositions: taken.flatMap((row, r) =>
      wantedPositions(row.length, options.logits)
        .filter((position) => position >= start && position < end)
        .map((position) => r * longest + position - start),
    ),
    inputs_embeds: options.inputs_embeds
      ?.slice(firstRow, endRow)
      .map((vectors) => vectors.subarray(start * hidden_size, end * hidden_size)),
    ids_too: options.ids_too === true,
    position_ids: tokens.map((row, r) => {
      const next = (cache?.nextPositions[firstRow + r] ?? 0) + start;
      return options.position_ids?.[firstRow + r]?.slice(start, end) ?? row.map((_, i) => next + i);
    }),
  };
}

/** Feeds tokens or vectors, and their positions. */
export function feedTokens(run: RunValues, rectangle: Rectangle, hidden_size: number): void {
  const { tokens, longest, inputs_embeds, ids_too, position_ids } = rectangle;
  const dims = [tokens.length, longest];
  if (inputs_embeds === undefined || ids_too)
    run.feed("input_ids", { type: "int64", data: padRows(tokens, longest), dims });
  if (inputs_embeds !== undefined) {
    const vectors = new Float32Array(tokens.length * longest * hidden_size);
    for (const [r, row] of inputs_embeds.entries()) vectors.set(row, r * longest * hidden_size);
    run.feed("inputs_embeds", float32(vectors, [...dims, hidden_size]));
  }
  run.feed("position_ids", { type: "int64", data: padRows(position_ids, longest), dims });
}

function padRows(rows: readonly (readonly number[])[], longest: number): BigInt64Array {
  const padded = new BigInt64Array(rows.length * longest);
  for (const [r, row] of rows.entries()) padded.set(row.map(BigInt), r * longest);
  return padded;
}

/** Positions, of `length` new ones, whose logits are wanted: the last so many. */
function wantedPositions(length: number, logits: LogitsWanted = "last"): number[] {
  const count = wantedCount(length, logits);
  return Array.from({ length: count }, (_, i) => length - count + i);
}

/** How many of `length` new positions get logits: the last so many. */
export function wantedCount(length: number, logits: LogitsWanted): number {
  if (logits === "all") return length;
  if (logits === "none") return 0;
  return Math.min(length, logits === "last" ? 1 : logits);
}

/** The graph that gives what a step asks for. */
export function variantOf(
  options: StepOptions,
  attention: GraphVariant["attention"],
  cache: GraphVariant["cache"],
): GraphVariant {
  const last = options.last_hidden_state === true ? "last" : "none";
  return {
    attention,
    steps: 0,
    cache,
    input:
      options.inputs_embeds === undefined ? "input_ids" : options.ids_too === true ? "both" : "inputs_embeds",
    logits: options.logits !== "none",
    hidden_states: options.output_hidden_states === true ? "all" : last,
    attentions: options.output_attentions === true,
  };
}

/** The hidden states that a variant gives, and how many numbers of each a token has. */
export function hiddenOutputs(
  variant: GraphVariant,
  { keysOf, streams, hidden_size }: DecoderModel,
): { readonly name: string; readonly width: number }[] {
  const last = { name: LAST_HIDDEN_STATE, width: hidden_size };
  if (variant.hidden_states === "none") return [];
  if (variant.hidden_states === "last") return [last];
  const all = Array.from({ length: keysOf.length + 1 }, (_, i) => ({
    name: `hidden_states.${i}`,
    width: streams * hidden_size,
  }));
  return streams === 1 ? all : [...all, last];
}

export const LAST_HIDDEN_STATE = "last_hidden_state";

/** Throws for ids outside the vocabulary. */
export function checkTokens(rows: readonly (readonly number[])[], vocab_size: number): void {
  for (const [r, row] of rows.entries()) {
    for (const [i, id] of row.entries()) {
      if (!Number.isInteger(id) || id < 0 || id >= vocab_size) {
        throw new InputError(
          `token ${id} at row ${r}, position ${i} is outside the vocabulary of ${vocab_size}`,
          { option: "input_ids" },
        );
      }
    }
  }
}

/** [rows, longest, width] → [all tokens, width]. */
export function dropPadding(
  state: Float32Array,
  rows: readonly (readonly number[])[],
  longest: number,
  width: number,
): Float32Array {
  if (rows.every((row) => row.length === longest)) return state;
  return concatenate(
    rows.map((row, r) => state.subarray(r * longest * width, (r * longest + row.length) * width)),
  );
}

export function concatenate(parts: readonly Float32Array[]): Float32Array {
  if (parts.length === 1) return parts[0]!;
  const result = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let offset = 0;
  for (const part of parts) {
    result.set(part, offset);
    offset += part.length;
  }
  return result;
}
