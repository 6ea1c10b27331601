import { InputError } from "../errors.ts";
import { float32, RunValues } from "../generation/decoder-model.ts";
import {
  type Gemma3nImageEncoder,
  HIDDEN_STATES,
  IMAGE_FEATURES,
  LAST_HIDDEN_STATE,
  type TracedOutput,
  traceImageFeatures,
} from "../models/gemma3n/vision/tower.ts";
import type { Gemma3nVisionConfig } from "../models/gemma3n/vision-config.ts";
import { Tensor } from "../tensor.ts";
import type { EncoderPart } from "./encoder-part.ts";

/** What images become, under the names of HF's outputs. */
export interface VisionTowerOutput {
  /** float32 [images, 2048, height, width]: what the tower gives. */
  readonly last_hidden_state: Tensor;
  /** float32 [images, tokens, hidden_size]: the vectors that take the places of `<image_soft_token>`. */
  readonly pooler_output: Tensor;
  /** With `output_hidden_states`: float32 [images, channels, height, width] of the stem, then of each stage. */
  readonly hidden_states?: readonly Tensor[];
}

export interface VisionTowerOptions {
  readonly output_hidden_states?: boolean;
  readonly signal?: AbortSignal;
}

type Wanted = Parameters<typeof traceImageFeatures>[3];

/** Most pixels along a side: maps of an image take some 140 times its own memory. */
const MAX_SIDE = 4096;

/** Reads images for Gemma 3n: the vision tower and its embedder, whose weights are loaded with the first image. */
export class Gemma3nImages {
  readonly part: EncoderPart<Gemma3nImageEncoder>;
  readonly #config: Gemma3nVisionConfig;
  /** By the name of a traced graph. */
  readonly #outputs: Map<string, readonly TracedOutput[]> = new Map();

  /** The part's checkpoint has keys `vision_tower.…` and `embed_vision.…`. */
  constructor(config: Gemma3nVisionConfig, part: EncoderPart<Gemma3nImageEncoder>) {
    this.#config = config;
    this.part = part;
  }

  /** `get_image_features` of the model classes. */
  async features(
    pixel_values: Tensor,
    { output_hidden_states = false, signal }: VisionTowerOptions = {},
  ): Promise<VisionTowerOutput> {
    this.check(pixel_values);
    const results: Map<string, Tensor>[] = [];
    for (let i = 0; i < pixel_values.dims[0]!; i++)
      results.push(await this.#run(pixel_values, i, output_hidden_states ? "all" : "last", signal));
    const output = (name: string): Tensor => stacked(results.map((result) => result.get(name)!));
    const states = [...results[0]!.keys()].filter((name) => name.startsWith(HIDDEN_STATES));
    return {
      last_hidden_state: output(LAST_HIDDEN_STATE),
      pooler_output: output(IMAGE_FEATURES),
      ...(output_hidden_states && { hidden_states: states.map(output) }),
    };
  }

  /** The vectors of one of the images, [tokens * hidden_size]. */
  async vectors(pixel_values: Tensor, index: number, signal?: AbortSignal): Promise<Float32Array> {
    const result = await this.#run(pixel_values, index, "features", signal);
    return result.get(IMAGE_FEATURES)!.data as Float32Array;
  }

  /** Throws where a tensor holds no images of this model. Their size is free. */
  check(pixel_values: unknown): asserts pixel_values is Tensor {
    const { in_chans } = this.#config.tower;
    const given = pixel_values instanceof Tensor ? pixel_values : undefined;
    const [images, channels, ...sides] = given?.dims ?? [];
    const fits =
      given?.type === "float32" &&
      given.dims.length === 4 &&
      images! > 0 &&
      channels === in_chans &&
      sides.every((side) => side > 0 && side <= MAX_SIDE);
    if (fits) return;
    const got = given === undefined ? typeof pixel_values : `${given.type} [${given.dims.join(", ")}]`;
    throw new InputError(
      `pixel_values: expected float32 [images, ${in_chans}, height, width] with sides up to ${MAX_SIDE}, got ${got}`,
      { option: "pixel_values" },
    );
  }

  /** One image at a time: the first maps of 768x768 pixels take a quarter of a GiB, and an abort takes effect in between. */
  async #run(
    images: Tensor,
    index: number,
    wants: Wanted,
    signal: AbortSignal | undefined,
  ): Promise<Map<string, Tensor>> {
    const size = images.size / images.dims[0]!;
    const dims = [1, ...images.dims.slice(1)];
    const name = `image ${wants} ${dims.join("x")}`;
    const session = await this.part.session(name, (module, graph) => {
      this.#outputs.set(name, traceImageFeatures(graph, module, dims, wants));
    });
    const run = new RunValues(session);
    const pixels = (images.data as Float32Array).subarray(index * size, (index + 1) * size);
    run.feed("pixel_values", float32(pixels, dims));
    const results = new Map<string, Tensor>();
    for (const output of this.#outputs.get(name)!) {
      const data = new Float32Array(output.dims.reduce((product, dim) => product * dim, 1));
      results.set(output.name, new Tensor("float32", data, output.dims));
      run.fetch(output.name, float32(data, output.dims));
    }
    await run.run(signal);
    return results;
  }
}

/** Tensors [1, ..] as one [tensors, ..]. */
function stacked(tensors: readonly Tensor[]): Tensor {
  const [first] = tensors as [Tensor, ...Tensor[]];
  if (tensors.length === 1) return first;
  const data = new Float32Array(tensors.length * first.size);
  for (const [i, tensor] of tensors.entries()) data.set(tensor.data as Float32Array, i * first.size);
  return new Tensor("float32", data, [tensors.length, ...first.dims.slice(1)]);
}
