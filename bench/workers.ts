import { type ChildProcess, spawn } from "node:child_process";
import { mkdtemp, readdir, readFile, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";
import ts from "typescript";
import type { Answer, Command, WorkerSetup } from "./engines/protocol.ts";
import { MemoryWatch, type PeakMemory } from "./memory.ts";

/** An engine as the bench starts it. */
export interface EngineProcess {
  /** Name of the file in bench/engines. */
  readonly script: string;
  /** What runs instead: a program and its first arguments. */
  readonly program?: readonly [string, ...string[]];
  readonly setup: WorkerSetup;
  readonly env?: Readonly<Record<string, string>>;
}

/** Writes bench/engines as plain JavaScript, so that Node runs it without a loader, and gives their folder. */
export async function buildEngines(): Promise<string> {
  const folder = await mkdtemp(path.join(tmpdir(), "lapidary-bench-"));
  const source = path.join(import.meta.dirname, "engines");
  for (const name of await readdir(source)) {
    const text = await readFile(path.join(source, name), "utf8");
    const { outputText } = ts.transpileModule(text, {
      compilerOptions: {
        target: ts.ScriptTarget.ES2022,
        module: ts.ModuleKind.ESNext,
        verbatimModuleSyntax: true,
        rewriteRelativeImportExtensions: true,
      },
    });
    await writeFile(path.join(folder, name.replace(/\.ts$/, ".js")), outputText);
  }
  await writeFile(path.join(folder, "package.json"), '{"type":"module"}');
  return folder;
}

type Message = Partial<Answer> & { error?: string; ready?: boolean; firstToken?: string };

/** An engine's process that takes one command after another. */
export class Worker {
  readonly #child: ChildProcess;
  readonly #messages: AsyncIterator<string>;
  readonly #memory: MemoryWatch;
  #stderr = "";

  private constructor(folder: string, engine: EngineProcess) {
    const [program, ...first] = engine.program ?? [
      process.execPath,
      path.join(folder, `${engine.script}.js`),
    ];
    this.#child = spawn(program, [...first, JSON.stringify(engine.setup)], {
      env: { ...process.env, ...engine.env },
      stdio: ["pipe", "pipe", "pipe"],
    });
    this.#memory = new MemoryWatch(this.#child.pid);
    this.#child.stderr!.on("data", (chunk: Buffer) => {
      this.#stderr = (this.#stderr + chunk.toString()).slice(-2000);
    });
    // A process that died answers by ending its output.
    this.#child.stdin!.on("error", () => undefined);
    this.#messages = createInterface({ input: this.#child.stdout! })[Symbol.asyncIterator]();
  }

  /** Starts a process and waits until its model is loaded. */
  static async start(folder: string, engine: EngineProcess): Promise<Worker> {
    const worker = new Worker(folder, engine);
    await worker.#next();
    return worker;
  }

  /** Seconds from spawning a process to its first token. */
  static async timeFirstToken(folder: string, engine: EngineProcess, text: string): Promise<number> {
    const start = performance.now();
    const worker = new Worker(folder, { ...engine, setup: { ...engine.setup, firstToken: text } });
    const message = await worker.#next();
    const seconds = (performance.now() - start) / 1000;
    await worker.close();
    if (message.firstToken === undefined) throw new Error("the engine gave no token");
    return seconds;
  }

  /** Runs a command and gives the timing that the process took itself. */
  async run(command: Command): Promise<Answer> {
    this.#child.stdin!.write(`${JSON.stringify(command)}\n`);
    const message = await this.#next();
    if (message.seconds === undefined) throw new Error("the engine gave no time");
    return { seconds: message.seconds, ...(message.value === undefined ? {} : { value: message.value }) };
  }

  /** The most memory that the process has held since its start; undefined where the system does not tell. */
  peakMemory(): PeakMemory | undefined {
    return this.#memory.peak();
  }

  /** Ends the process. */
  async close(): Promise<void> {
    this.#memory.stop();
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const gone = new Promise((resolve) => this.#child.once("exit", resolve));
    this.#child.stdin!.end();
    const timer = setTimeout(() => this.#child.kill("SIGKILL"), 10_000);
    await gone;
    clearTimeout(timer);
  }

  async #next(): Promise<Message> {
    for (;;) {
      const { value, done } = await this.#messages.next();
      if (done === true) {
        await this.close();
        throw new Error(
          `the process ended without an answer${this.#stderr === "" ? "" : `: ${this.#stderr.trim()}`}`,
        );
      }
      // Libraries may print lines of their own.
      if (!value.startsWith("{")) continue;
      const message = JSON.parse(value) as Message;
      if (message.error !== undefined) {
        await this.close();
        throw new Error(message.error);
      }
      return message;
    }
  }
}
