import { InputError } from "../errors.ts";
import type { Cache, PastKeyValues } from "../generation/cache.ts";
import type { DecoderStep, RowAttention, RowMask, StepOptions } from "../generation/decoder.ts";
import { splitStreams } from "../generation/fetches.ts";
import { checkTextAlone, type IdsInput } from "../generation/prompt.ts";
import type { TransformerDecoder } from "../generation/transformer-decoder.ts";
import { Tensor } from "../tensor.ts";
import { idRows, type RowSpan, rowSpans } from "./inputs.ts";
import type { FoundMedia, MediaReader } from "./media.ts";

/** Inputs of a text model's forward call, by HF's names. */
export interface DecoderForwardInputs {
  /** int64 [batch, length] */
  readonly input_ids?: IdsInput | null;
  /**
   * float32 [batch, length, hidden_size]: vectors in place of `input_ids`, as the embedding gives them. Gemma 3n takes
   * both: the ids then choose its per-layer embeddings.
   */
  readonly inputs_embeds?: Tensor | null;
  /** [batch, length], or with cached positions [batch, past + length]; 0 at padding on either side, and at tokens that no other may see. */
  readonly attention_mask?: IdsInput | null;
  /** What a processor gives beside the ids: 0 at text, 1 at the tokens of an image. */
  readonly token_type_ids?: IdsInput | null;
  /** float32 [images, channels, height, width], as a processor gives them; for models that take images. */
  readonly pixel_values?: Tensor | null;
  /** float32 [clips, frames, bands], as a feature extractor gives them; for models that take sounds. */
  readonly input_features?: Tensor | null;
  /** [clips, frames], 0 at padding. */
  readonly input_features_mask?: Tensor | null;
  /** [batch, length] or [1, length]. By default a row's tokens count from 0, or on from what the cache holds. */
  readonly position_ids?: IdsInput | null;
  /** What to predict: ids per position (-100: none), or a classifier's labels. Gives `loss`. */
  readonly labels?: Tensor | readonly unknown[] | null;
  /** The cache of an earlier call, a new one, or HF's tuple form; the new positions are appended to it. */
  readonly past_key_values?: PastKeyValues | null;
  readonly use_cache?: boolean;
  readonly output_hidden_states?: boolean;
  readonly output_attentions?: boolean;
  /** Logits of the last so many positions; 0 (default): all. */
  readonly logits_to_keep?: number;
  readonly signal?: AbortSignal;
}

/** Inputs without those that are null. */
export type GivenInputs = {
  [Name in keyof DecoderForwardInputs]: Exclude<DecoderForwardInputs[Name], null>;
};

/** What the rows of a padded batch give, back in the shape of the batch; zeros at padding. */
export interface DecoderForwardResult {
  /** float32 [batch, kept, logits_size]; without logits [batch, 0, logits_size]. */
  readonly logits: Tensor;
  /** float32 [batch, length, hidden_size] each: the embeddings first, the normed output last; see ModelOutput. */
  readonly hidden_states: readonly Tensor[] | undefined;
  /** float32 [batch, length, hidden_size] */
  readonly last_hidden_state: Tensor | undefined;
  /** float32 [batch, heads, length, keys] each. */
  readonly attentions: readonly Tensor[] | undefined;
  /** Undefined with `use_cache: false`, and where tokens see later ones. */
  readonly past_key_values: Cache | undefined;
  /** What encoders made of images and sounds, under the names of HF's outputs. */
  readonly media: FoundMedia["outputs"];
}

/** What a class asks of a forward call besides what its caller asks. */
export interface ForwardWants {
  /** Numbers per position of `logits`; 0: none are wanted. */
  readonly logits: number;
  readonly last_hidden_state: boolean;
  readonly hidden_size: number;
}

/** A batch without its padding. */
interface Batch {
  readonly rows: readonly (readonly number[])[];
  readonly inputs_embeds: readonly Float32Array[] | undefined;
  readonly length: number;
  readonly spans: readonly RowSpan[];
}

