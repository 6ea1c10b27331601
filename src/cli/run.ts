import { AutoModelForCausalLM, AutoModelForImageTextToText } from "../api/auto.ts";
import type { CausalLM } from "../api/causal-lm.ts";
import { loadOnFirst } from "../api/loading.ts";
import { ModelFiles } from "../api/model-files.ts";
import type { PretrainedOptions } from "../api/options.ts";
import { TextStreamer } from "../generation/streamer.ts";
import type { PreTrainedTokenizer } from "../processing/tokenizer.ts";
import { memoryUsage } from "../runtime/memory.ts";
import { Tensor } from "../tensor.ts";
import { type GenerationFlags, generationOptions } from "./generation-flags.ts";
import { DEFAULT_MODEL, devicesToTry, type ModelFlags, pretrainedOptions } from "./model-flags.ts";
import { progressBar } from "./progress.ts";
import { hasMedia, loadEncoder, type PromptFlags, type PromptInputs, promptInputs } from "./prompt-inputs.ts";
import { promptFromStdin } from "./stdin.ts";

/** Float checkpoints over this many bytes are run in 8 bits unless told otherwise. */
const LARGE_CHECKPOINT = 2e9;

export interface RunFlags extends ModelFlags, GenerationFlags, PromptFlags {
  readonly stats?: boolean;
  readonly json?: boolean;
}

/** Milliseconds since the process began, and counts, of one answer. */
interface Timing {
  started: number;
  firstToken: number;
  lastToken: number;
  promptTokens: number;
  newTokens: number;
}

/** `lapidary run`: one prompt in, streamed text out. */
export async function run(argument: string, flags: RunFlags): Promise<void> {
  const prompt =
    argument !== "" ? argument : await promptFromStdin('lapidary run "The capital of France is"');
  const id = flags.model ?? DEFAULT_MODEL;
  const abort = new AbortController();
  process.once("SIGINT", () => abort.abort());
  const options = await loadingOptions(id, flags, abort.signal);
  const media = hasMedia(flags);
  const encoder = await loadEncoder(id, locations(options), media);
  // What can't be read or does not fit shows before the weights are prepared.
  const inputs = await promptInputs(encoder, prompt, flags, abort.signal);
  const { tokenizer } = encoder;
  const model = await loadOnDevice(id, options, flags, media);
  let assistant: CausalLM | undefined;
  try {
    process.stderr.write(`${describeModel(model)}\n`);
    assistant = await loadAssistant(flags, abort.signal);
    const timing: Timing = {
      started: performance.now(),
      firstToken: 0,
      lastToken: 0,
      promptTokens: inputs.ids.length,
      newTokens: 0,
    };
    const text = await generateText({ model, tokenizer, assistant }, inputs, flags, timing, abort.signal);
    const stats = statistics(timing);
    if (flags.json === true) {
      process.stdout.write(
        `${JSON.stringify({ model: id, prompt, generated_text: text, dtype: flags.dtype ?? "auto", memory: model.memory(), stats }, null, 2)}\n`,
      );
    } else if (flags.stats === true) {
      process.stderr.write(formatStats(stats));
    }
  } finally {
    await Promise.all([model.dispose(), assistant?.dispose()]);
  }
}

/** Fetches the files first, with a bar, the notice and the choice of storage, so that loading afterwards finds them. */
export async function loadingOptions(
  id: string,
  flags: RunFlags,
  signal: AbortSignal,
): Promise<PretrainedOptions> {
  const bar = progressBar();
  const options: PretrainedOptions = { ...pretrainedOptions(flags), progress_callback: bar.callback, signal };
  const files = await ModelFiles.find(id, options).finally(bar.clear);
  try {
    if (files.resolved.notice !== undefined) process.stderr.write(`${files.resolved.notice}\n`);
    // A GGUF file keeps its own precision: no need to read its long header here.
    if (flags.dtype !== undefined || files.path.endsWith(".gguf")) return options;
    const checkpoint = await files.checkpoint();
    const bytes = [...checkpoint.tensors.values()].reduce((sum, slice) => sum + slice.length, 0);
    if (checkpoint.format !== "safetensors" || bytes <= LARGE_CHECKPOINT) return options;
    process.stderr.write(
      `weights of ${(bytes / 1e9).toFixed(1)} GB: running in 8 bits (--dtype auto keeps them as they are)\n`,
    );
    return { ...options, dtype: "q8" };
  } finally {
    await files.close();
  }
}

/** What a tokenizer needs to be found. */
export function locations({
  dtype: _dtype,
  threads: _threads,
  ...rest
}: PretrainedOptions): PretrainedOptions {
  return rest;
}

