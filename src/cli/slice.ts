import { writeSlice } from "../api/write-slice.ts";
import { InputError } from "../errors.ts";
import type { SliceOption } from "../models/gemma3n/slice.ts";
import { type ModelFlags, pretrainedOptions } from "./model-flags.ts";
import { progressBar } from "./progress.ts";

export interface SliceFlags extends ModelFlags {
  readonly slice?: string;
  readonly intermediateSize?: string;
  readonly skipLayers?: string;
  readonly json?: boolean;
}

/** `lapidary slice`: writes the smaller model inside a Gemma 3n model. */
export async function slice(model: string, out: string, flags: SliceFlags): Promise<void> {
  const abort = new AbortController();
  process.once("SIGINT", () => abort.abort());
  const bar = progressBar();
  const written = await writeSlice(model, out, sliceOption(flags), {
    ...pretrainedOptions(flags),
    progress_callback: bar.callback,
    signal: abort.signal,
  }).finally(bar.clear);
  const { folder, layers, bytes, files } = written;
  const text = `${folder}: ${layers} layers, ${(bytes / 1e6).toFixed(1)} MB in ${files} ${files === 1 ? "file" : "files"}\n`;
  process.stdout.write(flags.json === true ? `${JSON.stringify(written)}\n` : text);
}

function sliceOption({ slice: name, intermediateSize, skipLayers }: SliceFlags): SliceOption {
  const own = intermediateSize !== undefined || skipLayers !== undefined;
  if (name !== undefined && own)
    throw new InputError("slice: --slice names a whole slice; leave it out to say what to keep");
  if (name !== undefined) return name as SliceOption;
  if (!own)
    throw new InputError("slice: say what to keep: --slice E2B, --intermediate-size or --skip-layers");
  const sizes = intermediateSize === undefined ? [] : numbers("--intermediate-size", intermediateSize);
  return {
    ...(sizes.length > 0 && { intermediate_size: sizes.length === 1 ? sizes[0]! : sizes }),
    ...(skipLayers !== undefined && { skip_layers: numbers("--skip-layers", skipLayers) }),
  };
}

/** "3,20-24" as numbers. */
function numbers(flag: string, text: string): number[] {
  return text.split(",").flatMap((part) => {
    const [, first, last = first] = /^\s*(\d{1,6})(?:-(\d{1,6}))?\s*$/.exec(part) ?? [];
    const [from, to] = [Number(first), Number(last)];
    if (first === undefined || to < from || to - from > 1000)
      throw new InputError(`${flag} ${text}: expected numbers and ranges such as 3,20-24`);
    return Array.from({ length: to - from + 1 }, (_, i) => from + i);
  });
}
