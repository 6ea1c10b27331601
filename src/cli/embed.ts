import { loadOnFirst } from "../api/loading.ts";
import { type EncodeOptions, SentenceTransformer } from "../api/sentence-transformer.ts";
import { InputError } from "../errors.ts";
import type { Tensor } from "../tensor.ts";
import { devicesToTry, type ModelFlags, pretrainedOptions } from "./model-flags.ts";
import { progressBar } from "./progress.ts";
import { promptFromStdin } from "./stdin.ts";

export interface EmbedFlags extends ModelFlags {
  readonly model: string;
  readonly promptName?: string;
  readonly prompt?: string;
  readonly batchSize?: number;
  readonly truncateDim?: number;
  readonly normalize?: boolean;
  readonly similarity?: boolean;
  readonly json?: boolean;
}

/** `lapidary embed`: texts in, their vectors or how alike they are out. */
export async function embed(given: readonly string[], flags: EmbedFlags): Promise<void> {
  const texts =
    given.length > 0
      ? given
      : (await promptFromStdin('lapidary embed -m model "first" "second"')).split(/\r?\n/);
  if (flags.similarity === true && texts.length < 2)
    throw new InputError("--similarity compares the first text with the others: write two at least");
  const abort = new AbortController();
  process.once("SIGINT", () => abort.abort());
  const model = await load(flags, abort.signal);
  const bar = progressBar();
  try {
    const options = { ...encodeOptions(flags), progress_callback: bar.callback, signal: abort.signal };
    const vectors = await model.encode(texts, options).finally(bar.clear);
    process.stdout.write(
      flags.similarity === true ? scores(model, vectors, texts, flags) : listed(vectors, texts, flags),
    );
  } finally {
    await model.dispose();
  }
}

async function load(flags: EmbedFlags, signal: AbortSignal): Promise<SentenceTransformer> {
  const bar = progressBar();
  const options = { ...pretrainedOptions(flags), progress_callback: bar.callback, signal };
  const { model, reasons } = await loadOnFirst(devicesToTry(flags.device), (device) =>
    SentenceTransformer.from_pretrained(flags.model, { ...options, device }),
  ).finally(bar.clear);
  if (reasons.length > 0)
    process.stderr.write(`no accelerator could be used, running on the processor (${reasons.join("; ")})\n`);
  return model;
}

function encodeOptions(flags: EmbedFlags): EncodeOptions {
  return {
    ...(flags.promptName === undefined ? {} : { prompt_name: flags.promptName }),
    ...(flags.prompt === undefined ? {} : { prompt: flags.prompt }),
    ...(flags.batchSize === undefined ? {} : { batch_size: flags.batchSize }),
    ...(flags.truncateDim === undefined ? {} : { truncate_dim: flags.truncateDim }),
    ...(flags.normalize === true ? { normalize_embeddings: true } : {}),
  };
}

/** A JSON array a line, or one object with everything. */
function listed(vectors: Tensor, texts: readonly string[], flags: EmbedFlags): string {
  const rows = (vectors.tolist() as number[][]).map((row) => row.map(shortest));
  if (flags.json !== true) return rows.map((row) => `${JSON.stringify(row)}\n`).join("");
  const answer = { model: flags.model, dimensions: vectors.dims[1], texts, embeddings: rows };
  return `${JSON.stringify(answer)}\n`;
}

/** A score and its text a line, in the order of the texts. */
function scores(
  model: SentenceTransformer,
  vectors: Tensor,
  [source, ...others]: readonly string[],
  flags: EmbedFlags,
): string {
  const [row] = model.similarity(vectors.at(0)!, vectors.slice([1, null])).tolist() as number[][];
  if (flags.json !== true) return row!.map((score, i) => `${score.toFixed(4)}\t${others[i]}\n`).join("");
  const measure = model.similarity_fn_name;
  const answer = { model: flags.model, measure, source_sentence: source, sentences: others, scores: row };
  return `${JSON.stringify(answer)}\n`;
}

/** Nine digits say exactly which float32 is meant. */
function shortest(value: number): number {
  return Number(value.toPrecision(9));
}
