import { Callable } from "../callable.ts";
import { visionModelAlone } from "../checkpoints/model-prefix.ts";
import { openCheckpoint } from "../checkpoints/open.ts";
import { ConfigError, InputError, rejectUnknownOptions } from "../errors.ts";
import { float32, RunValues } from "../generation/decoder-model.ts";
import type { Graph } from "../graph/graph.ts";
import type { JsonObject } from "../models/config-reader.ts";
import { SiglipVisionConfig } from "../models/siglip/config.ts";
import { pixelInput, SiglipVisionModelModule } from "../models/siglip/vision.ts";
import { loadEngine } from "../runtime/engine.ts";
import type { HostTensor, Session } from "../runtime/session.ts";
import { Tensor } from "../tensor.ts";
import { EncoderPart } from "./encoder-part.ts";
import { checkPixels } from "./image-encoder.ts";
import { ModelFiles } from "./model-files.ts";
import { modelOptions, type PretrainedOptions } from "./options.ts";
import { partBytes } from "./part-tensors.ts";
import type { ModelMemory } from "./pretrained-decoder.ts";
import { packOptions } from "./pretrained-model.ts";

const INPUTS: readonly (keyof SiglipVisionInputs)[] = [
  "pixel_values",
  "output_hidden_states",
  "interpolate_pos_encoding",
  "output_attentions",
  "signal",
];

/** What the model takes. */
export interface SiglipVisionInputs {
  /** float32 [images, channels, height, width], as a processor gives them. */
  readonly pixel_values: Tensor;
  readonly output_hidden_states?: boolean | null;
  /** Only false: images have the encoder's own size. */
  readonly interpolate_pos_encoding?: boolean | null;
  /** Only false: the encoder's attention keeps no weights. */
  readonly output_attentions?: boolean | null;
  readonly signal?: AbortSignal;
}

export interface SiglipVisionOutput {
  /** float32 [images, patches, hidden_size], normed. */
  readonly last_hidden_state: Tensor;
  /** float32 [images, hidden_size]: what the pooling head gives, where the configuration has one (`vision_use_head`). */
  readonly pooler_output?: Tensor;
  /** As `last_hidden_state`: the patches' embeddings and the output of every layer, not normed. */
  readonly hidden_states?: readonly Tensor[];
}

/** SigLIP's image encoder by itself: from a file of its own, or out of a SigLIP or Gemma 3 model. */
export class SiglipVisionModel extends Callable<(inputs: SiglipVisionInputs) => Promise<SiglipVisionOutput>> {
  readonly config: SiglipVisionConfig;
  readonly #encoder: EncoderPart<SiglipVisionModelModule>;

  private constructor(config: SiglipVisionConfig, encoder: EncoderPart<SiglipVisionModelModule>) {
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
      const module = new SiglipVisionModelModule(config);
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
    checkInputs(inputs, this.config);
    const { pixel_values, output_hidden_states, signal } = inputs;
    const wantsStates = output_hidden_states === true;
    const session = await this.#encoder.session(wantsStates ? "states" : "image", (module, graph) =>
      trace(graph, module, this.config, wantsStates),
    );
    const { hidden_size, patches_per_side, num_hidden_layers, vision_use_head } = this.config;
    const images = pixel_values.dims[0]!;
    const state = (): Tensor => zeros([images, patches_per_side ** 2, hidden_size]);
    const last_hidden_state = state();
    const pooled = vision_use_head && { pooler_output: zeros([images, hidden_size]) };
    const hidden_states = wantsStates ? Array.from({ length: num_hidden_layers + 1 }, state) : [];
    const outputs = {
      last_hidden_state,
      ...pooled,
      ...Object.fromEntries(hidden_states.map((tensor, k) => [`state.${k}`, tensor])),
    };
    for (let i = 0; i < images; i++) await runImage(session, pixel_values, i, outputs, signal);
    return { last_hidden_state, ...pooled, ...(wantsStates && { hidden_states }) };
  }

  /** Bytes of the encoder's tensors in the checkpoint, and whether they were read. */
  memory(): Pick<Required<ModelMemory>, "parts"> {
    const { bytes, loaded } = this.#encoder;
    return { parts: { vision_encoder: { bytes, loaded } } };
  }

  /** Releases everything that the engine holds. */
  async dispose(): Promise<void> {
    await this.#encoder.dispose();
  }
}

/** Fills the rows of one image in the outputs, [images, ..] each, by the names that they have in the graph. */
async function runImage(
  session: Session,
  pixel_values: Tensor,
  index: number,
  outputs: Readonly<Record<string, Tensor>>,
  signal: AbortSignal | undefined,
): Promise<void> {
  const run = new RunValues(session);
  const rowOf = ({ data, dims }: Tensor): HostTensor => {
    const size = data.length / dims[0]!;
    const row = (data as Float32Array).subarray(index * size, (index + 1) * size);
    return float32(row, [1, ...dims.slice(1)]);
  };
  run.feed("pixel_values", rowOf(pixel_values));
  for (const [name, tensor] of Object.entries(outputs)) run.fetch(name, rowOf(tensor));
  await run.run(signal);
}

function checkInputs(inputs: SiglipVisionInputs, config: SiglipVisionConfig): void {
  rejectUnknownOptions(inputs, INPUTS, "SiglipVisionModel");
  checkPixels(inputs.pixel_values, config);
  for (const option of ["interpolate_pos_encoding", "output_attentions"] as const)
    if (inputs[option]) throw new InputError(`${option}: SiglipVisionModel does not do this yet`, { option });
}

function zeros(dims: readonly number[]): Tensor {
  const size = dims.reduce((product, dim) => product * dim, 1);
  return new Tensor("float32", new Float32Array(size), dims);
}

function trace(
  graph: Graph,
  module: SiglipVisionModelModule,
  config: SiglipVisionConfig,
  wantsStates: boolean,
): void {
  const { hidden, last } = module.forward(pixelInput(graph, config));
  graph.output("last_hidden_state", last);
  if (module.head !== undefined) graph.output("pooler_output", module.head.forward(last));
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
