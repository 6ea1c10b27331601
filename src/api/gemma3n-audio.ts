import { InputError } from "../errors.ts";
import { float32, RunValues } from "../generation/decoder-model.ts";
import { type Gemma3nAudioTower, traceAudioFeatures } from "../models/gemma3n/audio/encoder.ts";
import { type AudioSteps, audioLengths, audioSteps } from "../models/gemma3n/audio/steps.ts";
import type { Gemma3nAudioConfig } from "../models/gemma3n/audio-config.ts";
import { Tensor } from "../tensor.ts";
import type { EncoderPart } from "./encoder-part.ts";

/** What the feature extractor gives. */
export interface AudioTowerInputs {
  /** float32 [clips, frames, input_feat_size] */
  readonly input_features: Tensor;
  /** [clips, frames], 0 at padding; absent: all is sound. */
  readonly input_features_mask?: Tensor | null;
}

/** What sounds become, under the names of HF's Gemma3nAudioEncoderModelOutput. */
export interface AudioTowerOutput {
  /** float32 [clips, tokens, audio hidden_size]: what the encoder gives, 0 at padding. */
  readonly last_hidden_state: Tensor;
  /** float32 [clips, tokens, hidden_size]: the vectors that take the places of `<audio_soft_token>`. */
  readonly pooler_output: Tensor;
  /** bool [clips, tokens]: 1 at padding, as in HF. */
  readonly audio_mel_mask: Tensor;
  /** float32 [clips, steps, audio hidden_size]: what the encoder's convolutions give, where it was asked for. */
  readonly subsample_conv_projection?: Tensor;
}

/** Reads sounds for Gemma 3n: the audio encoder and its embedder, whose weights are loaded with the first sound. */
export class Gemma3nAudio {
  readonly part: EncoderPart<Gemma3nAudioTower>;
  readonly #config: Gemma3nAudioConfig;
  readonly #hidden_size: number;

  /** `hidden_size` is the text model's; the part's checkpoint has keys `audio_tower.…` and `embed_audio.…`. */
  constructor(config: Gemma3nAudioConfig, hidden_size: number, part: EncoderPart<Gemma3nAudioTower>) {
    this.part = part;
    this.#config = config;
    this.#hidden_size = hidden_size;
  }

