import { checkWeightDtype, type StorageDtype, type WeightDtype } from "../checkpoints/pack-plan.ts";
import { InputError, rejectUnknownOptions } from "../errors.ts";
import type { SliceOption } from "../models/gemma3n/slice.ts";
import type { EngineChoice } from "../runtime/engine.ts";
import type { Device } from "../runtime/session.ts";
import type { AdapterOption } from "./adapter-files.ts";
import {
  type BitsAndBytesConfig,
  type ModelQuantization,
  modelQuantization,
  NF4,
  type TorchAoConfig,
} from "./quantization-config.ts";

/** What happens while a model is fetched and prepared, in Transformers.js' form. */
export interface ProgressInfo {
  readonly status: string;
  readonly name?: string;
  readonly file?: string;
  /** Percent. */
  readonly progress?: number;
  /** Bytes. */
  readonly loaded?: number;
  readonly total?: number;
}

export type ProgressCallback = (info: ProgressInfo) => void;

/** Torch's names of dtypes. */
export type TorchDtype = keyof typeof TORCH_DTYPES;

/** Storage of the weights, for all parts or part by part. */
export type DtypeOption = WeightDtype | TorchDtype | Readonly<Record<string, WeightDtype | TorchDtype>>;

/** Options of every `from_pretrained`; names are Transformers.js' and HF's. */
export interface PretrainedOptions {
  /** "auto" keeps the checkpoint's own precision. */
  readonly dtype?: DtypeOption;
  /** Quantises linear layers on load; `dtype` then says how the rest is stored. */
  readonly quantization_config?: BitsAndBytesConfig | TorchAoConfig | null;
  /** HF's older name of `dtype`. */
  readonly torch_dtype?: DtypeOption;
  readonly device?: Device | "auto" | "gpu";
  /** HF's placement option; "auto" and device names mean what they mean for `device`. */
  readonly device_map?: string;
  readonly revision?: string;
  /** Folder of the hub cache. */
  readonly cache_dir?: string;
  readonly local_files_only?: boolean;
  readonly subfolder?: string;
  /** A configuration to take instead of config.json: an object, or an instance of a config class. */
  readonly config?: object;
  readonly progress_callback?: ProgressCallback | null;
  /** "sdpa" or "eager": the runtime chooses the kernel, and attention weights are given when they are asked for. */
  readonly attn_implementation?: string;
  /** Threads inside one operator. */
  readonly threads?: number;
  readonly engine?: EngineChoice;
  /** Where a model comes from: "auto", the hub, or the pinned package. */
  readonly source?: "auto" | "hub" | "pypi";
  /** A file of the repository, e.g. one of several .gguf files. */
  readonly file?: string;
  /** The image encoder's file beside a GGUF text model's (llama.cpp's mmproj), where it is not alone in the folder. */
  readonly mmproj?: string | null;
  /** A LoRA adapter: its path, which merges it into the weights, or `{ path, merge: false }`. */
  readonly adapter?: string | AdapterOption | null;
  /** The smaller model inside this one to load (Gemma 3n): "E2B" of E4B, or what to keep. */
  readonly slice?: SliceOption | null;
  readonly signal?: AbortSignal;
}

const KNOWN: readonly (keyof PretrainedOptions)[] = [
  "dtype",
  "torch_dtype",
  "quantization_config",
  "device",
  "device_map",
  "revision",
  "cache_dir",
  "local_files_only",
  "subfolder",
  "config",
  "progress_callback",
  "attn_implementation",
  "threads",
  "engine",
  "source",
  "file",
  "mmproj",
  "adapter",
  "slice",
  "signal",
];

/** Options that `from_pretrained` of a model has checked. */
export interface ModelOptions {
  readonly dtype: StorageDtype;
  /** Storage of the embedding table, which most models share with their output layer. */
  readonly tablesDtype: StorageDtype;
  /** What linear layers are stored in instead. */
  readonly quantization: ModelQuantization | undefined;
  readonly device: Device;
  readonly threads: number | undefined;
  readonly engine: EngineChoice;
  /** Storage of the encoders' weights, by their names in `dtype` maps. */
  readonly encoders: Readonly<Record<EncoderName, PartStorage>>;
}

/** How the weights of one part of a model are stored. */
export type PartStorage = Pick<ModelOptions, "dtype" | "tablesDtype" | "quantization">;

/** Parts that read what is not text. */
export type EncoderName = (typeof ENCODER_PARTS)[number];

/** Part names of Transformers.js' repositories and ours, for `dtype` maps. Parts that a model does not have are ignored. */
const DECODER_PARTS = ["decoder", "decoder_model_merged", "model"];
const TABLE_PARTS = ["embed_tokens"];
const ENCODER_PARTS = ["vision_encoder", "audio_encoder"] as const;
const OTHER_PARTS = ["encoder_model"];

