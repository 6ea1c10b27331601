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
import { type Field, measureFirstToken, measureMemory, measurePerplexity, measureSpeed } from "./measure.ts";
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
  if (field.processes.size === 0 && options.llamaBench === undefined) throw new Error("no engine can run");

  const rows: Row[] = [];
  if (options.metrics.includes("first_token")) rows.push(...(await measureFirstToken(field)));
  if (options.metrics.includes("memory")) rows.push(...(await measureMemory(field)));
  rows.unshift(...(await measureSpeed(field)));
  console.log(table(rows));

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
  for (const name of options.engines) {
    if (name === "llama-bench") continue;
    try {
      processes.set(name, await prepareEngine(name, options, log));
    } catch (error) {
      log(`${name} is left out: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
  return { folder, processes, options, log };
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