/** One forward call over a padded batch: padding is taken off the rows and put back around the results. */
export async function forwardDecoder(
  decoder: TransformerDecoder,
  inputs: GivenInputs,
  wants: ForwardWants,
  reader?: MediaReader,
): Promise<DecoderForwardResult> {
  if (reader === undefined) checkTextAlone(inputs.token_type_ids);
  const batch = readBatch(inputs, wants.hidden_size, decoder.usesIds);
  const { rows, spans, length } = batch;
  const keep = checkKeep(inputs.logits_to_keep ?? 0, length);
  const rightPadded = spans.some(({ end }) => end < length);
  const all = rightPadded || keep === length;
  const position_ids = inputs.position_ids && readPositions(inputs.position_ids, batch);
  const masks = rowMasks(inputs, position_ids, spans);
  const media = await reader?.read(inputs, { tokens: rows, spans, length, held: rows.map(() => 0) });
  const options: StepOptions = {
    logits: wants.logits === 0 ? "none" : all ? "all" : keep,
    output_hidden_states: inputs.output_hidden_states === true,
    output_attentions: inputs.output_attentions === true,
    last_hidden_state: wants.last_hidden_state,
    ...(batch.inputs_embeds && {
      inputs_embeds: batch.inputs_embeds,
      ids_too: inputs.input_ids !== undefined,
    }),
    ...(position_ids && { position_ids }),
    ...(masks && { masks }),
    ...(media?.rows && { media: media.rows }),
    ...(inputs.signal && { signal: inputs.signal }),
  };
  const cache = cacheFor(decoder, inputs, batch);
  const pasts = cache?.lengths.slice() ?? rows.map(() => 0);
  const release = cache?.hold();
  const step = await (cache === undefined
    ? decoder.encode(rows, options)
    : decoder.step(rows, cache, options)
  ).finally(release);
  return {
    logits: scatterLogits(step, spans, length, wants.logits === 0 ? 0 : keep, all, wants.logits),
    hidden_states: step.hidden_states?.map((state) =>
      splitStreams(scatterStates(state, batch, decoder.streams * wants.hidden_size), decoder.streams),
    ),
    last_hidden_state:
      step.last_hidden_state && scatterStates(step.last_hidden_state, batch, wants.hidden_size),
    attentions: step.attentions?.map((layer) => scatterAttentions(layer, spans, length, pasts)),
    past_key_values: cache,
    media: media?.outputs ?? {},
  };
}

function readBatch(inputs: GivenInputs, hidden_size: number, usesIds: boolean): Batch {
  const { input_ids, inputs_embeds, attention_mask } = inputs;
  const both = input_ids !== undefined && inputs_embeds !== undefined;
  if ((both && !usesIds) || (input_ids === undefined && inputs_embeds === undefined))
    throw new InputError("a model takes either input_ids or inputs_embeds", { option: "input_ids" });
  if (inputs_embeds !== undefined) checkEmbeds(inputs_embeds, hidden_size);
  const ids = input_ids && idRows(input_ids, "input_ids");
  const [batch, length] = ids ? [ids.length, ids[0]!.length] : (inputs_embeds!.dims as [number, number]);
  if (both && (inputs_embeds.dims[0] !== batch || inputs_embeds.dims[1] !== length)) {
    throw new InputError(
      `inputs_embeds: [${inputs_embeds.dims.slice(0, 2).join(", ")}] vectors do not fit the ids [${batch}, ${length}]`,
      { option: "inputs_embeds" },
    );
  }
  if (length === 0) throw new InputError("input_ids: there is no token", { option: "input_ids" });
  const spans = rowSpans(attention_mask && idRows(attention_mask, "attention_mask"), batch, length);
  const vectors = inputs_embeds?.data as Float32Array | undefined;
  return {
    rows: spans.map(({ start, end }, r) =>
      ids ? ids[r]!.slice(start, end) : new Array<number>(end - start).fill(0),
    ),
    inputs_embeds:
      vectors &&
      spans.map(({ start, end }, r) =>
        vectors.subarray((r * length + start) * hidden_size, (r * length + end) * hidden_size),
      ),
    length,
    spans,
  };
}

function checkEmbeds(inputs_embeds: Tensor, hidden_size: number): void {
  const { type, dims } = inputs_embeds;
  if (type === "float32" && dims.length === 3 && dims[2] === hidden_size) return;
  throw new InputError(
    `inputs_embeds: expected float32 [batch, length, ${hidden_size}], got ${type} [${dims.join(", ")}]`,
    { option: "inputs_embeds" },
  );
}

/**
 * The cache to append to: the caller's, a new one, or none where nothing would be kept. Of tensors given as a cache,
 * the mask says which positions are padding.
 */
function cacheFor(
  decoder: TransformerDecoder,
  { past_key_values, use_cache, attention_mask }: GivenInputs,
  { rows, length }: Batch,
): Cache | undefined {
  if (past_key_values === undefined) {
    return use_cache === false || decoder.bidirectional
      ? undefined
      : decoder.createCache(rows.length, length);
  }
  const mask = attention_mask && idRows(attention_mask, "attention_mask");
  const past = mask?.map((row) => row.slice(0, row.length - length));
  const covered = past !== undefined && past[0]!.length > 0 ? past : undefined;
  const cache = decoder.openCache(past_key_values, rows.length, length, covered);
  if (covered !== undefined) checkPastMask(covered, cache);
  return cache;
}

