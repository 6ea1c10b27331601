import type { Gemma3nAudioConfig } from "../audio-config.ts";

/** How long the stages of the encoder are for so many frames. */
export interface AudioLengths {
  readonly frames: number;
  /** After both convolutions. */
  readonly steps: number;
  /** Blocks of `conf_attention_chunk_size` steps; the last one may be filled up. */
  readonly blocks: number;
  /** Vectors that the encoder gives. */
  readonly tokens: number;
}

/** What the encoder's graph needs to know about time, made outside of it: which steps are where, and which are sound. */
export interface AudioSteps {
  readonly lengths: AudioLengths;
  /** [blocks * chunk]: the step at each place of the blocks; the last step again where they are filled up. */
  readonly step_index: BigInt64Array;
  /** [blocks, context]: the places that a block's queries look at. */
  readonly context_index: BigInt64Array;
  /** [tokens]: the places of the steps that are given. */
  readonly token_index: BigInt64Array;
  /** [batch, blocks * chunk]: 1 at sound, 0 at padding. */
  readonly valid: Float32Array;
  /** [batch, blocks, chunk, context]: 0 where a query sees a key, else the lowest float32. */
  readonly attention_bias: Float32Array;
  /** [batch, tokens]: 1 at sound. */
  readonly token_mask: Uint8Array;
}

const LOWEST = -3.4028234663852886e38;

export function audioLengths(config: Gemma3nAudioConfig, frames: number): AudioLengths {
  // Convolutions look ahead only: one step for every frame that a stride begins at.
  const steps = config.sscp_conv_stride_size.reduce(
    (length, [stride]) => Math.floor((length - 1) / stride) + 1,
    frames,
  );
  return {
    frames,
    steps,
    blocks: Math.ceil(steps / config.conf_attention_chunk_size),
    tokens: Math.ceil(steps / config.conf_reduction_factor),
  };
}

/** `mask` [batch, frames]: other than 0 at sound. */
export function audioSteps(
  config: Gemma3nAudioConfig,
  mask: ArrayLike<number>,
  batch: number,
  frames: number,
): AudioSteps {
  const lengths = audioLengths(config, frames);
  const { steps, blocks, tokens } = lengths;
  const { conf_attention_chunk_size: chunk, context_size: context, past_steps: past } = config;
  const places = blocks * chunk;
  const clamp = (place: number): number => Math.min(Math.max(place, 0), places - 1);
  const valid = validSteps(config, mask, batch, lengths, places);
  const token_index = integers(tokens, (i) => i * config.conf_reduction_factor);
  return {
    lengths,
    step_index: integers(places, (i) => Math.min(i, steps - 1)),
    context_index: integers(blocks * context, (i) =>
      clamp(Math.floor(i / context) * chunk + (i % context) - past),
    ),
    token_index,
    valid,
    attention_bias: attentionBias(config, valid, batch, lengths),
    token_mask: Uint8Array.from({ length: batch * tokens }, (_, i) => {
      return valid[Math.floor(i / tokens) * places + Number(token_index[i % tokens])]!;
    }),
  };
}

/** A step counts as sound when the frame does where its strides begin. */
function validSteps(
  config: Gemma3nAudioConfig,
  mask: ArrayLike<number>,
  batch: number,
  { frames, steps }: AudioLengths,
  places: number,
): Float32Array {
  const stride = config.sscp_conv_stride_size.reduce((product, [time]) => product * time, 1);
  return Float32Array.from({ length: batch * places }, (_, i) => {
    const row = Math.floor(i / places);
    const step = i % places;
    return step < steps && mask[row * frames + Math.min(step * stride, frames - 1)] ? 1 : 0;
  });
}

/** A query sees the steps around it, as far as they exist and are sound. */
function attentionBias(
  config: Gemma3nAudioConfig,
  valid: Float32Array,
  batch: number,
  { blocks }: AudioLengths,
): Float32Array {
  const { conf_attention_chunk_size: chunk, context_size: context, past_steps: past } = config;
  const span = past + config.conf_attention_context_right;
  const places = blocks * chunk;
  const bias = new Float32Array(batch * blocks * chunk * context).fill(LOWEST);
  for (let row = 0; row < batch; row++) {
    for (let place = 0; place < places; place++) {
      const within = place % chunk;
      for (let offset = 0; offset <= span; offset++) {
        const key = place + offset - past;
        if (key < 0 || key >= places || valid[row * places + key] === 0) continue;
        bias[(row * places + place) * context + within + offset] = 0;
      }
    }
  }
  return bias;
}

function integers(length: number, value: (i: number) => number): BigInt64Array {
  return BigInt64Array.from({ length }, (_, i) => BigInt(value(i)));
}
