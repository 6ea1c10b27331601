/**
 * How the bench talks to an engine's process: the setup comes as JSON in the first argument, commands as JSON lines
 * on standard input, answers as JSON lines on standard output. Engines run as plain JavaScript (bench/workers.ts
 * turns these files into it), so that no loader adds to their start.
 */
import { createInterface } from "node:readline";

/** What an engine's process is told at its start. */
export interface WorkerSetup {
  /** Path of the GGUF file. */
  readonly model: string;
  /** URL of the package to import: the engine itself is never resolved from the worker's own place. */
  readonly module: string;
  readonly dtype?: string;
  readonly threads: number;
  /** Positions that the longest command needs in a row. */
  readonly positions: number;
  readonly batch: number;
  /** Only this: continue the text, say { firstToken } as soon as there is one, and exit. */
  readonly firstToken?: string;
}

/**
 * prefill: evaluate the prompts and choose one token each. decode: after that, `steps` more tokens each; only these
 * are timed. perplexity: of `text` in one window, each token given those before it.
 */
export interface Command {
  readonly kind: "prefill" | "decode" | "perplexity";
  /** Rows of equal length. */
  readonly prompts: readonly (readonly number[])[];
  readonly steps: number;
  readonly text?: string;
}

/** The timed part of a command; for perplexity, the value too. */
export interface Answer {
  readonly seconds: number;
  readonly value?: number;
}

/** What an engine's file provides. */
export interface Engine {
  run(command: Command): Promise<Answer>;
  /** Calls `onToken` with the first piece of text that continues `text`. */
  firstToken(text: string, onToken: (piece: string) => void): Promise<void>;
  dispose(): Promise<void>;
}

/** Runs an engine's process. `open` loads the model; everything from the process's start on counts as start. */
export async function serve(open: (setup: WorkerSetup) => Promise<Engine>): Promise<void> {
  const setup = JSON.parse(process.argv[2] ?? "{}") as WorkerSetup;
  try {
    const engine = await open(setup);
    if (setup.firstToken !== undefined) {
      let seen = false;
      await engine.firstToken(setup.firstToken, (piece) => {
        if (!seen) say({ firstToken: piece });
        seen = true;
      });
    } else {
      say({ ready: true });
      for await (const line of createInterface({ input: process.stdin })) {
        say(await engine.run(JSON.parse(line) as Command));
      }
    }
    await engine.dispose();
  } catch (error) {
    say({ error: error instanceof Error ? `${error.name}: ${error.message}` : String(error) });
    process.exitCode = 1;
  }
  // Engines may hold threads that would keep the process alive.
  process.exit();
}

function say(message: object): void {
  process.stdout.write(`${JSON.stringify(message)}\n`);
}

/** Seconds since `start`, a value of performance.now(). */
export function secondsSince(start: number): number {
  return (performance.now() - start) / 1000;
}
