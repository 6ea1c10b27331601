import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { memoryBandwidth } from "./bandwidth.ts";
import type { LlamaTools } from "./llama-bench.ts";
import type { PeakMemory } from "./memory.ts";
import type { BenchOptions } from "./options.ts";
import { FIRST_TOKEN_PROMPT, promptRows } from "./prompts.ts";
import { type Measure, type Row, summarise, title } from "./results.ts";
import { type EngineProcess, Worker } from "./workers.ts";

const DECODE_TOKENS = 128;
/** What the memory is measured over: a long prefill, then decoding. */
const MEMORY_DEPTH = 500;

/** The engines that take part, and where their scripts lie. */
export interface Field {
  readonly folder: string;
  readonly processes: ReadonlyMap<string, EngineProcess>;
  /** llama.cpp's own tools, where they take part. */
  readonly llama: LlamaTools | undefined;
  readonly options: BenchOptions;
  readonly log: (line: string) => void;
}

/** The measures of speed that were asked for. */
export function speedMeasures({ metrics, prefills, depths, batches }: BenchOptions): Measure[] {
  const unit = "tok/s";
  return batches.flatMap((batch) => [
    ...(metrics.includes("prefill")
      ? prefills.map((tokens) => ({ metric: "prefill", depth: 0, batch, tokens, unit }))
      : []),
    ...(metrics.includes("decode")
      ? depths.map((depth) => ({ metric: "decode", depth, batch, tokens: DECODE_TOKENS, unit }))
      : []),
  ]) as Measure[];
}

/** Speed of prefill and decode: every engine keeps its process, and they take turns. */
export async function measureSpeed(field: Field): Promise<Row[]> {
  const measures = speedMeasures(field.options);
  if (measures.length === 0) return [];
  const runners = await startRunners(field);
  const rows: Row[] = [];
  try {
    for (const measure of measures) {
      field.log(title(measure));
      const values = await takeTurns(field, [...runners.keys()], (name, round) =>
        runners.get(name)!.run(measure, round),
      );
      for (const [name, list] of values) rows.push(summarise(name, measure, list));
    }
  } finally {
    for (const runner of runners.values()) await runner.close();
  }
  return rows;
}

/** Seconds from process start to the first token. A run before the rounds fills every cache. */
export async function measureFirstToken(field: Field): Promise<Row[]> {
  const measure: Measure = { metric: "first_token", depth: 0, batch: 1, tokens: 1, unit: "s" };
  field.log(title(measure));
  const time = (name: string): Promise<number> =>
    name === LLAMA
      ? field.llama!.firstToken(FIRST_TOKEN_PROMPT)
      : Worker.timeFirstToken(field.folder, smallest(field.processes.get(name)!), FIRST_TOKEN_PROMPT);
  const values = await takeTurns(field, engineNames(field), time, time);
  return [...values].map(([name, list]) => summarise(name, measure, list));
}

/** The same with nothing prepared: the first start of lapidary's engines on a machine, once. */
export async function measureFirstStart(field: Field): Promise<Row[]> {
  const measure: Measure = { metric: "first_start", depth: 0, batch: 1, tokens: 1, unit: "s" };
  field.log(title(measure));
  const names = [...field.processes.keys()].filter((name) => name.startsWith("lapidary"));
  const values = await takeTurns(
    { ...field, options: { ...field.options, rounds: 1 } },
    names,
    async (name) => {
      const LAPIDARY_CACHE = await mkdtemp(path.join(tmpdir(), "lapidary-first-start-"));
      const engine = smallest(field.processes.get(name)!);
      const fresh = { ...engine, env: { ...engine.env, LAPIDARY_CACHE } };
      return Worker.timeFirstToken(field.folder, fresh, FIRST_TOKEN_PROMPT).finally(() =>
        rm(LAPIDARY_CACHE, { recursive: true, force: true }),
      );
    },
  );
  return [...values].map(([name, list]) => summarise(name, measure, list));
}

/** What decoding can't go beyond. */
export async function measureBandwidth({ options, log }: Field): Promise<Row> {
  const measure: Measure = { metric: "bandwidth", depth: 0, batch: 1, tokens: 0, unit: "GB/s" };
  log(title(measure));
  const values: number[] = [];
  for (let round = 0; round < options.rounds; round++)
    values.push((await memoryBandwidth(options.threads)) / 1e9);
  return summarise("machine", measure, values);
}

const LLAMA = "llama-bench";

function engineNames({ processes, llama }: Field): string[] {
  return [...processes.keys(), ...(llama === undefined ? [] : [LLAMA])];
}

