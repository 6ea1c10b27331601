import { InputError } from "../errors.ts";
import { float32, RunValues } from "../generation/decoder-model.ts";
import type { Gemma3Config } from "../models/gemma3/multimodal-config.ts";
import type { Gemma3ImageEncoder } from "../models/gemma3/projector.ts";
import { traceImageFeatures } from "../models/gemma3/projector.ts";
import type { SiglipVisionConfig } from "../models/siglip/config.ts";
import { Tensor } from "../tensor.ts";
import type { EncoderPart } from "./encoder-part.ts";
import {
  type Features,
  type FoundMedia,
  fillPlaceholders,
  IMAGE_TYPE,
  type MediaInputs,
  type MediaReader,
  type MediaRows,
  mediaRows,
  runsOf,
  tokenTypes,
} from "./media.ts";

/** What images become, as HF's BaseModelOutputWithPooling. */
export interface ImageFeaturesOutput {
  /** float32 [images, patches, vision hidden_size]: what the encoder gives. */
  readonly last_hidden_state: Tensor;
  /** float32 [images, mm_tokens_per_image, hidden_size]: the vectors that take the places of `<image_soft_token>`. */
  readonly pooler_output: Tensor;
}

/** Reads images for Gemma 3: SigLIP and the projector, whose weights are loaded with the first image. */
export class Gemma3Images implements MediaReader {
  readonly inputNames: readonly string[] = ["pixel_values"];
  readonly parts: ReadonlyMap<string, EncoderPart<Gemma3ImageEncoder>>;
  readonly #config: Gemma3Config;
  readonly #encoder: EncoderPart<Gemma3ImageEncoder>;
  readonly #embed: (row: readonly number[]) => Promise<Float32Array>;

  constructor(
    config: Gemma3Config,
    encoder: EncoderPart<Gemma3ImageEncoder>,
    embed: (row: readonly number[]) => Promise<Float32Array>,
  ) {
    this.#config = config;
    this.#encoder = encoder;
    this.#embed = embed;
    this.parts = new Map([["vision_encoder", encoder]]);
  }

  async read(inputs: MediaInputs, rows: MediaRows): Promise<FoundMedia> {
    const { pixel_values, token_type_ids, signal } = inputs;
    const types = tokenTypes(token_type_ids, rows);
    const blocks = types.map((row) => runsOf(row, (type) => type === IMAGE_TYPE));
    const images = pixel_values ?? undefined;
    if (images === undefined && types.flat().every((type) => type !== IMAGE_TYPE))
      return { rows: undefined, outputs: {} };
    const made: Float32Array[] = [];
    const hidden_size = this.#config.text_config.hidden_size;
    const slots =
      images &&
      (await fillPlaceholders(rows, this.#features(images, made, signal ?? undefined), hidden_size));
    const placed = await mediaRows(rows, slots, blocks, this.#embed);
    const outputs = images && { image_hidden_states: stacked(made, [this.#tokens, hidden_size]) };
    return { rows: placed, outputs: outputs ?? {} };
  }

  /** `get_image_features` of the model classes. */
  async features(pixel_values: Tensor, signal?: AbortSignal): Promise<ImageFeaturesOutput> {
    const { text_config, vision_config } = this.#config;
    checkPixels(pixel_values, vision_config);
    const patches = vision_config.patches_per_side ** 2;
    const results = [];
    for (let i = 0; i < pixel_values.dims[0]!; i++)
      results.push(await this.#run(pixel_values, i, true, signal));
    return {
      last_hidden_state: stacked(
        results.map(({ states }) => states!),
        [patches, vision_config.hidden_size],
      ),
      pooler_output: stacked(
        results.map(({ vectors }) => vectors),
        [this.#tokens, text_config.hidden_size],
      ),
    };
  }

  #features(images: Tensor, made: Float32Array[], signal: AbortSignal | undefined): Features {
    checkPixels(images, this.#config.vision_config);
    return {
      name: "image",
      token_id: this.#config.image_token_id,
      items: images.dims[0]!,
      vectorsPerItem: this.#tokens,
      encode: async (items) => {
        for (const item of items) made.push((await this.#run(images, item, false, signal)).vectors);
        return made;
      },
    };
  }

  /** Vectors that an image becomes. */
  get #tokens(): number {
    const { vision_config, pooling } = this.#config;
    return Math.floor(vision_config.patches_per_side / pooling) ** 2;
  }

  /** One image at a time: attention between 4,096 patches takes much memory, and an abort takes effect in between. */
  async #run(
    images: Tensor,
    index: number,
    wantsStates: boolean,
    signal: AbortSignal | undefined,
  ): Promise<{ vectors: Float32Array; states: Float32Array | undefined }> {
    const { vision_config, text_config } = this.#config;
    const size = images.size / images.dims[0]!;
    const pixels = (images.data as Float32Array).subarray(index * size, (index + 1) * size);
    const session = await this.#encoder.session("image features", (module, graph) =>
      traceImageFeatures(graph, module, vision_config),
    );
    const run = new RunValues(session);
    run.feed("pixel_values", float32(pixels, [1, ...images.dims.slice(1)]));
    const vectors = new Float32Array(this.#tokens * text_config.hidden_size);
    run.fetch("image_features", float32(vectors, [1, this.#tokens, text_config.hidden_size]));
    const stateDims = [1, vision_config.patches_per_side ** 2, vision_config.hidden_size];
    const states = wantsStates ? new Float32Array(stateDims[1]! * stateDims[2]!) : undefined;
    if (states !== undefined) run.fetch("last_hidden_state", float32(states, stateDims));
    await run.run(signal);
    return { vectors, states };
  }
}

/** Throws where a tensor is not what a SigLIP model takes. */
export function checkPixels(pixel_values: unknown, { num_channels, image_size }: SiglipVisionConfig): void {
  const shape = [num_channels, image_size, image_size];
  const given = pixel_values instanceof Tensor ? pixel_values : undefined;
  if (given?.type === "float32" && given.dims.length === 4 && given.dims.slice(1).join() === shape.join())
    return;
  const got = given === undefined ? typeof pixel_values : `${given.type} [${given.dims.join(", ")}]`;
  throw new InputError(`pixel_values: expected float32 [images, ${shape.join(", ")}], got ${got}`, {
    option: "pixel_values",
  });
}

function stacked(items: readonly Float32Array[], dims: readonly number[]): Tensor {
  const size = dims.reduce((product, dim) => product * dim, 1);
  const data = new Float32Array(items.length * size);
  for (const [i, item] of items.entries()) data.set(item, i * size);
  return new Tensor("float32", data, [items.length, ...dims]);
}
