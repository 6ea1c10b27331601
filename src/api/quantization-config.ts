/** HF's quantisation configurations, as far as their numbers can be had here. */
import type { LinearQuantization } from "../checkpoints/pack-plan.ts";
import { ConfigError, InputError, rejectUnknownOptions } from "../errors.ts";
import { isJsonObject } from "../models/config-reader.ts";
import { Linear } from "../nn/linear.ts";
import { type Module, namedModules, namedParameters } from "../nn/module.ts";
import { INT4_GROUPS } from "../quantization/torchao.ts";

/** Names of bitsandbytes' options, as in HF. */
export interface BitsAndBytesOptions {
  readonly load_in_4bit?: boolean;
  /** LLM.int8() rounds its inputs in a way of its own and can't be had; see `dtype: "q8"`. */
  readonly load_in_8bit?: boolean;
  readonly bnb_4bit_quant_type?: "nf4" | "fp4";
  /** Stores the blocks' scales in 8 bits: the numbers are those of double quantisation, memory is the same here. */
  readonly bnb_4bit_use_double_quant?: boolean;
  /** Checked only: arithmetic is float32. */
  readonly bnb_4bit_compute_dtype?: string;
  /** Checked only: codes are bytes. */
  readonly bnb_4bit_quant_storage?: string;
  /** Modules that stay as they are, in place of the output layer. */
  readonly llm_int8_skip_modules?: readonly string[] | null;
  readonly llm_int8_threshold?: number;
  readonly llm_int8_enable_fp32_cpu_offload?: boolean;
  readonly llm_int8_has_fp16_weight?: boolean;
  readonly quant_method?: string;
}

const BNB_DEFAULTS: Required<BitsAndBytesOptions> = {
  load_in_4bit: false,
  load_in_8bit: false,
  bnb_4bit_quant_type: "fp4",
  bnb_4bit_use_double_quant: false,
  bnb_4bit_compute_dtype: "float32",
  bnb_4bit_quant_storage: "uint8",
  llm_int8_skip_modules: null,
  llm_int8_threshold: 6,
  llm_int8_enable_fp32_cpu_offload: false,
  llm_int8_has_fp16_weight: false,
  quant_method: "bitsandbytes",
};

const CHOICES: Readonly<Partial<Record<keyof BitsAndBytesOptions, readonly unknown[]>>> = {
  bnb_4bit_quant_type: ["nf4", "fp4"],
  bnb_4bit_compute_dtype: ["float32", "float16", "bfloat16"],
  bnb_4bit_quant_storage: ["float16", "float32", "int8", "uint8", "float64", "bfloat16"],
  quant_method: ["bitsandbytes"],
};

/** bitsandbytes' block of 64, which HF always takes. */
const BNB_BLOCK = 64;

/** HF's BitsAndBytesConfig: linear layers in NF4 or FP4, quantised on load exactly as bitsandbytes does. */
export class BitsAndBytesConfig {
  readonly load_in_4bit: boolean;
  readonly load_in_8bit: boolean;
  readonly bnb_4bit_quant_type: "nf4" | "fp4";
  readonly bnb_4bit_use_double_quant: boolean;
  readonly bnb_4bit_compute_dtype: string;
  readonly bnb_4bit_quant_storage: string;
  readonly llm_int8_skip_modules: readonly string[] | null;
  readonly llm_int8_threshold: number;
  readonly llm_int8_enable_fp32_cpu_offload: boolean;
  readonly llm_int8_has_fp16_weight: boolean;
  readonly quant_method: string;