/** Peak memory of a process that loads the model, reads a prompt and decodes; pages of files apart. */
export async function measureMemory(field: Field): Promise<Row[]> {
  const anonymous: Measure = {
    metric: "memory",
    depth: MEMORY_DEPTH,
    batch: 1,
    tokens: DECODE_TOKENS,
    unit: "MB",
  };
  const file: Measure = { ...anonymous, metric: "memory_file" };
  field.log(title(anonymous));
  const fileValues = new Map<string, number[]>();
  const keep = (name: string, peak: PeakMemory | undefined): number => {
    if (peak === undefined) throw new Error("this system does not tell a process's memory");
    fileValues.set(name, [...(fileValues.get(name) ?? []), peak.file / 1e6]);
    return peak.anonymous / 1e6;
  };
  const values = await takeTurns(field, engineNames(field), async (name, round) => {
    if (name === LLAMA) return keep(name, await field.llama!.memory(MEMORY_DEPTH, DECODE_TOKENS));
    const worker = await Worker.start(field.folder, smallest(field.processes.get(name)!));
    try {
      await worker.run({
        kind: "decode",
        prompts: promptRows(MEMORY_DEPTH, 1, round),
        steps: DECODE_TOKENS,
      });
      return keep(name, worker.peakMemory());
    } finally {
      await worker.close();
    }
  });
  return [...values].flatMap(([name, list]) => [
    summarise(name, anonymous, list),
    summarise(name, file, fileValues.get(name)!),
  ]);
}

/** Perplexity of a text with the weights that lapidary's engines use. */
export async function measurePerplexity(field: Field, text: string): Promise<Map<string, number>> {
  const values = new Map<string, number>();
  for (const [name, engine] of field.processes) {
    // onnxruntime-node runs the same weights as "lapidary"; the others' programs don't tell.
    if (!name.startsWith("lapidary")) continue;
    const worker = await Worker.start(field.folder, engine);
    try {
      values.set(name, (await worker.run({ kind: "perplexity", prompts: [], steps: 0, text })).value!);
    } finally {
      await worker.close();
    }
  }
  return values;
}

/** An engine that is ready to be timed. */
interface Runner {
  run(measure: Measure, round: number): Promise<number>;
  close(): Promise<void>;
}

async function startRunners(field: Field): Promise<Map<string, Runner>> {
  const runners = new Map<string, Runner>();
  const { log } = field;
  for (const [name, engine] of field.processes) {
    try {
      runners.set(name, await startRunner(field.folder, engine));
    } catch (error) {
      log(`${name}: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
  const { llama } = field;
  if (llama !== undefined) {
    runners.set(LLAMA, {
      run: (measure) => {
        if (measure.batch !== 1) throw new Error("llama-bench runs one row");
        return llama.speed(measure);
      },
      close: () => Promise.resolve(),
    });
  }
  return runners;
}

async function startRunner(folder: string, engine: EngineProcess): Promise<Runner> {
  const worker = await Worker.start(folder, engine);
  await worker.run({ kind: "decode", prompts: promptRows(64, 1, 999), steps: 8 });
  return {
    run: async ({ metric, depth, batch, tokens }, round) => {
      const kind = metric === "prefill" ? "prefill" : "decode";
      const prompts = promptRows(kind === "prefill" ? tokens : depth, batch, round);
      const { seconds } = await worker.run({ kind, prompts, steps: kind === "prefill" ? 0 : tokens });
      return (tokens * batch) / seconds;
    },
    close: () => worker.close(),
  };
}

/** A B C A B C …: what disturbs the machine for a while disturbs all engines. An engine that fails drops out. */
async function takeTurns(
  { options, log }: Field,
  names: readonly string[],
  measure: (name: string, round: number) => Promise<number>,
  before?: (name: string) => Promise<unknown>,
): Promise<Map<string, number[]>> {
  const values = new Map<string, number[]>();
  const failed = new Set<string>();
  const attempt = async (name: string, work: () => Promise<unknown>): Promise<void> => {
    if (failed.has(name)) return;
    try {
      await work();
    } catch (error) {
      failed.add(name);
      values.delete(name);
      log(`${name}: ${error instanceof Error ? error.message : String(error)}`);
    }
  };
  if (before !== undefined) for (const name of names) await attempt(name, () => before(name));
  for (let round = 0; round < options.rounds; round++) {
    for (const name of names) {
      await attempt(name, async () => {
        const value = await measure(name, round);
        values.set(name, [...(values.get(name) ?? []), value]);
      });
    }
  }
  return values;
}

/** The least context, so that no engine pays for room that these runs do not use. */
function smallest(engine: EngineProcess): EngineProcess {
  return { ...engine, setup: { ...engine.setup, positions: MEMORY_DEPTH + DECODE_TOKENS + 16, batch: 1 } };
}
