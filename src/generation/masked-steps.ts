import { attentionMask } from "../attention-masks.ts";
import { InputError } from "../errors.ts";
import { fetchLogits, fetchStates } from "./causal-steps.ts";
import type { DecoderStep, RowAttention, RowMask, StepOptions } from "./decoder.ts";
import {
  type DecoderModel,
  float32,
  type GraphVariant,
  type RopeInputs,
  RunValues,
} from "./decoder-model.ts";
import type { KeyValueCache } from "./kv-cache.ts";
import {
  concatenate,
  dropPadding,
  feedTokens,
  hiddenNames,
  type Rectangle,
  variantOf,
  wantedPositions,
} from "./step-input.ts";

/** Rows go together while the pairs of query and key that their attention computes stay below this many. */
const MAX_PAIRS = 2 ** 22;

/** Consecutive rows that run together, and where their new tokens see what. */
interface Part extends Rectangle {
  readonly firstRow: number;
  readonly masks: readonly (RowMask | undefined)[];
}

interface PartResult {
  readonly logits: Float32Array;
  readonly states: readonly Float32Array[];
  readonly attentions: readonly (readonly RowAttention[])[];
}

/** Steps under any mask: both directions, holes, several texts in a row, attention weights as outputs. */
export class MaskedSteps {
  readonly #model: DecoderModel;
  readonly #rope: RopeInputs;

  constructor(model: DecoderModel, rope: RopeInputs) {
    this.#model = model;
    this.#rope = rope;
  }

