import type { HardIds } from "../generation/hard-ids.ts";
import type { Gemma3nAudioTower } from "../models/gemma3n/audio/encoder.ts";
import type { Gemma3nConfig } from "../models/gemma3n/multimodal-config.ts";
import type { Gemma3nImageEncoder } from "../models/gemma3n/vision/tower.ts";
import type { Module } from "../nn/module.ts";
import { Tensor } from "../tensor.ts";
import type { EncoderPart } from "./encoder-part.ts";
import { audioTokens, Gemma3nAudio } from "./gemma3n-audio.ts";
import { Gemma3nImages } from "./gemma3n-images.ts";
import { type EmbedderAt, type EmbedderKey, HardEmbeddings } from "./hard-embeddings.ts";
import {
  type Features,
  type FoundMedia,
  fillPlaceholders,
  type MediaInputs,
  type MediaReader,
  type MediaRows,
  mediaRows,
  type Slots,
} from "./media.ts";

/** What Gemma 3n reads with. */
export interface Gemma3nParts {
  readonly vision_encoder: EncoderPart<Gemma3nImageEncoder>;
  readonly audio_encoder: EncoderPart<Gemma3nAudioTower>;
  readonly embed_vision: EncoderPart<EmbedderAt>;
  readonly embed_audio: EncoderPart<EmbedderAt>;
}

/** Reads images and sounds for Gemma 3n, each by an encoder that is loaded with the first of its kind. */
export class Gemma3nMedia implements MediaReader {
  readonly inputNames: readonly string[] = ["pixel_values", "input_features", "input_features_mask"];
  readonly parts: ReadonlyMap<string, EncoderPart<Module>>;
  readonly hardIds: HardIds;
  readonly images: Gemma3nImages;
  readonly audio: Gemma3nAudio;
  readonly #config: Gemma3nConfig;
  readonly #embedders: Readonly<Record<EmbedderKey, HardEmbeddings>>;
  /** The vectors of ids beyond the text's, once computed: there are few. */
  readonly #hard: Map<number, Float32Array> = new Map();

  constructor(config: Gemma3nConfig, parts: Gemma3nParts) {
    const { vision_config, audio_config, text_config } = config;
    const { hidden_size } = text_config;
    this.images = new Gemma3nImages(vision_config, parts.vision_encoder);
    this.audio = new Gemma3nAudio(audio_config, hidden_size, parts.audio_encoder);
    this.parts = new Map<string, EncoderPart<Module>>(Object.entries(parts));
    this.#config = config;
    this.#embedders = {
      embed_vision: new HardEmbeddings(vision_config, hidden_size, parts.embed_vision),
      embed_audio: new HardEmbeddings(audio_config, hidden_size, parts.embed_audio),
    };
    this.hardIds = {
      first: vision_config.vocab_offset,
      embed: (ids, signal) => this.#embedHard(ids, signal),
    };
  }

  async read(inputs: MediaInputs, rows: MediaRows): Promise<FoundMedia> {
    const { pixel_values, input_features } = inputs;
    const outputs: Record<string, Tensor> = {};
    const found: Features[] = [];
    if (pixel_values != null) found.push(this.#imageFeatures(pixel_values, inputs, outputs));
    if (input_features != null) found.push(this.#audioFeatures(input_features, inputs, outputs));
    if (found.length === 0) return { rows: undefined, outputs };
    const { hidden_size } = this.#config.text_config;
    const slots: Slots[] = [];
    for (const features of found) slots.push(await fillPlaceholders(rows, features, hidden_size));
    const filled = rows.tokens.map((row, r) => row.map((_, i) => firstOf(slots, r, i)));
    const none = rows.tokens.map((row) => row.map(() => -1));
    // The tokens of an image see what came before them, as text does.
    return { rows: await mediaRows(rows, filled, none, neverMixed), outputs };
  }

  #imageFeatures(images: Tensor, { signal }: MediaInputs, outputs: Record<string, Tensor>): Features {
    this.images.check(images);
    return {
      name: "image",
      token_id: this.#config.image_token_id,
      items: images.dims[0]!,
      vectorsPerItem: this.#config.vision_soft_tokens_per_image,
      encode: async (items) => {
        const made: Float32Array[] = [];
        for (const item of items) made.push(await this.images.vectors(images, item, signal ?? undefined));
        outputs.image_hidden_states = this.#stacked(made);
        return made;
      },
    };
  }

  #audioFeatures(clips: Tensor, inputs: MediaInputs, outputs: Record<string, Tensor>): Features {
    const { input_features_mask, signal } = inputs;
    this.audio.check({ input_features: clips, input_features_mask: input_features_mask ?? null });
    const count = this.#config.audio_soft_tokens_per_image;
    return {
      name: "sound",
      token_id: this.#config.audio_token_id,
      items: clips.dims[0]!,
      vectorsPerItem: count,
      encode: async (items) => {
        const options = signal == null ? {} : { signal };
        const output = await this.audio.features(
          {
            input_features: rowsOf(clips, items),
            input_features_mask: input_features_mask == null ? null : rowsOf(input_features_mask, items),
          },
          options,
        );
        const last = this.#config.text_config.vocab_size - 1;
        const made = audioTokens(output, count, await this.#embedHard([last], signal ?? undefined));
        outputs.audio_hidden_states = this.#stacked(made);
        return made;
      },
    };
  }

  /** Ids up to the audio's are embedded as images, all others as sounds. */
  async #embedHard(ids: readonly number[], signal: AbortSignal | undefined): Promise<Float32Array> {
    const { text_config, audio_config } = this.#config;
    const { hidden_size } = text_config;
    const missing = [...new Set(ids)].filter((id) => !this.#hard.has(id));
    const isSound = (id: number): boolean => id >= audio_config.vocab_offset;
    const { embed_vision, embed_audio } = this.#embedders;
    for (const [embedder, part] of [
      [embed_vision, missing.filter((id) => !isSound(id))],
      [embed_audio, missing.filter(isSound)],
    ] as const) {
      const vectors = await embedder.embed(part, signal);
      for (const [i, id] of part.entries())
        this.#hard.set(id, vectors.subarray(i * hidden_size, (i + 1) * hidden_size));
    }
    const result = new Float32Array(ids.length * hidden_size);
    for (const [i, id] of ids.entries()) result.set(this.#hard.get(id)!, i * hidden_size);
    return result;
  }

  #stacked(items: readonly Float32Array[]): Tensor {
    const { hidden_size } = this.#config.text_config;
    const size = items[0]?.length ?? 0;
    const data = new Float32Array(items.length * size);
    for (const [i, item] of items.entries()) data.set(item, i * size);
    return new Tensor("float32", data, [items.length, size / hidden_size, hidden_size]);
  }
}

function firstOf(slots: readonly Slots[], row: number, i: number): Float32Array | undefined {
  for (const each of slots) if (each[row]![i] !== undefined) return each[row]![i];
  return undefined;
}

/** Spans are cut where vectors begin and end, so that none needs the embedding of a token. */
function neverMixed(): never {
  throw new Error("a span of vectors has tokens without one");
}

/** Some of a tensor's rows. */
function rowsOf(tensor: Tensor, rows: readonly number[]): Tensor {
  if (rows.length === tensor.dims[0] && rows.every((row, i) => row === i)) return tensor;
  const size = tensor.size / tensor.dims[0]!;
  const data = tensor.data.slice(0, rows.length * size);
  for (const [i, row] of rows.entries())
    data.set(tensor.data.subarray(row * size, (row + 1) * size) as never, i * size);
  return new Tensor(tensor.type, data as never, [rows.length, ...tensor.dims.slice(1)]);
}
