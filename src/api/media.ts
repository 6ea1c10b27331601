import { InputError } from "../errors.ts";
import type { HardIds } from "../generation/hard-ids.ts";
import type { MediaSpan, RowMedia } from "../generation/media.ts";
import { type IdsInput, readRows } from "../generation/prompt.ts";
import type { Module } from "../nn/module.ts";
import type { Tensor } from "../tensor.ts";
import type { EncoderPart } from "./encoder-part.ts";

/** What a call gives beside its ids, by HF's names. */
export interface MediaInputs {
  readonly token_type_ids?: IdsInput | null | undefined;
  /** float32 [images, channels, height, width], as a processor gives them. */
  readonly pixel_values?: Tensor | null | undefined;
  /** float32 [clips, frames, bands], as a feature extractor gives them. */
  readonly input_features?: Tensor | null | undefined;
  /** [clips, frames], 0 at padding. */
  readonly input_features_mask?: Tensor | null | undefined;
  readonly signal?: AbortSignal | null | undefined;
}

/** Throws where images or sounds come to a model that was loaded for text alone. */
export function refuseMedia(inputs: object, call: string): void {
  const names: readonly (keyof MediaInputs)[] = ["pixel_values", "input_features", "input_features_mask"];
  const option = names.find((name) => (inputs as MediaInputs)[name] != null);
  if (option === undefined) return;
  throw new InputError(
    `${call}: ${option}: this model was loaded for text alone; AutoModelForImageTextToText loads one that takes images and sounds`,
    { option },
  );
}

/** The rows of a call without their padding. */
export interface MediaRows {
  readonly tokens: readonly (readonly number[])[];
  /** The columns of each row that hold its tokens. */
  readonly spans: readonly { readonly start: number; readonly end: number }[];
  /** Columns of the padded rows. */
  readonly length: number;
  /** How many of a row's tokens are in the cache already: they are not computed again. */
  readonly held: readonly number[];
}

export interface FoundMedia {
  /** Undefined where the rows are nothing but text. */
  readonly rows: readonly RowMedia[] | undefined;
  /** What the call's output tells of them, e.g. `image_hidden_states`. */
  readonly outputs: Readonly<Record<string, Tensor>>;
}

/** How a model reads images or sounds: its encoders, and where in the rows their vectors go. */
export interface MediaReader {
  /** Inputs that the model takes besides those of a text model. */
  readonly inputNames: readonly string[];
  /** By name: "vision_encoder", "audio_encoder". */
  readonly parts: ReadonlyMap<string, EncoderPart<Module>>;
  /** Ids that have no vectors in the embedding table. */
  readonly hardIds?: HardIds;
  read(inputs: MediaInputs, rows: MediaRows): Promise<FoundMedia>;
}

/** Vectors of an encoder and the token whose places they take, in the order of the rows. */
export interface Features {
  /** For messages: "image". */
  readonly name: string;
  readonly token_id: number;
  /** How many images or sounds there are, and how many vectors each has. */
  readonly items: number;
  readonly vectorsPerItem: number;
  /** Encodes some of the items: [vectors, hidden_size] of each. */
  encode(items: readonly number[]): Promise<readonly Float32Array[]>;
}

/** Where a row's tokens take their vectors from: an item and the place in it; undefined: from the embedding. */
export type Slots = readonly (readonly (Float32Array | undefined)[])[];

/**
 * The vector of every placeholder that is computed. Items may be given for all rows, or only for what a cache does not
 * hold yet; any other number is an error.
 */
