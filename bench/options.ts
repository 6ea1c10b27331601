import { existsSync } from "node:fs";
import { availableParallelism } from "node:os";
import { parseArgs } from "node:util";

/** Engines in the order in which each round runs them. */
export const ENGINES: readonly string[] = [
  "lapidary",
  "lapidary-q4",
  "node-llama-cpp",
  "onnxruntime-node",
  "llama-bench",
];

/** What can be measured. */
export const METRICS: readonly string[] = ["prefill", "decode", "first_token", "memory"];

/** What to run and where the results go. */
export interface BenchOptions {
  readonly model: string;
  readonly engines: readonly string[];
  readonly metrics: readonly string[];
  /** Tokens before the first decoded one. */
  readonly depths: readonly number[];
  readonly batches: readonly number[];
  readonly rounds: number;
  readonly threads: number;
  readonly json?: string;
  readonly chart?: string;
  readonly perplexity?: string;
  readonly llamaBench?: string;
}

/** The text of --help. */
export const USAGE: string = `usage: npm run bench -- [options]

  --model MODEL       the GGUF that every engine runs, or a package's name (gemma-3-270m, or LAPIDARY_BENCH_MODEL)
  --engines LIST      of ${ENGINES.join(", ")}; llama-bench needs LLAMA_BENCH, the path of its binary
  --metrics LIST      of ${METRICS.join(", ")}
  --depths LIST       tokens before the decoded ones (128,2000)
  --batches LIST      rows at a time (1)
  --rounds N          measurements of each; engines take turns (5)
  --threads N         for the engines that take a number (${availableParallelism()})
  --json FILE         write the rows
  --chart FILE        where the SVG goes (bench/results/bench.svg)
  --perplexity FILE   also measure the text's perplexity with lapidary's weights`;

/** Reads the command line; undefined when help was asked for. */
export function parseOptions(args: readonly string[]): BenchOptions | undefined {
  const { values } = parseArgs({
    args: [...args],
    options: {
      model: { type: "string", default: process.env.LAPIDARY_BENCH_MODEL ?? "gemma-3-270m" },
      engines: { type: "string" },
      metrics: { type: "string", default: METRICS.join() },
      depths: { type: "string", default: "128,2000" },
      batches: { type: "string", default: "1" },
      rounds: { type: "string", default: "5" },
      threads: { type: "string", default: String(availableParallelism()) },
      json: { type: "string" },
      chart: { type: "string" },
      perplexity: { type: "string" },
      help: { type: "boolean", short: "h" },
    },
  });
  if (values.help === true) return undefined;
  const text = values.perplexity;
  if (text !== undefined && !existsSync(text)) throw new Error(`${text} does not exist`);
  const llamaBench = process.env.LLAMA_BENCH;
  const engines = values.engines ?? ENGINES.filter((name) => name !== "llama-bench" || llamaBench).join();
  return {
    model: values.model,
    engines: chosen("--engines", engines, ENGINES),
    metrics: chosen("--metrics", values.metrics, METRICS),
    depths: numbers("--depths", values.depths),
    batches: numbers("--batches", values.batches),
    rounds: numbers("--rounds", values.rounds)[0]!,
    threads: numbers("--threads", values.threads)[0]!,
    ...(values.json === undefined ? {} : { json: values.json }),
    ...(values.chart === undefined ? {} : { chart: values.chart }),
    ...(values.perplexity === undefined ? {} : { perplexity: values.perplexity }),
    ...(llamaBench ? { llamaBench } : {}),
  };
}

/** The known names of a comma-separated list, in the order of `known`. */
function chosen(option: string, list: string, known: readonly string[]): string[] {
  const names = list.split(",").map((name) => name.trim());
  const unknown = names.find((name) => !known.includes(name));
  if (unknown !== undefined) throw new Error(`${option}: "${unknown}" is none of ${known.join(", ")}`);
  return known.filter((name) => names.includes(name));
}

function numbers(option: string, list: string): number[] {
  return list.split(",").map((text) => {
    const number = Number(text);
    if (!Number.isInteger(number) || number < 1)
      throw new Error(`${option}: "${text}" is no positive integer`);
    return number;
  });
}
