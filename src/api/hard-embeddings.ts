import { InputError } from "../errors.ts";
import { float32, RunValues } from "../generation/decoder-model.ts";
import {
  type EmbedderConfig,
  Gemma3nMultimodalEmbedder,
  traceHardEmbeddings,
} from "../models/gemma3n/multimodal-embedder.ts";
import { Module } from "../nn/module.ts";
import type { EncoderPart } from "./encoder-part.ts";

/** Where Gemma 3n keeps an embedder. */
export type EmbedderKey = "embed_vision" | "embed_audio";

/** An embedder at its place in the checkpoint. */
export class EmbedderAt extends Module {
  declare readonly embed_vision?: Gemma3nMultimodalEmbedder;
  declare readonly embed_audio?: Gemma3nMultimodalEmbedder;
  readonly #key: EmbedderKey;

  /** `text_hidden_size` is the text model's hidden_size. */
  constructor(key: EmbedderKey, config: EmbedderConfig, text_hidden_size: number) {
    super();
    this[key] = new Gemma3nMultimodalEmbedder(config, text_hidden_size);
    this.#key = key;
  }

  get embedder(): Gemma3nMultimodalEmbedder {
    return this[this.#key]!;
  }
}

/** Vectors of the ids beyond the text's, which stand for images and sounds: Gemma 3n's embedders without its towers. */
export class HardEmbeddings {
  readonly part: EncoderPart<EmbedderAt>;
  readonly #config: EmbedderConfig & { readonly vocab_offset: number };
  readonly #hidden_size: number;

  /** `hidden_size` is the text model's; the part's checkpoint has keys `embed_vision.…` or `embed_audio.…`. */
  constructor(
    config: EmbedderConfig & { readonly vocab_offset: number },
    hidden_size: number,
    part: EncoderPart<EmbedderAt>,
  ) {
    this.part = part;
    this.#config = config;
    this.#hidden_size = hidden_size;
  }

  /** The vectors of ids from vocab_offset on: [ids * hidden_size]. */
  async embed(ids: readonly number[], signal?: AbortSignal): Promise<Float32Array> {
    const { vocab_offset, vocab_size } = this.#config;
    const wrong = ids.find((id) => !(id >= vocab_offset && id < vocab_offset + vocab_size));
    if (wrong !== undefined) {
      throw new InputError(`id ${wrong} is none of ${vocab_offset} to ${vocab_offset + vocab_size - 1}`, {
        option: "input_ids",
      });
    }
    const vectors = new Float32Array(ids.length * this.#hidden_size);
    if (ids.length === 0) return vectors;
    const session = await this.part.session("hard embeddings", ({ embedder }, graph) =>
      traceHardEmbeddings(graph, embedder),
    );
    const run = new RunValues(session);
    const indices = BigInt64Array.from(ids, (id) => BigInt(id - vocab_offset));
    run.feed("ids", { type: "int64", data: indices, dims: [ids.length] });
    run.fetch("embeddings", float32(vectors, [ids.length, this.#hidden_size]));
    await run.run(signal);
    return vectors;
  }
}