export async function fillPlaceholders(
  { tokens, held }: MediaRows,
  features: Features,
  hidden_size: number,
): Promise<Slots> {
  const { name, token_id, items, vectorsPerItem } = features;
  const places = tokens.flatMap((row, r) =>
    row.flatMap((id, i) => (id === token_id ? [{ r, i, fresh: i >= held[r]! }] : [])),
  );
  const fresh = places.filter((place) => place.fresh);
  const vectors = items * vectorsPerItem;
  const counted = vectors === places.length ? places : fresh;
  if (vectors !== counted.length) {
    const cached = fresh.length < places.length ? `, ${fresh.length} of them not in past_key_values` : "";
    throw new InputError(
      `${items} ${name}s have ${vectors} vectors, but input_ids hold ${places.length} places for them (token ${token_id})${cached}`,
      { option: "input_ids" },
    );
  }
  const itemOf = (place: number): number => Math.floor(place / vectorsPerItem);
  const needed = [...new Set(counted.flatMap((place, p) => (place.fresh ? [itemOf(p)] : [])))];
  const made = needed.length === 0 ? [] : await features.encode(needed);
  const encoded = new Map(made.map((data, i) => [needed[i]!, data]));
  const slots = tokens.map((row) => new Array<Float32Array | undefined>(row.length).fill(undefined));
  for (const [p, { r, i, fresh }] of counted.entries()) {
    if (!fresh) continue;
    const from = (p % vectorsPerItem) * hidden_size;
    slots[r]![i] = encoded.get(itemOf(p))!.subarray(from, from + hidden_size);
  }
  return slots;
}

/** For each token of the rows, its number in `token_type_ids` [batch, length or more]; 0 without. */
export function tokenTypes(
  token_type_ids: IdsInput | null | undefined,
  { tokens, spans, length }: MediaRows,
): number[][] {
  if (token_type_ids === undefined || token_type_ids === null) return tokens.map((row) => row.map(() => 0));
  const types = readRows("token_type_ids", token_type_ids);
  if (types.length !== tokens.length)
    throw new InputError(`token_type_ids have ${types.length} rows, input_ids ${tokens.length}`, {
      option: "token_type_ids",
    });
  return tokens.map((row, r) => {
    // As ids, shorter rows end where the longest does; what a cache holds may stand before.
    const shift = types[r]!.length - length;
    return row.map((_, i) => Number(types[r]![spans[r]!.start + i + shift] ?? 0));
  });
}

/** Cuts each row's new tokens into spans: runs of one block, whose tokens see each other, and other runs of vectors. */
export function mediaRows(
  { tokens, held }: MediaRows,
  slots: Slots | undefined,
  blocks: readonly (readonly number[])[],
  embed: (row: readonly number[]) => Promise<Float32Array>,
): Promise<RowMedia[]> {
  return Promise.all(
    tokens.map(async (row, r) => {
      const kindOf = (i: number): number => {
        const block = blocks[r]![i]!;
        return block >= 0 ? block : slots?.[r]?.[i] === undefined ? TEXT : VECTORS;
      };
      const spans: MediaSpan[] = [];
      for (let start = held[r]!, end = start; start < row.length; start = end) {
        const kind = kindOf(start);
        while (end < row.length && kindOf(end) === kind) end++;
        if (kind === TEXT) continue;
        const filled = slots?.[r]?.slice(start, end) ?? [];
        const vectors = await spanVectors(filled, () => embed(row.slice(start, end)));
        spans.push({ start, end, vectors, together: kind !== VECTORS });
      }
      return spans;
    }),
  );
}

const TEXT = -1;
const VECTORS = -2;

/** The vectors of a span side by side; where some tokens have none, these keep their own. */
async function spanVectors(
  slots: readonly (Float32Array | undefined)[],
  embed: () => Promise<Float32Array>,
): Promise<Float32Array | undefined> {
  const width = slots.find((slot) => slot !== undefined)?.length;
  if (width === undefined) return undefined;
  const vectors = slots.includes(undefined) ? await embed() : new Float32Array(slots.length * width);
  for (const [i, slot] of slots.entries()) if (slot !== undefined) vectors.set(slot, i * width);
  return vectors;
}

/** The type of an image's tokens in `token_type_ids`. */
export const IMAGE_TYPE = 1;

/** Numbers the runs of tokens for which `inBlock` holds; -1 at others. */
export function runsOf<T>(row: readonly T[], inBlock: (value: T) => boolean): number[] {
  let block = -1;
  return row.map((value, i) => {
    if (!inBlock(value)) return -1;
    if (i === 0 || !inBlock(row[i - 1]!)) block++;
    return block;
  });
}