export async function loadOnDevice(
  id: string,
  options: PretrainedOptions,
  flags: ModelFlags,
  media = false,
): Promise<CausalLM> {
  const Auto = media ? AutoModelForImageTextToText : AutoModelForCausalLM;
  const bar = progressBar();
  const { model, reasons } = await loadOnFirst(devicesToTry(flags.device), (device) =>
    Auto.from_pretrained(id, {
      ...options,
      device,
      progress_callback: bar.callback,
    }).finally(bar.clear),
  );
  if (reasons.length > 0)
    process.stderr.write(`no accelerator could be used, running on the processor (${reasons.join("; ")})\n`);
  return model;
}

/** The model that guesses ahead, if there is to be one: what the flags say of the other model's files is not about it. */
export async function loadAssistant(
  flags: ModelFlags & GenerationFlags,
  signal: AbortSignal,
): Promise<CausalLM | undefined> {
  if (flags.assistant === undefined) return undefined;
  const { revision: _revision, file: _file, adapter: _adapter, mmproj: _mmproj, ...own } = flags;
  return loadOnDevice(flags.assistant, await loadingOptions(flags.assistant, own, signal), own);
}

/** What runs: name, where it came from, how the weights are stored. */
export function describeModel(model: CausalLM): string {
  const storage = Object.entries(model.memory().weights)
    .filter(([, bytes]) => bytes > 1e6)
    .map(([name, bytes]) => `${name} ${(bytes / 1e6).toFixed(0)} MB`);
  return `${model.source}; ${storage.join(", ")}; ${model.engine}, ${model.device}`;
}

interface Loaded {
  readonly model: CausalLM;
  readonly tokenizer: PreTrainedTokenizer;
  readonly assistant: CausalLM | undefined;
}

async function generateText(
  { model, tokenizer, assistant }: Loaded,
  { ids, media }: PromptInputs,
  flags: RunFlags,
  timing: Timing,
  signal: AbortSignal,
): Promise<string> {
  let text = "";
  const streams = flags.json !== true && (flags.numBeams ?? 1) === 1;
  const streamer = new TextStreamer(tokenizer, {
    skip_prompt: true,
    skip_special_tokens: true,
    callback_function: (piece: string) => {
      text += piece;
      if (streams) process.stdout.write(piece);
    },
    token_callback_function: () => {
      timing.lastToken = performance.now();
      if (timing.newTokens++ === 0) timing.firstToken = timing.lastToken;
    },
  });
  const output = await model.generate({
    input_ids: new Tensor("int64", ids.map(BigInt), [1, ids.length]),
    ...media,
    ...generationOptions(flags),
    tokenizer,
    ...(assistant === undefined ? {} : { assistant_model: assistant }),
    signal,
    ...((flags.numBeams ?? 1) === 1 ? { streamer } : {}),
  });
  if ((flags.numBeams ?? 1) > 1) {
    timing.firstToken = timing.lastToken = performance.now();
    const row = (output as Tensor).tolist()[0] as bigint[];
    timing.newTokens = row.length - ids.length;
    text = tokenizer.decode(row.slice(ids.length), { skip_special_tokens: true });
    if (flags.json !== true) process.stdout.write(text);
  }
  if (flags.json !== true) process.stdout.write("\n");
  return text;
}

interface Statistics {
  readonly prompt_tokens: number;
  readonly new_tokens: number;
  /** Seconds from the start of the process. */
  readonly time_to_first_token: number;
  /** Tokens a second. */
  readonly prefill: number;
  readonly decode: number;
  /** Bytes. */
  readonly peak_memory: number;
  readonly anonymous_memory: number | null;
  readonly file_backed_memory: number | null;
}

function statistics({ started, firstToken, lastToken, promptTokens, newTokens }: Timing): Statistics {
  const memory = memoryUsage();
  return {
    prompt_tokens: promptTokens,
    new_tokens: newTokens,
    time_to_first_token: firstToken / 1000,
    prefill: promptTokens / ((firstToken - started) / 1000),
    decode: newTokens > 1 ? (newTokens - 1) / ((lastToken - firstToken) / 1000) : 0,
    peak_memory: memory.peakResident,
    anonymous_memory: memory.anonymous ?? null,
    file_backed_memory: memory.fileBacked ?? null,
  };
}

function formatStats(stats: Statistics): string {
  const megabytes = (bytes: number | null): string =>
    bytes === null ? "unknown" : `${(bytes / 1e6).toFixed(0)} MB`;
  return [
    `first token   ${stats.time_to_first_token.toFixed(2)} s after the start of the program`,
    `prefill       ${stats.prefill.toFixed(1)} tok/s (${stats.prompt_tokens} tokens)`,
    `decode        ${stats.decode.toFixed(1)} tok/s (${stats.new_tokens} tokens)`,
    `memory        peak ${megabytes(stats.peak_memory)}; now ${megabytes(stats.anonymous_memory)} of its own, ${megabytes(stats.file_backed_memory)} mapped from files`,
    "",
  ].join("\n");
}
