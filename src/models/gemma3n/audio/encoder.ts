/**
 * Gemma 3n's audio encoder, that of the Universal Speech Model ("Google USM", 2023): convolutions make a step of every
 * four frames, conformer blocks with local attention relate the steps, and every fourth of them is given. Time is open:
 * what depends on lengths and padding comes in as `AudioSteps`.
 */
import type { Graph, Value } from "../../../graph/graph.ts";
import { mul } from "../../../graph/ops/math.ts";
import { gather } from "../../../graph/ops/shape.ts";
import { Module } from "../../../nn/module.ts";
import type { Gemma3nAudioConfig } from "../audio-config.ts";
import { Gemma3nMultimodalEmbedder } from "../multimodal-embedder.ts";
import { Gemma3nAudioConformerBlock } from "./conformer.ts";
import { type AudioContext, audioContext, BATCH, FRAMES } from "./context.ts";
import { Gemma3nAudioSubSampleConvProjection } from "./subsample.ts";

export class Gemma3nAudioEncoder extends Module {
  override readonly manyRows = true;
  readonly subsample_conv_projection: Gemma3nAudioSubSampleConvProjection;
  readonly conformer: readonly Gemma3nAudioConformerBlock[];

  constructor(config: Gemma3nAudioConfig) {
    super();
    this.subsample_conv_projection = new Gemma3nAudioSubSampleConvProjection(config);
    this.conformer = Array.from(
      { length: config.conf_num_hidden_layers },
      () => new Gemma3nAudioConformerBlock(config),
    );
  }

  /** Steps [batch, steps, hidden_size], as the sub-sampling gives them, to [batch, tokens, hidden_size]. */
  forward(steps: Value, context: AudioContext): Value {
    const blocks = gather(steps, context.step_index, 1); // [batch, places, hidden_size]
    const encoded = this.conformer.reduce((x, block) => block.forward(x, context), blocks);
    return gather(mul(encoded, context.valid), context.token_index, 1);
  }
}

/** The encoder and what brings its output into the text model's space. */
export class Gemma3nAudioTower extends Module {
  readonly audio_tower: Gemma3nAudioEncoder;
  readonly embed_audio: Gemma3nMultimodalEmbedder;

  /** `hidden_size` is the text model's. */
  constructor(config: Gemma3nAudioConfig, hidden_size: number) {
    super();
    this.audio_tower = new Gemma3nAudioEncoder(config);
    this.embed_audio = new Gemma3nMultimodalEmbedder(config, hidden_size);
  }
}

/**
 * Emits the graph of `get_audio_features`: `input_features` [batch, frames, input_feat_size] and the inputs of
 * `AudioContext` to `encoder_output` [batch, tokens, audio hidden_size] and `audio_features` [batch, tokens, hidden_size],
 * both 0 at padding; `subsample_conv_projection` [batch, steps, audio hidden_size] for those who compare.
 */
export function traceAudioFeatures(graph: Graph, tower: Gemma3nAudioTower, config: Gemma3nAudioConfig): void {
  const input_features = graph.input("input_features", "float32", [BATCH, FRAMES, config.input_feat_size]);
  const context = audioContext(graph, config);
  const steps = tower.audio_tower.subsample_conv_projection.forward(input_features);
  const encoded = tower.audio_tower.forward(steps, context);
  graph.output("subsample_conv_projection", steps);
  graph.output("encoder_output", encoded);
  graph.output("audio_features", tower.embed_audio.forward(encoded));
}
