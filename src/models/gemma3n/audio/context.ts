import { type Dim, productOf } from "../../../graph/dims.ts";
import type { Graph, Value } from "../../../graph/graph.ts";
import type { Gemma3nAudioConfig } from "../audio-config.ts";

/** Names of the sizes that are open while tracing. */
export const BATCH = "batch";
export const FRAMES = "frames";
export const STEPS = "steps";
export const BLOCKS = "blocks";
export const TOKENS = "tokens";

/** Steps of all blocks, filled up. */
export function placesOf({ conf_attention_chunk_size }: Gemma3nAudioConfig): Dim {
  return productOf([conf_attention_chunk_size, BLOCKS]);
}

/** The graph's inputs about time; `AudioSteps` says what they hold. */
export interface AudioContext {
  /** int64 [places] */
  readonly step_index: Value;
  /** int64 [blocks, context] */
  readonly context_index: Value;
  /** int64 [tokens] */
  readonly token_index: Value;
  /** float32 [batch, places, 1] */
  readonly valid: Value;
  /** float32 [batch, blocks, 1, chunk, context] */
  readonly attention_bias: Value;
}

/** Declares the inputs. */
export function audioContext(graph: Graph, config: Gemma3nAudioConfig): AudioContext {
  const { conf_attention_chunk_size: chunk, context_size } = config;
  const places = placesOf(config);
  return {
    step_index: graph.input("step_index", "int64", [places]),
    context_index: graph.input("context_index", "int64", [BLOCKS, context_size]),
    token_index: graph.input("token_index", "int64", [TOKENS]),
    valid: graph.input("valid", "float32", [BATCH, places, 1]),
    attention_bias: graph.input("attention_bias", "float32", [BATCH, BLOCKS, 1, chunk, context_size]),
  };
}
