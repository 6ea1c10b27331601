/**
 * Times lapidary and others on the same GGUF, each engine in a process of its own, in turns. `npm run bench -- --help`
 * lists the options.
 */
import { mkdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { cpus } from "node:os";
import path from "node:path";
import { resolveModel } from "../src/checkpoints/resolve.ts";
import { drawChart } from "./chart.ts";
import { prepareEngine } from "./engines.ts";
import { LlamaTools } from "./llama-bench.ts";
import { buildLlamaCpp } from "./llama-cpp.ts";
import {
  type Field,
  measureBandwidth,
  measureFirstStart,
  measureFirstToken,
  measureMemory,
  measurePerplexity,
  measureSpeed,
} from "./measure.ts";
import { type BenchOptions, parseOptions, USAGE } from "./options.ts";
import { type Row, table } from "./results.ts";
import { buildEngines, type EngineProcess } from "./workers.ts";

const RESULTS = path.join(import.meta.dirname, "results");

async function main(): Promise<void> {
  const parsed = parseOptions(process.argv.slice(2));
  if (parsed === undefined) {
    console.log(USAGE);
    return;
  }
  const { path: model } = await resolveModel(parsed.model);
  const options = { ...parsed, model };
  const machine = await describeRun(options);
  console.log(`${machine}\n`);
  const field = await openField(options);
  try {
    await measureAll(field, options, machine);
  } finally {
    await rm(field.folder, { recursive: true, force: true });
  }
}

async function measureAll(field: Field, options: BenchOptions, machine: string): Promise<void> {
  if (field.processes.size === 0 && field.llama === undefined) throw new Error("no engine can run");

  const rows: Row[] = [];
  if (options.metrics.includes("bandwidth")) rows.push(await measureBandwidth(field));
  if (options.metrics.includes("first_start")) rows.push(...(await measureFirstStart(field)));
  if (options.metrics.includes("first_token")) rows.push(...(await measureFirstToken(field)));
  if (options.metrics.includes("memory")) rows.push(...(await measureMemory(field)));
  rows.unshift(...(await measureSpeed(field)));
  const { size } = await stat(options.model);
  console.log(table(rows, size));

  if (options.perplexity !== undefined) {
    const text = await readFile(options.perplexity, "utf8");
    console.log(`\nperplexity of ${path.basename(options.perplexity)}`);
    for (const [name, value] of await measurePerplexity(field, text)) {
      console.log(`  ${name.padEnd(18)}${value.toFixed(3).padStart(8)}`);
    }
  }
  if (options.json !== undefined) await write(options.json, `${JSON.stringify(rows, null, 1)}\n`);
  const chart = options.chart ?? path.join(RESULTS, "bench.svg");
  await write(chart, drawChart(rows, machine));
  console.log(`\nchart: ${path.relative(process.cwd(), chart)}`);
}

async function openField(options: BenchOptions): Promise<Field> {
  const folder = await buildEngines();
  const processes = new Map<string, EngineProcess>();
  const log = (line: string): void => console.error(line);
  let llama: LlamaTools | undefined;
  for (const name of options.engines) {
    try {
      if (name === "llama-bench") {
        llama = new LlamaTools(await buildLlamaCpp(log), path.resolve(options.model), options.threads);
        continue;
      }
      processes.set(name, await prepareEngine(name, options, log));
    } catch (error) {
      log(`${name} is left out: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
  return { folder, processes, llama, options, log };
}

async function describeRun({ model, threads, rounds }: BenchOptions): Promise<string> {
  const processor = cpus()[0]?.model.trim() ?? "unknown processor";
  const megabytes = ((await stat(model)).size / 1e6).toFixed(0);
  return `${path.basename(model)} (${megabytes} MB), ${processor}, ${threads} threads, Node ${process.versions.node}, medians of ${rounds}`;
}

async function write(file: string, content: string): Promise<void> {
  await mkdir(path.dirname(path.resolve(file)), { recursive: true });
  await writeFile(file, content);
}

main().catch((error: unknown) => {
  console.error(`bench: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
});