  /** `get_audio_features` of the model classes. */
  async features(
    inputs: AudioTowerInputs,
    { subsampled = false, signal }: { readonly subsampled?: boolean; readonly signal?: AbortSignal } = {},
  ): Promise<AudioTowerOutput> {
    this.check(inputs);
    const features = inputs.input_features.data as Float32Array;
    const [clips, frames] = inputs.input_features.dims as [number, number];
    const mask = soundMask(inputs);
    const { steps, tokens } = audioLengths(this.#config, frames);
    const { hidden_size, input_feat_size } = this.#config;
    const size = frames * input_feat_size;
    const last_hidden_state = zeros([clips, tokens, hidden_size]);
    const pooler_output = zeros([clips, tokens, this.#hidden_size]);
    const subsample_conv_projection = subsampled ? zeros([clips, steps, hidden_size]) : undefined;
    const audio_mel_mask = new Tensor("bool", new Uint8Array(clips * tokens), [clips, tokens]);
    // One clip at a time: the convolutions of 30 s take a quarter of a GiB, and an abort takes effect in between.
    for (let clip = 0; clip < clips; clip++) {
      const clipSteps = audioSteps(
        this.#config,
        mask.subarray(clip * frames, (clip + 1) * frames),
        1,
        frames,
      );
      await this.#run(
        features.subarray(clip * size, (clip + 1) * size),
        clipSteps,
        {
          encoder_output: last_hidden_state[clip]!,
          audio_features: pooler_output[clip]!,
          ...(subsample_conv_projection && { subsample_conv_projection: subsample_conv_projection[clip]! }),
        },
        signal,
      );
      audio_mel_mask.data.set(clipSteps.token_mask.map((sound) => 1 - sound) as never, clip * tokens);
    }
    return {
      last_hidden_state,
      pooler_output,
      audio_mel_mask,
      ...(subsample_conv_projection && { subsample_conv_projection }),
    };
  }

  async #run(
    features: Float32Array,
    steps: AudioSteps,
    outputs: Readonly<Record<string, Tensor>>,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const { conf_attention_chunk_size: chunk, context_size, input_feat_size } = this.#config;
    const { frames, blocks, tokens } = steps.lengths;
    const session = await this.part.session("audio features", (module, graph) =>
      traceAudioFeatures(graph, module, this.#config),
    );
    const run = new RunValues(session);
    run.feed("input_features", float32(features, [1, frames, input_feat_size]));
    run.feed("step_index", { type: "int64", data: steps.step_index, dims: [blocks * chunk] });
    run.feed("context_index", { type: "int64", data: steps.context_index, dims: [blocks, context_size] });
    run.feed("token_index", { type: "int64", data: steps.token_index, dims: [tokens] });
    run.feed("valid", float32(steps.valid, [1, blocks * chunk, 1]));
    run.feed("attention_bias", float32(steps.attention_bias, [1, blocks, 1, chunk, context_size]));
    for (const [name, { data, dims }] of Object.entries(outputs))
      run.fetch(name, float32(data as Float32Array, [1, ...dims]));
    await run.run(signal);
  }

  /** Throws where a feature extractor's output does not fit this model, or its mask the features. */
  check({ input_features, input_features_mask }: AudioTowerInputs): void {
    const { input_feat_size } = this.#config;
    const [clips, frames, width] = input_features?.dims ?? [];
    const fits = input_features?.type === "float32" && input_features.dims.length === 3;
    if (!fits || !clips || !frames || width !== input_feat_size) {
      throw new InputError(
        `input_features: expected float32 [clips, frames, ${input_feat_size}], got ${nameOf(input_features)}`,
        { option: "input_features" },
      );
    }
    const mask = input_features_mask ?? undefined;
    if (mask !== undefined && mask.dims?.join() !== `${clips},${frames}`) {
      throw new InputError(
        `input_features_mask: expected [${clips}, ${frames}], as input_features have, got ${nameOf(mask)}`,
        { option: "input_features_mask" },
      );
    }
  }
}

/** 1 where there is sound, [clips * frames]; without a mask everywhere. */
function soundMask({ input_features, input_features_mask }: AudioTowerInputs): Uint8Array {
  if (input_features_mask == null) {
    const [clips, frames] = input_features.dims as [number, number];
    return new Uint8Array(clips * frames).fill(1);
  }
  return Uint8Array.from(input_features_mask.data as ArrayLike<number | bigint>, (bit) =>
    Number(bit) === 0 ? 0 : 1,
  );
}

/**
 * The vectors that take the places of a prompt's `count` audio tokens, for each clip [count * hidden_size]: the clip's
 * own, and `padding` where it is shorter or padded, as in HF.
 */
export function audioTokens(output: AudioTowerOutput, count: number, padding: Float32Array): Float32Array[] {
  const { pooler_output, audio_mel_mask } = output;
  const [clips, tokens, width] = pooler_output.dims as [number, number, number];
  if (tokens > count) {
    throw new InputError(
      `input_features: give ${tokens} vectors a clip, but a prompt has places for ${count}`,
      {
        option: "input_features",
      },
    );
  }
  return Array.from({ length: clips }, (_, clip) => {
    const filled = new Float32Array(count * width);
    for (let token = 0; token < count; token++) {
      const isSound = token < tokens && audio_mel_mask.data[clip * tokens + token] === 0;
      const at = (clip * tokens + token) * width;
      filled.set(
        isSound ? (pooler_output.data as Float32Array).subarray(at, at + width) : padding,
        token * width,
      );
    }
    return filled;
  });
}

function zeros(dims: readonly number[]): Tensor {
  const size = dims.reduce((product, dim) => product * dim, 1);
  return new Tensor("float32", new Float32Array(size), dims);
}

function nameOf(tensor: unknown): string {
  return tensor instanceof Tensor ? `${tensor.type} [${tensor.dims.join(", ")}]` : typeof tensor;
}