  constructor(options: BitsAndBytesOptions = {}) {
    rejectUnknownOptions(options, Object.keys(BNB_DEFAULTS), "BitsAndBytesConfig");
    const given = Object.fromEntries(
      Object.entries(options)
        .filter(([, value]) => value !== undefined)
        .map(([name, value]) => [name, typeof value === "string" ? value.replace(/^torch\./, "") : value]),
    );
    const all: Required<BitsAndBytesOptions> = { ...BNB_DEFAULTS, ...given };
    for (const [name, value] of Object.entries(all)) checkBnbOption(name as keyof BitsAndBytesOptions, value);
    if (all.load_in_4bit && all.load_in_8bit)
      throw new InputError("BitsAndBytesConfig: load_in_4bit and load_in_8bit exclude each other", {
        option: "load_in_8bit",
      });
    this.load_in_4bit = all.load_in_4bit;
    this.load_in_8bit = all.load_in_8bit;
    this.bnb_4bit_quant_type = all.bnb_4bit_quant_type;
    this.bnb_4bit_use_double_quant = all.bnb_4bit_use_double_quant;
    this.bnb_4bit_compute_dtype = all.bnb_4bit_compute_dtype;
    this.bnb_4bit_quant_storage = all.bnb_4bit_quant_storage;
    this.llm_int8_skip_modules = all.llm_int8_skip_modules;
    this.llm_int8_threshold = all.llm_int8_threshold;
    this.llm_int8_enable_fp32_cpu_offload = all.llm_int8_enable_fp32_cpu_offload;
    this.llm_int8_has_fp16_weight = all.llm_int8_has_fp16_weight;
    this.quant_method = all.quant_method;
  }
}

function checkBnbOption(name: keyof BitsAndBytesOptions, value: unknown): void {
  const choices = CHOICES[name];
  if (choices !== undefined && !choices.includes(value))
    throw new InputError(
      `BitsAndBytesConfig: ${name} must be one of ${choices.join(", ")}, got ${JSON.stringify(value)}`,
      { option: name },
    );
  if (name === "llm_int8_skip_modules") checkModuleList(value, "BitsAndBytesConfig", name);
  else if (typeof value !== typeof BNB_DEFAULTS[name])
    throw new InputError(
      `BitsAndBytesConfig: ${name} must be a ${typeof BNB_DEFAULTS[name]}, got ${JSON.stringify(value)}`,
      { option: name },
    );
}

/** Names of torchao's options, as in HF. */
export interface TorchAoOptions {
  /** Elements of a row that share a scale: 32, 64, 128 (the default) or 256; of int4 only. */
  readonly group_size?: number;
  /** Modules that stay as they are, in place of the output layer. */
  readonly modules_to_not_convert?: readonly string[] | null;
}

/** HF's TorchAoConfig, weight-only: "int4_weight_only" (float zero points) or "int8_weight_only" (a scale per row). */
export class TorchAoConfig {
  readonly quant_type: "int4_weight_only" | "int8_weight_only";
  readonly group_size: number;
  readonly modules_to_not_convert: readonly string[] | null;
  readonly quant_method = "torchao";

  constructor(quant_type: "int4_weight_only" | "int8_weight_only", options: TorchAoOptions = {}) {
    if (quant_type !== "int4_weight_only" && quant_type !== "int8_weight_only")
      throw new InputError(
        `TorchAoConfig: quant_type ${JSON.stringify(quant_type)} is not supported; expected "int4_weight_only" or "int8_weight_only"`,
        { option: "quant_type" },
      );
    const known = ["modules_to_not_convert", ...(quant_type === "int4_weight_only" ? ["group_size"] : [])];
    rejectUnknownOptions(options, known, `TorchAoConfig("${quant_type}")`);
    const { group_size = 128, modules_to_not_convert = null } = options;
    if (!INT4_GROUPS.includes(group_size))
      throw new InputError(
        `TorchAoConfig: group_size must be one of ${INT4_GROUPS.join(", ")}, got ${group_size}`,
        { option: "group_size" },
      );
    checkModuleList(modules_to_not_convert, "TorchAoConfig", "modules_to_not_convert");
    this.quant_type = quant_type;
    this.group_size = group_size;
    this.modules_to_not_convert = modules_to_not_convert;
  }
}

function checkModuleList(value: unknown, call: string, option: string): void {
  if (value === null || (Array.isArray(value) && value.every((name) => typeof name === "string"))) return;
  throw new InputError(`${call}: ${option} must be a list of module names`, { option });
}

/** A format of linear layers, and the modules that stay as they are. */
export interface ModelQuantization {
  readonly linear: LinearQuantization;
  /** HF's patterns; undefined stands for HF's own choice. */
  readonly skip?: readonly string[] | undefined;
}

