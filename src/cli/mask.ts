import { AttentionMaskVisualizer } from "../api/attention-mask-visualizer.ts";
import { replaceFile, writeAll } from "../checkpoints/write-safetensors.ts";
import { type ModelFlags, pretrainedOptions } from "./model-flags.ts";
import { progressBar } from "./progress.ts";
import { promptFromStdin } from "./stdin.ts";

export interface MaskFlags extends ModelFlags {
  readonly svg?: string;
  readonly png?: string;
  readonly json?: boolean;
  readonly color: boolean;
}

/** `lapidary mask`: which tokens of a text each of them sees, printed and drawn. */
export async function mask(model: string, argument: string, flags: MaskFlags): Promise<void> {
  const text = argument !== "" ? argument : await promptFromStdin(`lapidary mask ${model} "Hello world"`);
  const abort = new AbortController();
  process.once("SIGINT", () => abort.abort());
  const bar = progressBar();
  const visualizer = new AttentionMaskVisualizer(model, {
    ...pretrainedOptions(flags),
    progress_callback: bar.callback,
    signal: abort.signal,
    print: false,
    color: flags.color && (process.env.NO_COLOR ?? "") === "",
  });
  const picture = await visualizer(text).finally(bar.clear);
  if (flags.svg !== undefined) await save(flags.svg, Buffer.from(picture.toSVG()));
  if (flags.png !== undefined) await save(flags.png, await picture.toPNG());
  if (flags.json !== true) {
    process.stdout.write(picture.printed);
    return;
  }
  const { tokens, matrix, sliding_window_matrix, token_type_ids, full_attention } = picture;
  const facts = {
    model,
    text,
    tokens,
    matrix: matrix.tolist(),
    sliding_window_matrix: sliding_window_matrix?.tolist() ?? null,
    ...(token_type_ids && {
      token_type_ids: (token_type_ids.tolist() as bigint[][]).flat().map(Number),
      full_attention: full_attention.tolist(),
    }),
  };
  process.stdout.write(`${JSON.stringify(facts)}\n`);
}

async function save(path: string, bytes: Uint8Array): Promise<void> {
  await replaceFile(path, (handle) => writeAll(handle, bytes));
  process.stderr.write(`wrote ${path}\n`);
}
