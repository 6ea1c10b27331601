import { execFile, spawn } from "node:child_process";
import path from "node:path";
import { promisify } from "node:util";
import { MemoryWatch, type PeakMemory } from "./memory.ts";

/** One measurement of llama.cpp's own benchmark. */
export interface LlamaMeasure {
  readonly metric: string;
  readonly depth: number;
  readonly tokens: number;
}

/** llama.cpp's tools on a model. */
export class LlamaTools {
  readonly #folder: string;
  readonly #model: string;
  readonly #threads: number;

  constructor(folder: string, model: string, threads: number) {
    this.#folder = folder;
    this.#model = model;
    this.#threads = threads;
  }

  /** Tokens a second. */
  async speed({ metric, depth, tokens }: LlamaMeasure): Promise<number> {
    const what =
      metric === "prefill"
        ? ["-p", String(tokens), "-n", "0"]
        : ["-p", "0", "-n", String(tokens), "-d", String(depth)];
    const { stdout } = await promisify(execFile)(this.#path("llama-bench"), this.#benchArguments(what));
    const [result] = JSON.parse(stdout) as { avg_ts: number }[];
    if (result === undefined) throw new Error("llama-bench gave no result");
    return result.avg_ts;
  }

  /** The most memory that a prompt and the tokens after it take. */
  async memory(depth: number, tokens: number): Promise<PeakMemory | undefined> {
    const what = ["-p", "0", "-n", String(tokens), "-d", String(depth)];
    const child = spawn(this.#path("llama-bench"), this.#benchArguments(what), { stdio: "ignore" });
    const watch = new MemoryWatch(child.pid);
    const code = await new Promise((resolve, reject) => {
      child.on("error", reject);
      child.on("exit", resolve);
    }).finally(() => watch.stop());
    if (code !== 0) throw new Error(`llama-bench ended with ${code}`);
    return watch.peak();
  }

  /** Seconds until llama-cli has written one token. */
  async firstToken(text: string): Promise<number> {
    const start = performance.now();
    const options = [
      "-n",
      "1",
      "--temp",
      "0",
      "-no-cnv",
      "--no-warmup",
      "--no-display-prompt",
      "--simple-io",
    ];
    await promisify(execFile)(this.#path("llama-cli"), [...this.#common(), ...options, "-p", text]);
    return (performance.now() - start) / 1000;
  }

  #path(tool: string): string {
    return path.join(this.#folder, process.platform === "win32" ? `${tool}.exe` : tool);
  }

  #common(): string[] {
    return ["-m", this.#model, "-t", String(this.#threads), "-ngl", "0"];
  }

  #benchArguments(what: readonly string[]): string[] {
    return [...this.#common(), "-r", "1", "-o", "json", ...what];
  }
}
