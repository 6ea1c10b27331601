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
  "hf-torch",
];

/** Engines that take part only when they are named: one is built for minutes, the other needs a Python of its own. */
const ON_DEMAND: readonly string[] = ["llama-bench", "hf-torch"];

/** What can be measured. */
export const METRICS: readonly string[] = [
  "prefill",
  "decode",
  "first_start",
  "first_token",
  "memory",
  "bandwidth",
];

/** What to run and where the results go. */
export interface BenchOptions {
  readonly model: string;
  readonly engines: readonly string[];
  readonly metrics: readonly string[];
  /** Tokens of the prompts that are timed. */
  readonly prefills: readonly number[];
  /** Tokens before the first decoded one. */
  readonly depths: readonly number[];
  readonly batches: readonly number[];
  readonly rounds: number;
  readonly threads: number;
  readonly json?: string;
  readonly chart?: string;
  readonly perplexity?: string;
  /** A Python with torch, transformers and gguf. */
  readonly python: string;
}

/** The text of --help. */
export const USAGE: string = `usage: npm run bench -- [options]

  --model MODEL       the GGUF that every engine runs, or a package's name (gemma-3-270m, or LAPIDARY_BENCH_MODEL)
  --engines LIST      of ${ENGINES.join(", ")}; without it all but the last two. llama-bench is built
                      at its first use, from PyPI's llama-cpp-python
  --metrics LIST      of ${METRICS.join(", ")}
  --prefills LIST     tokens of the prompts (128,500,2000)
  --depths LIST       tokens before the decoded ones (0,2000)
  --batches LIST      rows at a time (1)
  --rounds N          measurements of each; engines take turns (5)
  --threads N         for the engines that take a number (${availableParallelism()})
  --json FILE         write the rows
  --chart FILE        where the SVG goes (bench/results/bench.svg)
  --python PYTHON     for hf-torch: has torch, transformers and gguf (python3)
  --perplexity FILE   also measure the text's perplexity with lapidary's weights`;

/** Reads the command line; undefined when help was asked for. */
export function parseOptions(args: readonly string[]): BenchOptions | undefined {
  const { values } = parseArgs({
    args: [...args],
    options: {
      model: { type: "string", default: process.env.LAPIDARY_BENCH_MODEL ?? "gemma-3-270m" },
      engines: { type: "string" },
      metrics: { type: "string", default: METRICS.join() },
      prefills: { type: "string", default: "128,500,2000" },
      depths: { type: "string", default: "0,2000" },
      python: { type: "string", default: "python3" },
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
  const engines = values.engines ?? ENGINES.filter((name) => !ON_DEMAND.includes(name)).join();
  return {
    model: values.model,
    engines: chosen("--engines", engines, ENGINES),
    metrics: chosen("--metrics", values.metrics, METRICS),
    prefills: numbers("--prefills", values.prefills),
    depths: numbers("--depths", values.depths, 0),
    batches: numbers("--batches", values.batches),
    rounds: numbers("--rounds", values.rounds)[0]!,
    threads: numbers("--threads", values.threads)[0]!,
    ...(values.json === undefined ? {} : { json: values.json }),
    ...(values.chart === undefined ? {} : { chart: values.chart }),
    ...(values.perplexity === undefined ? {} : { perplexity: values.perplexity }),
    python: values.python,
  };
}

/** The known names of a comma-separated list, in the order of `known`. */
function chosen(option: string, list: string, known: readonly string[]): string[] {
  const names = list.split(",").map((name) => name.trim());
  const unknown = names.find((name) => !known.includes(name));
  if (unknown !== undefined) throw new Error(`${option}: "${unknown}" is none of ${known.join(", ")}`);
  return known.filter((name) => names.includes(name));
}

function numbers(option: string, list: string, least = 1): number[] {
  return list.split(",").map((text) => {
    const number = Number(text);
    if (text.trim() === "" || !Number.isInteger(number) || number < least)
      throw new Error(`${option}: "${text}" is no whole number from ${least}`);
    return number;
  });
}
