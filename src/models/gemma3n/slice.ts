/**
 * MatFormer ("MatFormer: Nested Transformer for Elastic Inference", 2023): smaller models lie inside the larger one, the
 * first units of each feed-forward layer, and may do without some layers.
 */
import { ConfigError, InputError, rejectUnknownOptions } from "../../errors.ts";
import type { LayerSlice } from "../../layer-slice.ts";
import type { JsonObject } from "../config-reader.ts";
import { keySources } from "../text-config.ts";
import { type Gemma3nTextConfig, gemma3nTextConfig } from "./config.ts";

/** What to keep of a model. */
export interface SliceOptions {
  /** Units of the feed-forward layers: of all, or a list with one number for each layer that stays. */
  readonly intermediate_size?: number | readonly number[];
  /** Numbers of the layers to leave out. */
  readonly skip_layers?: readonly number[];
}

/** "E2B" is the model that Google released out of E4B: without layers 20 to 24, half of every feed-forward layer. */
export type SliceOption = "E2B" | SliceOptions;

const E4B_LAYERS = 35;
const E2B_SKIPPED: readonly number[] = [20, 21, 22, 23, 24];

/** The configuration of a slice, in the form of the one given, and what it takes of the weights. */
export function sliceConfig(
  json: JsonObject,
  option: SliceOption,
): { readonly config: JsonObject; readonly slice: LayerSlice } {
  const { model_type } = json;
  if (model_type !== "gemma3n" && model_type !== "gemma3n_text")
    throw new ConfigError(`slice: a model of type ${JSON.stringify(model_type)} has no smaller one inside`, {
      key: "model_type",
    });
  const config = gemma3nTextConfig(json);
  const { intermediate_size, skip_layers } = namedSlice(config, option);
  const kept = keptLayers(config, skip_layers);
  const slice = {
    layers: config.num_hidden_layers,
    kept,
    intermediate_size: keptSizes(config, kept, intermediate_size),
    hidden_size_per_layer_input: config.hidden_size_per_layer_input,
  };
  const text = {
    ...(model_type === "gemma3n" ? (json.text_config as object) : json),
    ...slicedFields(config, slice),
  };
  return { config: model_type === "gemma3n" ? { ...json, text_config: text } : text, slice };
}

/** The same for a table of per-layer embeddings that stays whole: a model finds its layers' columns by this. */
export function withWholeTable(config: JsonObject, { layers, kept }: LayerSlice): JsonObject {
  const sliced_from = { num_hidden_layers: layers, kept };
  if (config.model_type !== "gemma3n") return { ...config, sliced_from };
  return { ...config, text_config: { ...(config.text_config as object), sliced_from } };
}

function namedSlice(config: Gemma3nTextConfig, option: SliceOption): SliceOptions {
  if (typeof option === "object" && option !== null) {
    rejectUnknownOptions(option, ["intermediate_size", "skip_layers"], "slice");
    return option;
  }
  if (option !== "E2B")
    throw new InputError(
      `slice: expected "E2B" or { intermediate_size, skip_layers }, got ${JSON.stringify(option)}`,
      { option: "slice" },
    );
  if (config.num_hidden_layers !== E4B_LAYERS)
    fail(`"E2B" is cut out of E4B's ${E4B_LAYERS} layers; this model has ${config.num_hidden_layers}`);
  const kept = config.intermediate_size.filter((_, layer) => !E2B_SKIPPED.includes(layer));
  return { skip_layers: E2B_SKIPPED, intermediate_size: kept.map((size) => Math.floor(size / 2)) };
}

/** Layers whose keys and values others read must stay as long as one of these does. */
function keptLayers(config: Gemma3nTextConfig, skip_layers: readonly number[] = []): number[] {
  const layers = config.num_hidden_layers;
  const skipped = new Set(skip_layers);
  for (const layer of skipped)
    if (!Number.isInteger(layer) || layer < 0 || layer >= layers)
      fail(`skip_layers: there is no layer ${JSON.stringify(layer)}, only 0 to ${layers - 1}`);
  const kept = config.layer_types.flatMap((_, layer) => (skipped.has(layer) ? [] : [layer]));
  if (kept.length === 0) fail("skip_layers: no layer is left");
  const sources = keySources(config);
  const orphan = kept.find((layer) => skipped.has(sources[layer]!));
  if (orphan !== undefined)
    fail(`skip_layers: layer ${sources[orphan]} must stay, for layer ${orphan} reads its keys and values`);
  return kept;
}

function keptSizes(
  config: Gemma3nTextConfig,
  kept: readonly number[],
  wanted: number | readonly number[] | undefined,
): number[] {
  if (Array.isArray(wanted) && wanted.length !== kept.length)
    fail(
      `intermediate_size: expected a number for each of ${kept.length} layers that stay, got ${wanted.length}`,
    );
  return kept.map((layer, i) => {
    const most = config.intermediate_size[layer]!;
    const size = wanted === undefined ? most : typeof wanted === "number" ? wanted : wanted[i]!;
    if (!Number.isInteger(size) || size < 1 || size > most)
      fail(`intermediate_size: layer ${layer} has ${most} units, ${JSON.stringify(size)} can't be kept`);
    return size;
  });
}

function slicedFields(config: Gemma3nTextConfig, { kept, intermediate_size }: LayerSlice): JsonObject {
  const firstSharing = config.num_hidden_layers - config.num_kv_shared_layers;
  return {
    num_hidden_layers: kept.length,
    intermediate_size,
    layer_types: kept.map((layer) => config.layer_types[layer]!),
    activation_sparsity_pattern: kept.map((layer) => config.activation_sparsity_pattern[layer]!),
    num_kv_shared_layers: kept.filter((layer) => layer >= firstSharing).length,
  };
}

function fail(message: string): never {
  throw new ConfigError(message, { key: "slice" });
}