/** `dtype: "nf4"`. */
export const NF4: ModelQuantization = {
  linear: { kind: "bnb4", quant_type: "nf4", block_size: BNB_BLOCK, double_quant: false },
};

/** Checks the option `quantization_config`: an instance of a configuration class, or its fields as an object. */
export function modelQuantization(config: unknown, call: string): ModelQuantization {
  if (config instanceof BitsAndBytesConfig) return bnbQuantization(config, call);
  if (config instanceof TorchAoConfig) {
    const { quant_type, group_size, modules_to_not_convert } = config;
    const linear: LinearQuantization =
      quant_type === "int4_weight_only" ? { kind: "int4", group_size } : { kind: "int8" };
    return { linear, skip: modules_to_not_convert ?? undefined };
  }
  if (isJsonObject(config) && config.quant_method === "torchao") {
    const { quant_method: _, quant_type, ...rest } = config;
    return modelQuantization(new TorchAoConfig(quant_type as TorchAoConfig["quant_type"], rest), call);
  }
  if (isJsonObject(config)) return bnbQuantization(new BitsAndBytesConfig(config), call);
  throw new InputError(`${call}: quantization_config must be a BitsAndBytesConfig or a TorchAoConfig`, {
    option: "quantization_config",
  });
}

function bnbQuantization(config: BitsAndBytesConfig, call: string): ModelQuantization {
  const { bnb_4bit_quant_type: quant_type, bnb_4bit_use_double_quant: double_quant } = config;
  if (config.load_in_8bit)
    throw new InputError(
      `${call}: load_in_8bit is not supported: LLM.int8() rounds inputs per token and keeps outliers apart, whose numbers can't be had here; dtype: "q8" stores weights in 8 bits`,
      { option: "load_in_8bit" },
    );
  if (!config.load_in_4bit)
    throw new InputError(`${call}: quantization_config asks for nothing; set load_in_4bit: true`, {
      option: "quantization_config",
    });
  return {
    linear: { kind: "bnb4", quant_type, block_size: BNB_BLOCK, double_quant },
    skip: config.llm_int8_skip_modules ?? undefined,
  };
}

/**
 * The weights that HF would quantise, by key: those of linear layers, but not of the output layer or whichever module
 * comes last (get_keys_to_not_convert of transformers' quantizers/base.py), unless a list says what to skip instead.
 */
export function quantizedLinears(
  module: Module,
  { linear, skip }: ModelQuantization,
): Map<string, LinearQuantization> {
  const last = [...namedParameters(module).keys()].at(-1) ?? "";
  const patterns = (skip ?? ["lm_head", last.replace(/\.weight$/, "")]).map(modulePattern);
  const linears = [...namedModules(module)].filter(
    ([path, part]) => part instanceof Linear && !patterns.some((matches) => matches(path)),
  );
  return new Map(linears.map(([path]) => [`${path}.weight`, linear]));
}

/** HF's should_convert_module: a name is skipped that a pattern matches from its start, or that ends with it. */
function modulePattern(pattern: string): (path: string) => boolean {
  let start: RegExp;
  try {
    start = new RegExp(`^(?:${pattern})`);
  } catch (cause) {
    throw new InputError(`quantization_config: ${JSON.stringify(pattern)} is no pattern of module names`, {
      option: "quantization_config",
      cause,
    });
  }
  return (path) => start.test(path) || path.endsWith(pattern);
}

/** Throws where config.json says that the checkpoint was saved in a form that can't be read. */
export function checkSavedQuantization(quantization_config: unknown): void {
  if (quantization_config === undefined || quantization_config === null) return;
  const method = isJsonObject(quantization_config) ? quantization_config.quant_method : undefined;
  if (method === "bitsandbytes") return;
  const advice =
    method === "torchao"
      ? "; load the original model and give quantization_config: new TorchAoConfig(…)"
      : "";
  throw new ConfigError(
    `checkpoints saved with ${JSON.stringify(method)} can't be read, only those of bitsandbytes${advice}`,
    { key: "quantization_config.quant_method" },
  );
}