/** Padding is not in the cache: what the mask keeps of the earlier columns must be what the cache holds. */
function checkPastMask(past: readonly (readonly number[])[], cache: Cache): void {
  for (const [r, row] of past.entries()) {
    const kept = row.filter((value) => value !== 0).length;
    const held = cache.lengths[r]! - cache.hiddenCounts[r]!;
    if (kept === held) continue;
    throw new InputError(
      `attention_mask: row ${r} keeps ${kept} earlier positions, past_key_values holds ${held}`,
      { option: "attention_mask" },
    );
  }
}

function readPositions(input: IdsInput, { rows, spans, length }: Batch): number[][] {
  const positions = idRows(input, "position_ids");
  if ((positions.length !== 1 && positions.length !== rows.length) || positions[0]!.length !== length) {
    throw new InputError(
      `position_ids: [${positions.length}, ${positions[0]!.length}] does not fit the input [${rows.length}, ${length}]`,
      { option: "position_ids" },
    );
  }
  return spans.map(({ start, end }, r) => {
    const row = positions[positions.length === 1 ? 0 : r]!.slice(start, end);
    const negative = row.find((position) => position < 0 || position > MAX_POSITION);
    if (negative !== undefined)
      throw new InputError(`position_ids: ${negative} is no position`, { option: "position_ids" });
    return row;
  });
}

/** Tables of sines are made up to the largest position: beyond this it is a mistake. */
const MAX_POSITION = 2 ** 22;

/**
 * Tokens hidden by zeros between others. As in HF, positions that jump, without a mask and a cache, mean that several
 * texts were packed into a row, which don't see each other.
 */
function rowMasks(
  { attention_mask, past_key_values, use_cache }: GivenInputs,
  position_ids: readonly (readonly number[])[] | undefined,
  spans: readonly RowSpan[],
): RowMask[] | undefined {
  const packed = attention_mask === undefined && !past_key_values && use_cache === false;
  const masks = spans.map(({ visible }, r): RowMask => {
    const segments = packed ? textNumbers(position_ids?.[r] ?? []) : undefined;
    return { ...(visible && { visible }), ...(segments && { segments }) };
  });
  return masks.some(({ visible, segments }) => visible ?? segments) ? masks : undefined;
}

/** [0, 1, 2, 0, 1] are the texts [0, 0, 0, 1, 1]; undefined for a single text. */
function textNumbers(positions: readonly number[]): number[] | undefined {
  let text = 0;
  const numbers = positions.map((position, i) => {
    if (i > 0 && position !== positions[i - 1]! + 1) text++;
    return text;
  });
  return text === 0 ? undefined : numbers;
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
  size: number,
): Tensor {
  const result = new Float32Array(spans.length * keep * size);
  if (keep === 0) return new Tensor("float32", result, [spans.length, 0, size]);
  let taken = 0;
  for (const [r, { start, end }] of spans.entries()) {
    const first = all ? start : Math.max(start, end - keep);
    for (let column = first; column < end; column++, taken++) {
      const row = column - (length - keep);
      if (row >= 0) result.set(logits.subarray(taken * size, (taken + 1) * size), (r * keep + row) * size);
    }
  }
  return new Tensor("float32", result, [spans.length, keep, size]);
}

function scatterStates(state: Float32Array, { spans, length }: Batch, width: number): Tensor {
  const result = new Float32Array(spans.length * length * width);
  let taken = 0;
  for (const [r, { start, end }] of spans.entries()) {
    result.set(state.subarray(taken * width, (taken + end - start) * width), (r * length + start) * width);
    taken += end - start;
  }
  return new Tensor("float32", result, [spans.length, length, width]);
}

/** Rows' earlier positions end where the new columns begin; what a row does not have is 0. */
function scatterAttentions(
  rows: readonly RowAttention[],
  spans: readonly RowSpan[],
  length: number,
  pasts: readonly number[],
): Tensor {
  const active = spans.flatMap(({ start, end }, r) =>
    end > start ? [{ start, count: end - start, r }] : [],
  );
  const earlier = Math.max(...rows.map(({ keys }, i) => keys - active[i]!.count));
  const width = earlier + length;
  const { data: first, keys } = rows[0]!;
  const heads = first.length / (keys * active[0]!.count);
  const result = new Float32Array(pasts.length * heads * length * width);
  for (const [i, { data, keys }] of rows.entries()) {
    const { start, count, r } = active[i]!;
    const past = keys - count;
    for (let line = 0; line < heads * count; line++) {
      const [head, query] = [Math.floor(line / count), line % count];
      const to = ((r * heads + head) * length + start + query) * width;
      const from = line * keys;
      result.set(data.subarray(from, from + past), to + earlier - past);
      result.set(data.subarray(from + past, from + keys), to + earlier + start);
    }
  }
  return new Tensor("float32", result, [pasts.length, heads, length, width]);
}
