import { type ConfigReader, isJsonObject } from "./config-reader.ts";
import type { LayerType } from "./decoder-inputs.ts";

/** Rotary position embedding of one kind of layer: angle = position / factor · theta^(-2i / head_dim). */
export interface RopeParameters {
  readonly rope_type: "default" | "linear";
  readonly rope_theta: number;
  /** Positions are divided by it. 1 for "default". */
  readonly factor: number;
}

/**
 * One entry in either spelling: `rope_parameters.<kind>` of transformers 5, or `rope_scaling` of transformers 4 with
 * the base beside it.
 */
export function readRopeParameters(
  config: ConfigReader,
  key: string,
  entry: unknown,
  defaultTheta: number,
): RopeParameters {
  if (entry === undefined || entry === null)
    return { rope_type: "default", rope_theta: defaultTheta, factor: 1 };
  if (!isJsonObject(entry)) config.fail(key, `expected an object, got ${JSON.stringify(entry)}`);
  const rope_type = entry["rope_type"] ?? entry["type"] ?? "default";
  const rope_theta = entry["rope_theta"] ?? defaultTheta;
  if (typeof rope_theta !== "number" || !(rope_theta > 0))
    config.fail(key, `rope_theta must be a positive number, got ${JSON.stringify(rope_theta)}`);
  if (rope_type === "default") return { rope_type, rope_theta, factor: 1 };
  if (rope_type !== "linear")
    config.fail(
      key,
      `rope_type ${JSON.stringify(rope_type)} is not supported; Gemma's are "default" and "linear"`,
    );
  const { factor } = entry;
  if (typeof factor !== "number" || !(factor > 0))
    config.fail(key, `factor must be a positive number, got ${JSON.stringify(factor)}`);
  return { rope_type, rope_theta, factor };
}

/** The ropes of models whose sliding layers have one of their own: bases of 1e6 and 1e4 where none are given, scaling in global layers only. */
export function readLocalGlobalRope(read: ConfigReader): Record<LayerType, RopeParameters> {
  const theta = read.positiveNumber("rope_theta", 1_000_000);
  const localTheta = read.positiveNumber("rope_local_base_freq", 10_000);
  const scaling = read.raw("rope_scaling");
  const parameters = read.raw("rope_parameters");
  if (parameters === undefined) {
    return {
      full_attention: readRopeParameters(read, "rope_scaling", scaling, theta),
      sliding_attention: { rope_type: "default", rope_theta: localTheta, factor: 1 },
    };
  }
  if (!isJsonObject(parameters))
    read.fail("rope_parameters", `expected an object, got ${JSON.stringify(parameters)}`);
  // A flat object (one kind of rope for all layers) is how transformers 5 keeps an unconverted rope_scaling.
  const full =
    "full_attention" in parameters || "sliding_attention" in parameters
      ? parameters["full_attention"]
      : parameters;
  return {
    full_attention: readRopeParameters(read, "rope_parameters.full_attention", full, theta),
    sliding_attention: readRopeParameters(
      read,
      "rope_parameters.sliding_attention",
      parameters["sliding_attention"],
      localTheta,
    ),
  };
}
