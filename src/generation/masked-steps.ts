import { attentionMask } from "../attention-masks.ts";
import type { GraphVariant } from "../graph-variant.ts";
import type { DecoderStep, RowAttention, RowMask, StepOptions } from "./decoder.ts";
import { type DecoderModel, float32, type RopeInputs, RunValues } from "./decoder-model.ts";
import { fetchLogits, fetchStates, joinParts, type PartResult } from "./fetches.ts";
import { type CacheLayer, CHUNK, type KeyValueCache } from "./kv-cache.ts";
import { feedTokens, type Part, type StepRequest, slicePart, variantOf } from "./step-input.ts";

/** Rows go together while the pairs of query and key that their attention computes stay below this many. */
const MAX_PAIRS = 2 ** 22;

interface MaskedResult extends PartResult {
  readonly attentions: readonly (readonly RowAttention[])[];
}

/** Steps under any mask: both directions, hidden tokens, several texts in a row, attention weights as outputs. */
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
    const variant = variantOf(options, "masked", "float32");
    const session = await this.#model.session(variant);
    const request = { rows, cache, options, hidden_size: this.#model.hidden_size };
    const results: MaskedResult[] = [];
    for (const part of partsOf(request)) {
      const run = new MaskedRun(new RunValues(session), this.#model, part, request);
      this.#rope.cover(part.position_ids);
      this.#rope.feed(run.values);
      results.push(await run.run(variant));
    }
    return {
      ...joinParts(variant, this.#model, results),
      ...(variant.attentions
        ? { attentions: this.#model.keysOf.map((_, i) => results.flatMap((result) => result.attentions[i]!)) }
        : {}),
    };
  }
}

/**
 * Rows that nothing comes before go together, as many as fit; others one by one, and into a cache a chunk at a time
 * unless a result needs them whole. Rows without tokens stay out.
 */
function partsOf(request: StepRequest): Part[] {
  const { rows, cache, options } = request;
  const parts: Part[] = [];
  const together = cache === undefined || cache.lengths.every((length) => length === 0);
  const whole =
    cache === undefined ||
    options.output_attentions === true ||
    options.masks?.some((mask) => mask.segments ?? mask.blocks);
  let first = 0;
  while (first < rows.length) {
    let end = first + 1;
    let longest = rows[first]!.length;
    while (together && end < rows.length) {
      const next = Math.max(longest, rows[end]!.length);
      if ((end + 1 - first) * next ** 2 > MAX_PAIRS) break;
      [longest, end] = [next, end + 1];
    }
    const chunk = whole || end > first + 1 ? longest : CHUNK;
    for (let start = 0; start < longest; start += chunk)
      parts.push(slicePart(request, first, end, start, start + chunk));
    first = end;
  }
  return parts;
}

/** One run of a part: its rows have the same number of positions before them, in each kind of layer. */
class MaskedRun {
  readonly values: RunValues;
  readonly #model: DecoderModel;
  readonly #part: Part;
  readonly #cache: KeyValueCache | undefined;
  readonly #options: StepOptions;

  constructor(values: RunValues, model: DecoderModel, part: Part, { cache, options }: StepRequest) {
    this.values = values;
    this.#model = model;
    this.#part = part;
    this.#cache = cache;
    this.#options = options;
  }

  async run(variant: GraphVariant): Promise<MaskedResult> {
    const { logitsPositions } = this.#part;
    const { hidden_size } = this.#model;
    feedTokens(this.values, this.#part, hidden_size);
    this.#feedMasks();
    this.#feedPast();
    const logits = fetchLogits(this.values, variant, logitsPositions, this.#model);
    const states = fetchStates(this.values, variant, this.#part, this.#model);
    const attentions = variant.attentions ? this.#fetchAttentions() : () => [];
    const store = this.#cache === undefined ? () => {} : this.#fetchNew(this.#cache);
    await this.values.run(this.#options.signal);
    store();
    return { logits: logits.values, states: states(), attentions: attentions() };
  }

  /** Positions before the part that layers of a kind can see. */
  #past({ kind, window }: CacheLayer): number {
    const held = this.#cache?.held(kind)[this.#part.firstRow] ?? 0;
    return window === null ? held : Math.min(held, window - 1);
  }

  #feedMasks(): void {
    const { tokens, longest } = this.#part;
    const kinds = new Map(this.#model.layers.map((layer) => [layer.kind, layer]));
    for (const [kind, layer] of kinds) {
      const keys = this.#past(layer) + longest;
      const data = new Uint8Array(tokens.length * longest * keys);
      for (let r = 0; r < tokens.length; r++)
        data.set(this.#rowMask(r, this.#past(layer), layer.window), r * longest * keys);
      this.values.feed(`${kind}.mask`, { type: "bool", data, dims: [tokens.length, 1, longest, keys] });
    }
  }

  /** What the queries of one row see: [longest, past + longest]. */
  #rowMask(r: number, past: number, window: number | null): Uint8Array {
    const { tokens, longest, firstRow, start } = this.#part;
    const count = tokens[r]!.length;
    const restriction: RowMask | undefined = this.#options.masks?.[firstRow + r];
    const before = this.#cache?.rows[firstRow + r];
    const keys = Array.from({ length: past + longest }, (_, key) => {
      if (key < past) return before!.hidden.has(before!.length - past + key) ? 0 : 1;
      return key - past < count ? (restriction?.visible?.[start + key - past] ?? 1) : 0;
    });
    const { segments, blocks } = restriction ?? {};
    const { bidirectional } = this.#model;
    const mask = attentionMask({ keys, past, window, bidirectional, ...(blocks && { blocks }) });
    for (let query = 0; query < longest; query++) {
      const row = mask.subarray(query * keys.length, (query + 1) * keys.length);
      for (let key = 0; segments !== undefined && key < count; key++)
        if (segments[key] !== segments[query]) row[past + key] = 0;
      // A query that sees nothing would get NaN from the softmax; what it gets does not matter.
      if (!row.includes(1)) row[past + query] = 1;
    }
    return mask;
  }

  #feedPast(): void {
    const rows = this.#part.tokens.length;
    for (const [i, layer] of this.#model.layers.entries()) {
      const { kv_heads, head_dim } = layer;
      const past = this.#past(layer);
      const [keys, values] = [0, 1].map(() => new Float32Array(rows * kv_heads * past * head_dim)) as [
        Float32Array,
        Float32Array,
      ];
      if (past > 0) this.#cache!.read(i, this.#part.firstRow, keys, values, past);
      const dims = [rows, kv_heads, past, head_dim];
      this.values.feed(`past_key_values.${i}.key`, float32(keys, dims));
      this.values.feed(`past_key_values.${i}.value`, float32(values, dims));
    }
  }

  /** Asks for the new keys and values; the result appends them to the cache once they are there. */
  #fetchNew(cache: KeyValueCache): () => void {
    const { tokens, longest, firstRow } = this.#part;
    const news = this.#model.layers.map(({ kv_heads, head_dim }, i) =>
      (["key", "value"] as const).map((name) => {
        const data = new Float32Array(tokens.length * longest * kv_heads * head_dim);
        this.values.fetch(`new.${i}.${name}`, float32(data, [tokens.length, longest, kv_heads * head_dim]));
        return data;
      }),
    );
    return () => {
      for (const [r, row] of tokens.entries()) {
        this.#append(cache, firstRow + r, r, row.length, news);
      }
    };
  }

  /** Appends what row `r` of the part computed to row `row` of the cache. */
  #append(
    cache: KeyValueCache,
    row: number,
    r: number,
    count: number,
    news: readonly Float32Array[][],
  ): void {
    const { longest, position_ids, start } = this.#part;
    const length = cache.lengths[row]!;
    const only = <T>(value: T, other: T): T[] => cache.lengths.map((_, i) => (i === row ? value : other));
    for (let done = 0; done < count; done += CHUNK) {
      const part = Math.min(CHUNK, count - done);
      cache.reserve(only(part, 0));
      for (const [i, layer] of this.#model.layers.entries()) {
        const [keys, values] = news[i]!.map((data) => headsFirst(data, r * longest + done, part, layer));
        cache.append(i, row, keys!, values!, part);
      }
      cache.commit(only(part, 0), only(position_ids[r]!.slice(done, done + part), []));
    }
    const visible = this.#options.masks?.[row]?.visible?.slice(start, start + count) ?? [];
    cache.hide(
      row,
      visible.flatMap((value, i) => (value === 0 ? [length + i] : [])),
    );
  }

  /** Asks for the weights of every layer; the result cuts the rows' padding off once they are there. */
  #fetchAttentions(): () => RowAttention[][] {
    const { tokens, longest } = this.#part;
    const heads = this.#model.num_attention_heads;
    const layers = this.#model.keysOf.map((source, i) => {
      const past = this.#past(this.#model.layers[source]!);
      const width = past + longest;
      const weights = new Float32Array(tokens.length * heads * longest * width);
      this.values.fetch(`attentions.${i}`, float32(weights, [tokens.length, heads, longest, width]));
      return { past, width, weights };
    });
    return () =>
      layers.map(({ past, width, weights }) =>
        tokens.flatMap((row, r) => {
          if (row.length === 0) return [];
          const keys = past + row.length;
          const data = new Float32Array(heads * row.length * keys);
          for (let line = 0; line < heads * row.length; line++) {
            const [head, query] = [Math.floor(line / row.length), line % row.length];
            const from = ((r * heads + head) * longest + query) * width;
            data.set(weights.subarray(from, from + keys), line * keys);
          }
          return [{ data, keys }];
        }),
      );
  }
}

/** Of [tokens, kv_heads*head_dim] the `count` from `first` on, as [kv_heads, count, head_dim]. */
function headsFirst(
  data: Float32Array,
  first: number,
  count: number,
  { kv_heads, head_dim }: { readonly kv_heads: number; readonly head_dim: number },
): Float32Array {
  const result = new Float32Array(kv_heads * count * head_dim);
  for (let token = 0; token < count; token++) {
    for (let head = 0; head < kv_heads; head++) {
      const from = ((first + token) * kv_heads + head) * head_dim;
      result.set(data.subarray(from, from + head_dim), (head * count + token) * head_dim);
    }
  }
  return result;
}
