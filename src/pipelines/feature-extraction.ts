import { normalizeVectors, type PoolingMode, pool } from "../api/pooling.ts";
import type { TokenEncoder } from "../api/sentence-transformer.ts";
import { InputError, rejectUnknownOptions } from "../errors.ts";
import { Tensor } from "../tensor.ts";
import { Pipeline, type PipelineModel } from "./base.ts";

/** Options of the call, as in Transformers.js. */
export interface FeatureExtractionOptions {
  /** "none" (default): a vector for each token; else one for each text. */
  readonly pooling?: "none" | "mean" | "cls" | "first_token" | "last_token" | "eos";
  /** Brings every vector to length 1. */
  readonly normalize?: boolean;
  /** One bit a number, eight numbers a byte. */
  readonly quantize?: boolean;
  readonly precision?: "binary" | "ubinary";
  readonly signal?: AbortSignal;
}

/** Vectors: float32 [texts, tokens, size], with pooling [texts, size], with quantize (u)int8 [texts, size / 8]. */
export type FeatureExtractionCall = (
  texts: string | readonly string[],
  options?: FeatureExtractionOptions,
) => Promise<Tensor>;

/** What the pipeline needs of a model without a head. */
export type FeatureModel = PipelineModel & TokenEncoder;

const OPTIONS = ["pooling", "normalize", "quantize", "precision", "signal"] as const;

/** Transformers.js' names of poolings. */
const POOLINGS: Readonly<Record<string, PoolingMode | undefined>> = {
  none: undefined,
  mean: "mean",
  cls: "cls",
  first_token: "cls",
  last_token: "lasttoken",
  eos: "lasttoken",
};

/** Vectors of tokens or texts, as the model's last layer gives them. */
export class FeatureExtractionPipeline extends Pipeline<FeatureExtractionCall, FeatureModel> {
  async _call(texts: string | readonly string[], options: FeatureExtractionOptions = {}): Promise<Tensor> {
    rejectUnknownOptions(options, OPTIONS, "feature-extraction");
    const { pooling = "none", normalize, quantize, precision = "binary", signal } = options;
    if (!Object.hasOwn(POOLINGS, pooling))
      throw new InputError(
        `pooling: expected ${Object.keys(POOLINGS).join(", ")}, got ${JSON.stringify(pooling)}`,
        { option: "pooling" },
      );
    const { input_ids, attention_mask } = this.tokenizer(texts, { padding: true, truncation: true });
    const { last_hidden_state } = await this.model({
      input_ids,
      attention_mask,
      use_cache: false,
      ...(signal === undefined ? {} : { signal }),
    });
    const mode = POOLINGS[pooling];
    const vectors = mode === undefined ? last_hidden_state : pool(last_hidden_state, attention_mask, mode);
    const scaled = normalize === true ? normalizeVectors(vectors) : vectors;
    return quantize === true ? quantizeVectors(scaled, precision) : scaled;
  }
}

/** The sign of every number as a bit, the first in the highest place; "binary" bytes are shifted by -128. */
function quantizeVectors(vectors: Tensor, precision: "binary" | "ubinary"): Tensor {
  if (precision !== "binary" && precision !== "ubinary")
    throw new InputError(`precision: expected binary or ubinary, got ${JSON.stringify(precision)}`, {
      option: "precision",
    });
  const size = vectors.dims.at(-1)!;
  if (vectors.dims.length !== 2 || size % 8 !== 0)
    throw new InputError(
      `quantize: pooled vectors whose size is a multiple of 8 expected, got [${vectors.dims.join(", ")}]`,
      { option: "quantize" },
    );
  const bytes = new Uint8Array(vectors.size / 8);
  vectors.data.forEach((value: number | bigint, i: number) => {
    if (value > 0) bytes[i >> 3]! |= 0x80 >> (i & 7);
  });
  const dims = [vectors.dims[0]!, size / 8];
  if (precision === "ubinary") return new Tensor("uint8", bytes, dims);
  return new Tensor(
    "int8",
    Int8Array.from(bytes, (byte) => byte - 128),
    dims,
  );
}
