import { Callable } from "../callable.ts";
import { visionModelAlone } from "../checkpoints/model-prefix.ts";
import { openCheckpoint } from "../checkpoints/open.ts";
import { ConfigError, InputError, rejectUnknownOptions } from "../errors.ts";
import { float32, RunValues } from "../generation/decoder-model.ts";
import type { Graph } from "../graph/graph.ts";
import type { JsonObject } from "../models/config-reader.ts";
import { SiglipVisionConfig } from "../models/siglip/config.ts";
import { pixelInput, SiglipVisionModule } from "../models/siglip/vision.ts";
import { loadEngine } from "../runtime/engine.ts";
import type { Session } from "../runtime/session.ts";
import type { Tensor } from "../tensor.ts";
import { EncoderPart } from "./encoder-part.ts";
import { checkPixels, stacked } from "./image-encoder.ts";
import { ModelFiles } from "./model-files.ts";
import { modelOptions, type PretrainedOptions } from "./options.ts";
import { partBytes } from "./part-tensors.ts";
import { packOptions } from "./pretrained-model.ts";

/** What the model takes. */
export interface SiglipVisionInputs {
  /** float32 [images, channels, height, width], as a processor gives them. */
  readonly pixel_values: Tensor;
  readonly output_hidden_states?: boolean | null;
  readonly signal?: AbortSignal;
}

export interface SiglipVisionOutput {
  /** float32 [images, patches, hidden_size], normed. */
  readonly last_hidden_state: Tensor;
  /** The same for the patches' embeddings and the output of every layer, not normed. */
  readonly hidden_states?: readonly Tensor[];
}

/** SigLIP's image encoder by itself: from a file of its own, or out of a Gemma 3 model. There is no pooling head. */
export class SiglipVisionModel extends Callable<(inputs: SiglipVisionInputs) => Promise<SiglipVisionOutput>> {
  readonly config: SiglipVisionConfig;
  readonly #encoder: EncoderPart<SiglipVisionModule>;

  private constructor(config: SiglipVisionConfig, encoder: EncoderPart<SiglipVisionModule>) {
    super();
    this.config = config;
    this.#encoder = encoder;
  }

  /** Checks that the tensors are there; they are read with the first image. */
  static async from_pretrained(id: string, options: PretrainedOptions = {}): Promise<SiglipVisionModel> {
    const call = "SiglipVisionModel.from_pretrained";
    const { engine: choice, device, threads, encoders } = modelOptions(options, call);
    for (const option of ["adapter", "slice"] as const)
      if (options[option] != null) throw new InputError(`${call}: takes no ${option}`, { option });
    const [files, engine] = await Promise.all([ModelFiles.find(id, options), loadEngine({ engine: choice })]);
    try {
      const config = visionConfig(options.config ?? (await files.config({ encoders: true })), id);
      const module = new SiglipVisionModule(config);
      const path = await files.encoderPath();
      const checkpoint = await openCheckpoint(path);
      await checkpoint.close();
      const encoder = new EncoderPart(
        module,
        {
          path,
          reader: { checkpoint: visionModelAlone },
          weights: encoders.vision_encoder,
          pack: packOptions(id, options),
          engine: { engine, device, ...(threads === undefined ? {} : { threads }) },
        },
        partBytes("vision_encoder", module, visionModelAlone(checkpoint)),
      );
      return new SiglipVisionModel(config, encoder);
    } finally {
      await files.close();
    }
  }

  /** HF's name of the call. */
  forward(inputs: SiglipVisionInputs): Promise<SiglipVisionOutput> {
    return this._call(inputs);
  }

  /** One image at a time: attention between all patches takes much memory. */
  async _call(inputs: SiglipVisionInputs): Promise<SiglipVisionOutput> {
    rejectUnknownOptions(inputs, ["pixel_values", "output_hidden_states", "signal"], "SiglipVisionModel");
    const { pixel_values, output_hidden_states, signal } = inputs;
    checkPixels(pixel_values, this.config);
    const count = output_hidden_states === true ? this.config.num_hidden_layers + 1 : 0;
    const session = await this.#encoder.session(count > 0 ? "states" : "image", (module, graph) =>
      trace(graph, module, this.config, count > 0),
    );
    const images: Float32Array[][] = [];
    for (let i = 0; i < pixel_values.dims[0]!; i++)
      images.push(await this.#run(session, pixel_values, i, count, signal));
    const { patches_per_side, hidden_size } = this.config;
    const tensorOf = (k: number): Tensor =>
      stacked(
        images.map((states) => states[k]!),
        [patches_per_side ** 2, hidden_size],
      );
    const states = Array.from({ length: count }, (_, k) => tensorOf(k + 1));
    return { last_hidden_state: tensorOf(0), ...(count > 0 && { hidden_states: states }) };
  }

  async dispose(): Promise<void> {
    await this.#encoder.dispose();
  }

  /** The last state of an image, and `count` states before it. */
  async #run(
    session: Session,
    pixel_values: Tensor,
    index: number,
    count: number,
    signal: AbortSignal | undefined,
  ): Promise<Float32Array[]> {
    const [images, ...shape] = pixel_values.dims as [number, ...number[]];
    const size = pixel_values.size / images;
    const pixels = (pixel_values.data as Float32Array).subarray(index * size, (index + 1) * size);
    const { patches_per_side, hidden_size } = this.config;
    const run = new RunValues(session);
    run.feed("pixel_values", float32(pixels, [1, ...shape]));
    const states = ["last_hidden_state", ...Array.from({ length: count }, (_, k) => `state.${k}`)].map(
      (name) => {
        const state = new Float32Array(patches_per_side ** 2 * hidden_size);
        run.fetch(name, float32(state, [1, patches_per_side ** 2, hidden_size]));
        return state;
      },
    );
    await run.run(signal);
    return states;
  }
}

function trace(
  graph: Graph,
  module: SiglipVisionModule,
  config: SiglipVisionConfig,
  wantsStates: boolean,
): void {
  const { hidden, last } = module.forward(pixelInput(graph, config));
  graph.output("last_hidden_state", last);
  if (wantsStates) for (const [k, state] of hidden.entries()) graph.output(`state.${k}`, state);
}

/** The configuration of the encoder: the whole of its own model's, a block of a larger one's. */
function visionConfig(config: object, id: string): SiglipVisionConfig {
  if (config instanceof SiglipVisionConfig) return config;
  const { model_type, vision_config } = config as JsonObject;
  if (vision_config instanceof SiglipVisionConfig) return vision_config;
  if (model_type === "siglip_vision_model") return new SiglipVisionConfig(config as JsonObject);
  if (model_type === "gemma3" || model_type === "siglip")
    return new SiglipVisionConfig((vision_config ?? {}) as JsonObject, "vision_config");
  throw new ConfigError(`${id}: a model of type ${JSON.stringify(model_type)} has no SigLIP encoder`, {
    key: "model_type",
  });
}
