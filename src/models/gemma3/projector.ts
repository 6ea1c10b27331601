import type { Graph, Value } from "../../graph/graph.ts";
import { averagePool } from "../../graph/ops/conv.ts";
import { matMul } from "../../graph/ops/math.ts";
import { reshape, transpose } from "../../graph/ops/shape.ts";
import { GemmaRMSNorm } from "../../nn/gemma-rms-norm.ts";
import { floatWeight } from "../../nn/linear.ts";
import { Module, Parameter } from "../../nn/module.ts";
import type { SiglipVisionConfig } from "../siglip/config.ts";
import { pixelInput, SiglipVisionModule } from "../siglip/vision.ts";
import type { Gemma3Config } from "./multimodal-config.ts";

/**
 * From patches to the text model's vectors: the grid is averaged down to `mm_tokens_per_image`, normed, and multiplied
 * by a matrix that is stored as [vision, text].
 */
export class Gemma3MultiModalProjector extends Module {
  readonly mm_input_projection_weight: Parameter;
  readonly mm_soft_emb_norm: GemmaRMSNorm;
  readonly #side: number;
  readonly #kernel: number;

  constructor({ vision_config, text_config, pooling }: Gemma3Config) {
    super();
    const { hidden_size, layer_norm_eps, patches_per_side } = vision_config;
    this.mm_input_projection_weight = new Parameter([hidden_size, text_config.hidden_size], { plain: true });
    this.mm_soft_emb_norm = new GemmaRMSNorm(hidden_size, layer_norm_eps);
    this.#side = patches_per_side;
    this.#kernel = pooling;
  }

  /** x [images, patches, vision hidden_size] → [images, tokens, text hidden_size]. */
  forward(x: Value): Value {
    const [images, , width] = x.shape as [string, number, number];
    const grid = reshape(transpose(x, [0, 2, 1]), [images, width, this.#side, this.#side]);
    const pooled = averagePool(grid, this.#kernel); // [images, width, side / kernel, side / kernel]
    const tokens = Number(pooled.dim(2)) ** 2;
    const rows = transpose(reshape(pooled, [images, width, tokens]), [0, 2, 1]);
    const matrix = floatWeight(x.graph, this.mm_input_projection_weight);
    return matMul(this.mm_soft_emb_norm.forward(rows), matrix);
  }
}

/** What turns images into vectors of the text model; field names are the checkpoint's. */
export class Gemma3ImageEncoder extends Module {
  readonly vision_tower: SiglipVisionModule;
  readonly multi_modal_projector: Gemma3MultiModalProjector;

  constructor(config: Gemma3Config) {
    super();
    this.vision_tower = new SiglipVisionModule(config.vision_config);
    this.multi_modal_projector = new Gemma3MultiModalProjector(config);
  }
}

/** Traces `pixel_values` to `image_features`, the text model's vectors, and `last_hidden_state`, the encoder's. */
export function traceImageFeatures(
  graph: Graph,
  { vision_tower, multi_modal_projector }: Gemma3ImageEncoder,
  config: SiglipVisionConfig,
): void {
  const { last } = vision_tower.forward(pixelInput(graph, config));
  graph.output("last_hidden_state", last);
  graph.output("image_features", multi_modal_projector.forward(last));
}
