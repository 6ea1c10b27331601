import { availableParallelism, cpus } from "node:os";
import { AutoModelForCausalLM } from "../api/auto.ts";
import type { CausalLM } from "../api/causal-lm.ts";
import { memoryUsage } from "../runtime/memory.ts";
import { Tensor } from "../tensor.ts";
import { devicesToTry, type ModelFlags, pretrainedOptions } from "./model-flags.ts";
import { progressBar } from "./progress.ts";

export interface BenchFlags extends ModelFlags {
  readonly prefill: readonly number[];
  readonly depths: readonly number[];
  readonly batches: readonly number[];
  readonly tokens: number;
  readonly rounds: number;
  readonly json?: boolean;
}

/** One measurement, as the repository's own bench writes them. */
interface Row {
  readonly engine: "lapidary";
  readonly metric: "prefill" | "decode" | "first_token" | "memory";
  readonly depth: number;
  readonly batch: number;
  readonly tokens: number;
  readonly unit: "tok/s" | "s" | "MB";
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

/** Times a model on this machine: prompts, new tokens, the way to the first one, memory. */
export async function bench(model: string, flags: BenchFlags): Promise<void> {
  const bar = progressBar();
  const [device] = devicesToTry(flags.device);
  const loaded = await AutoModelForCausalLM.from_pretrained(model, {
    ...pretrainedOptions(flags),
    ...(device === undefined ? {} : { device }),
    progress_callback: bar.callback,
  }).finally(bar.clear);
  try {
    await prefill(loaded, 1, 1, 0);
    // Since the process started: what was not in the cache had to be prepared.
    const firstToken = performance.now() / 1000;
    if (flags.json !== true) process.stdout.write(`${describe(loaded)}\n`);
    const rows: Row[] = [];
    const add = (row: Row): void => {
      rows.push(row);
      if (flags.json !== true) process.stdout.write(`${line(row)}\n`);
    };
    const once = { depth: 0, batch: 1, tokens: 1 };
    add(summarise({ metric: "first_token", ...once, unit: "s" }, [firstToken]));
    await measureSpeed(loaded, flags, add);
    const { anonymous, peakResident } = memoryUsage();
    add(summarise({ metric: "memory", ...once, unit: "MB" }, [(anonymous ?? peakResident) / 1e6]));
    if (flags.json === true) process.stdout.write(`${JSON.stringify(rows, null, 1)}\n`);
  } finally {
    await loaded.dispose();
  }
}

async function measureSpeed(model: CausalLM, flags: BenchFlags, add: (row: Row) => void): Promise<void> {
  const rounds = Array.from({ length: flags.rounds }, (_, round) => round);
  for (const batch of flags.batches) {
    for (const tokens of flags.prefill) {
      const values: number[] = [];
      for (const round of rounds)
        values.push((tokens * batch) / (await prefill(model, tokens, batch, round)));
      add(summarise({ metric: "prefill", depth: 0, batch, tokens, unit: "tok/s" }, values));
    }
    for (const depth of flags.depths) {
      const values: number[] = [];
      for (const round of rounds)
        values.push((flags.tokens * batch) / (await decode(model, depth, batch, flags.tokens, round)));
      add(summarise({ metric: "decode", depth, batch, tokens: flags.tokens, unit: "tok/s" }, values));
    }
  }
}

/** Seconds for prompts of so many tokens, up to the first new one. */
async function prefill(model: CausalLM, tokens: number, batch: number, round: number): Promise<number> {
  const times = await tokenTimes(model, tokens, batch, 1, round);
  return times[1]! - times[0]!;
}

/** Seconds for `tokens` new tokens after the first one. */
async function decode(
  model: CausalLM,
  depth: number,
  batch: number,
  tokens: number,
  round: number,
): Promise<number> {
  const times = await tokenTimes(model, Math.max(1, depth), batch, tokens + 1, round);
  return times.at(-1)! - times[1]!;
}

/** When a call began, and when each of its new tokens came, in seconds. */
async function tokenTimes(
  model: CausalLM,
  length: number,
  batch: number,
  max_new_tokens: number,
  round: number,
): Promise<number[]> {
  const times = [performance.now() / 1000];
  await model.generate({
    input_ids: prompt(length, batch, model.config.get_text_config().vocab_size, round),
    max_new_tokens,
    do_sample: false,
    eos_token_id: [],
    // A criterion sees every step, whatever the batch.
    stopping_criteria: (ids) => {
      times.push(performance.now() / 1000);
      return (ids as readonly unknown[]).map(() => false);
    },
  });
  return times;
}

/** Ids that differ by row and round; what they are does not change the work. */
function prompt(length: number, batch: number, vocab_size: number, round: number): Tensor {
  const ids = Array.from(
    { length: batch * length },
    (_, i) => (i * 7919 + round * 104_729 + 17) % vocab_size,
  );
  return new Tensor("int64", ids.map(BigInt), [batch, length]);
}

function summarise(measure: Omit<Row, "engine" | "median" | "min" | "max">, values: readonly number[]): Row {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const median = sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
  return { engine: "lapidary", ...measure, median, min: sorted[0]!, max: sorted.at(-1)! };
}

function describe(model: CausalLM): string {
  const weights = Object.entries(model.memory().weights).map(
    ([storage, bytes]) => `${storage} ${(bytes / 1e6).toFixed(0)} MB`,
  );
  const processor = cpus()[0]?.model.trim() ?? "unknown processor";
  return `${model.source}\n${weights.join(", ")}; ${model.engine}; ${processor}, ${availableParallelism()} logical processors\n`;
}

function line({ metric, depth, batch, tokens, unit, median, min, max }: Row): string {
  const rows = batch === 1 ? "" : `, ${batch} rows`;
  const what = {
    prefill: `prefill of ${tokens}${rows}`,
    decode: `decode after ${depth}${rows}`,
    first_token: "program start to first token",
    memory: "memory of its own at the end",
  }[metric];
  const range = min === max ? "" : `   ${number(min)} to ${number(max)}`;
  return `${what.padEnd(32)}${number(median).padStart(8)} ${unit}${range}`;
}

function number(value: number): string {
  return value >= 100 ? value.toFixed(0) : value.toPrecision(3);
}
