import type { Graph, Value } from "../../../graph/graph.ts";
import { scale } from "../../../graph/ops/math.ts";
import { reshape, transpose } from "../../../graph/ops/shape.ts";
import { Module } from "../../../nn/module.ts";
import { Gemma3nMultimodalEmbedder } from "../multimodal-embedder.ts";
import type { Gemma3nVisionConfig } from "../vision-config.ts";
import { MobileNetV5Encoder } from "./mobilenet-v5.ts";

/** The encoder under the name that HF's wrapper of timm's models gives it. */
export class Gemma3nVisionTower extends Module {
  readonly timm_model: MobileNetV5Encoder;

  constructor({ tower }: Gemma3nVisionConfig) {
    super();
    this.timm_model = new MobileNetV5Encoder(tower);
  }
}

/** What turns images into vectors of the text model; field names are the checkpoint's. */
export class Gemma3nImageEncoder extends Module {
  readonly vision_tower: Gemma3nVisionTower;
  readonly embed_vision: Gemma3nMultimodalEmbedder;

  /** `text_hidden_size` is the text model's hidden_size. */
  constructor(config: Gemma3nVisionConfig, text_hidden_size: number) {
    super();
    this.vision_tower = new Gemma3nVisionTower(config);
    this.embed_vision = new Gemma3nMultimodalEmbedder(config, text_hidden_size);
  }
}

/** An output of a traced tower and its dimensions. */
export interface TracedOutput {
  readonly name: string;
  readonly dims: readonly number[];
}

/** The vectors that the text model gets of an image. */
export const IMAGE_FEATURES = "image_features";

/** What the tower gives, in planes. */
export const LAST_HIDDEN_STATE = "last_hidden_state";

/** The maps of the stem and of each stage, in planes, as HF numbers the tower's hidden states. */
export const HIDDEN_STATES = "hidden_states.";

/**
 * Traces `pixel_values` of one image [1, channels, height, width] to `image_features` [1, tokens, text_hidden_size], and to
 * the tower's own outputs where they are wanted: `last_hidden_state`, or `hidden_states` too.
 */
export function traceImageFeatures(
  graph: Graph,
  { vision_tower, embed_vision }: Gemma3nImageEncoder,
  pixels: readonly number[],
  wants: "features" | "last" | "all",
): TracedOutput[] {
  const { fused, maps } = vision_tower.timm_model.forward(graph.input("pixel_values", "float32", pixels));
  const [, height, width, channels] = fused.shape as readonly [number, number, number, number];
  const rows = reshape(fused, [1, height * width, channels]);
  const outputs: [string, Value][] = [[IMAGE_FEATURES, embed_vision.forward(scale(rows, channels ** 0.5))]];
  if (wants !== "features") outputs.push([LAST_HIDDEN_STATE, planes(fused)]);
  if (wants === "all")
    outputs.push(...maps.map((map, i): [string, Value] => [HIDDEN_STATES + i, planes(map)]));
  return outputs.map(([name, value]) => {
    graph.output(name, value);
    return { name, dims: value.shape as readonly number[] };
  });
}

/** A map with its channels first, as HF has it. */
function planes(map: Value): Value {
  return transpose(map, [0, 3, 1, 2]);
}