/** Throws for options that do not exist. */
export function checkPretrainedOptions(options: object, call: string): void {
  const { config } = options as PretrainedOptions;
  if (config !== undefined && (typeof config !== "object" || config === null))
    throw new InputError(`${call}: config must be an object or an instance of a config class`, {
      option: "config",
    });
  rejectUnknownOptions(options, KNOWN, call);
}

export function modelOptions(options: PretrainedOptions, call: string): ModelOptions {
  checkPretrainedOptions(options, call);
  checkAttention(options.attn_implementation, call);
  const given = options.dtype ?? options.torch_dtype ?? "auto";
  const parts = typeof given === "object" ? given : { decoder: given };
  rejectUnknownOptions(
    parts,
    [...DECODER_PARTS, ...TABLE_PARTS, ...ENCODER_PARTS, ...OTHER_PARTS],
    `${call}: dtype`,
  );
  const part = (names: readonly string[]): WeightDtype | undefined => {
    const name = names.find((candidate) => parts[candidate] !== undefined);
    return name === undefined ? undefined : checkWeightDtype(normalDtype(parts[name]), "dtype");
  };
  const decoder = part(DECODER_PARTS) ?? "auto";
  const dtype = decoder === "nf4" ? "auto" : decoder;
  const tables = part(TABLE_PARTS) ?? dtype;
  if (tables === "nf4")
    throw new InputError(`${call}: dtype "nf4" is for linear layers; embed_tokens can't be stored in it`, {
      option: "dtype",
    });
  const quantization = chooseQuantization(options.quantization_config, decoder, call);
  const encoder = (name: EncoderName): PartStorage =>
    encoderStorage(
      part([name]),
      decoder,
      options.quantization_config ? { dtype, tablesDtype: dtype, quantization } : undefined,
    );
  return {
    dtype,
    tablesDtype: tables,
    quantization,
    encoders: { vision_encoder: encoder("vision_encoder"), audio_encoder: encoder("audio_encoder") },
    device: chooseDevice(options.device ?? options.device_map),
    threads: checkThreads(options.threads),
    engine: options.engine ?? "auto",
  };
}

/**
 * What an encoder's weights are stored in. A quantization_config is for all linear layers, as in HF. Else, without a
 * word of its own, an encoder goes with the decoder, but in 8 bits where that has 4: it runs once for an image, so that its speed does not hang on the bytes of its weights, and its vectors are all
 * that the decoder ever sees of the image.
 */
function encoderStorage(
  given: WeightDtype | undefined,
  decoder: WeightDtype,
  configured: PartStorage | undefined,
): PartStorage {
  if (given === undefined && configured !== undefined) return configured;
  const dtype = given ?? (decoder === "q4" || decoder === "nf4" ? "q8" : decoder);
  if (dtype === "nf4") return { dtype: "auto", tablesDtype: "auto", quantization: NF4 };
  return { dtype, tablesDtype: dtype, quantization: undefined };
}

/** Linear layers are quantised by one option only. */
function chooseQuantization(
  config: PretrainedOptions["quantization_config"],
  dtype: WeightDtype,
  call: string,
): ModelQuantization | undefined {
  if (config === undefined || config === null) return dtype === "nf4" ? NF4 : undefined;
  if (dtype === "nf4" || dtype === "q4" || dtype === "q8")
    throw new InputError(`${call}: dtype "${dtype}" and quantization_config both quantise; leave one out`, {
      option: "dtype",
    });
  return modelQuantization(config, call);
}

const TORCH_DTYPES = {
  float32: "fp32",
  "torch.float32": "fp32",
  float16: "fp16",
  "torch.float16": "fp16",
  bfloat16: "bf16",
  "torch.bfloat16": "bf16",
  int8: "q8",
} as const;

function normalDtype(value: unknown): unknown {
  return typeof value === "string" && Object.hasOwn(TORCH_DTYPES, value)
    ? TORCH_DTYPES[value as TorchDtype]
    : value;
}

function chooseDevice(value: string | undefined): Device {
  switch (value ?? "cpu") {
    case "cpu":
    case "auto":
      return "cpu";
    case "cuda":
    case "webgpu":
      return value as Device;
    case "gpu":
      return "webgpu";
    default:
      throw new InputError(
        `device: unknown device ${JSON.stringify(value)}; expected cpu, cuda, webgpu, gpu or auto`,
        { option: "device" },
      );
  }
}

function checkThreads(value: number | undefined): number | undefined {
  if (value === undefined || (Number.isInteger(value) && value > 0 && value <= 1024)) return value;
  throw new InputError(`threads: expected a positive integer, got ${value}`, { option: "threads" });
}

function checkAttention(value: string | null | undefined, call: string): void {
  if (value === undefined || value === null || ATTENTION.includes(value)) return;
  throw new InputError(
    `${call}: attn_implementation "${value}" does not exist here; leave it out, or write "sdpa" or "eager"`,
    { option: "attn_implementation" },
  );
}

const ATTENTION: readonly string[] = ["sdpa", "eager", "auto"];