  /** Without a cache nothing comes before the rows, and nothing is kept. */
  async step(
    rows: readonly (readonly number[])[],
    cache: KeyValueCache | undefined,
    options: StepOptions,
  ): Promise<DecoderStep> {
    const variant = variantOf(options, "masked");
    const session = await this.#model.session(variant);
    const results: PartResult[] = [];
    for (const part of this.#parts(rows, cache, options)) {
      const run = new RunValues(session);
      results.push(await this.#run(run, variant, part, cache, options));
    }
    const states = hiddenNames(variant, this.#model).map((_, i) =>
      concatenate(results.map((result) => result.states[i]!)),
    );
    return {
      logits: concatenate(results.map((result) => result.logits)),
      ...(variant.hidden_states === "all" ? { hidden_states: states } : {}),
      ...(variant.hidden_states === "last" ? { last_hidden_state: states[0]! } : {}),
      ...(variant.attentions
        ? { attentions: this.#model.layers.map((_, i) => results.flatMap((result) => result.attentions[i]!)) }
        : {}),
    };
  }

  /** Rows that nothing comes before go together, as many as fit; others one by one. Rows without tokens stay out. */
  #parts(
    rows: readonly (readonly number[])[],
    cache: KeyValueCache | undefined,
    options: StepOptions,
  ): Part[] {
    const parts: Part[] = [];
    const together = cache === undefined || cache.lengths.every((length) => length === 0);
    let first = 0;
    while (first < rows.length) {
      let end = first + 1;
      let longest = rows[first]!.length;
      while (together && end < rows.length) {
        const next = Math.max(longest, rows[end]!.length);
        if ((end + 1 - first) * next ** 2 > MAX_PAIRS) break;
        [longest, end] = [next, end + 1];
      }
      if (longest > 0) parts.push(this.#part(rows, cache, options, first, end));
      first = end;
    }
    return parts;
  }

  #part(
    rows: readonly (readonly number[])[],
    cache: KeyValueCache | undefined,
    options: StepOptions,
    firstRow: number,
    endRow: number,
  ): Part {
    const tokens = rows.slice(firstRow, endRow);
    return {
      firstRow,
      tokens,
      longest: Math.max(...tokens.map((row) => row.length)),
      inputs_embeds: options.inputs_embeds?.slice(firstRow, endRow),
      position_ids: tokens.map((row, r) => {
        const next = cache?.lengths[firstRow + r] ?? 0;
        return options.position_ids?.[firstRow + r] ?? row.map((_, i) => next + i);
      }),
      masks: tokens.map((_, r) => options.masks?.[firstRow + r]),
    };
  }

  async #run(
    run: RunValues,
    variant: GraphVariant,
    part: Part,
    cache: KeyValueCache | undefined,
    options: StepOptions,
  ): Promise<PartResult> {
    const { tokens, longest } = part;
    if (cache !== undefined) throw new InputError("masks over a cache are not supported yet");
    this.#rope.ensure(Math.max(0, ...part.position_ids.map((row) => Math.max(0, ...row))) + 1);
    feedTokens(run, part, this.#model.hidden_size);
    this.#rope.feed(run);
    this.#feedMasks(run, part);
    for (const [i, { kv_heads, head_dim }] of this.#model.layers.entries()) {
      for (const name of ["key", "value"])
        run.feed(
          `past_key_values.${i}.${name}`,
          float32(new Float32Array(0), [tokens.length, kv_heads, 0, head_dim]),
        );
    }
    const positions = tokens.flatMap((row, r) =>
      wantedPositions(row.length, options.logits).map((position) => r * longest + position),
    );
    const logits = variant.logits ? fetchLogits(run, positions, this.#model) : new Float32Array(0);
    const states = fetchStates(run, variant, tokens.length, longest, this.#model);
    const attentions = variant.attentions ? this.#fetchAttentions(run, part) : () => [];
    await run.run(options.signal);
    return {
      logits,
      states: states.map((state) => dropPadding(state, tokens, longest, this.#model.hidden_size)),
      attentions: attentions(),
    };
  }

  #feedMasks(run: RunValues, { tokens, longest, masks }: Part): void {
    const windows = new Map(this.#model.layers.map(({ kind, window }) => [kind, window]));
    for (const [kind, window] of windows) {
      const data = new Uint8Array(tokens.length * longest * longest);
      for (const [r, row] of tokens.entries()) {
        const mask = rowMask(row.length, longest, masks[r], window, this.#model.bidirectional);
        data.set(mask, r * longest * longest);
      }
      run.feed(`${kind}.mask`, { type: "bool", data, dims: [tokens.length, 1, longest, longest] });
    }
  }

  /** Asks for the weights of every layer; the result cuts the rows' padding off once they are there. */
  #fetchAttentions(run: RunValues, { tokens, longest }: Part): () => RowAttention[][] {
    const heads = this.#model.num_attention_heads;
    const buffers = this.#model.layers.map((_, i) => {
      const weights = new Float32Array(tokens.length * heads * longest * longest);
      run.fetch(`attentions.${i}`, float32(weights, [tokens.length, heads, longest, longest]));
      return weights;
    });
    return () =>
      buffers.map((weights) =>
        tokens.flatMap((row, r) => {
          const count = row.length;
          if (count === 0) return [];
          const data = new Float32Array(heads * count * count);
          for (let head = 0; head < heads; head++) {
            for (let query = 0; query < count; query++) {
              const from = ((r * heads + head) * longest + query) * longest;
              data.set(weights.subarray(from, from + count), (head * count + query) * count);
            }
          }
          return [{ data, keys: count }];
        }),
      );
  }
}

/** What the queries of one row see: [longest, longest]. Queries that would see nothing see themselves, so that no weight is NaN. */
function rowMask(
  count: number,
  longest: number,
  restriction: RowMask | undefined,
  window: number | null,
  bidirectional: boolean,
): Uint8Array {
  const keys = Array.from({ length: longest }, (_, i) => (i < count ? (restriction?.visible?.[i] ?? 1) : 0));
  const mask = attentionMask({ keys, window, bidirectional });
  const segments = restriction?.segments;
  for (let query = 0; query < longest; query++) {
    const row = mask.subarray(query * longest, (query + 1) * longest);
    if (segments !== undefined)
      for (let key = 0; key < count; key++) if (segments[key] !== segments[query]) row[key] = 0;
    if (!row.includes(1)) row[query] = 1;
  }
  return mask;
}
