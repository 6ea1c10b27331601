import { type ChildProcessWithoutNullStreams, spawn, spawnSync } from "node:child_process";

/** Runs a program on a terminal of its own, whose other side are this process' pipes. */
const PTY = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))";

/** Whether programs can be tested on a terminal here: Python makes it. */
export function hasTerminal(): boolean {
  return spawnSync("python3", ["-c", "import pty, os; os.waitstatus_to_exitcode"]).status === 0;
}

/** A program on a terminal, typed to and read from as a user does. */
export class Terminal {
  readonly #process: ChildProcessWithoutNullStreams;
  readonly #ended: Promise<number | null>;
  #output = "";
  #wake: () => void = () => {};

  constructor(command: readonly string[], env: NodeJS.ProcessEnv) {
    this.#process = spawn("python3", ["-c", PTY, ...command], { env });
    this.#process.stdout.setEncoding("utf8").on("data", (text: string) => {
      this.#output += text;
      this.#wake();
    });
    this.#process.stderr.pipe(process.stderr);
    this.#ended = new Promise((resolve) => {
      this.#process.on("close", (code) => {
        resolve(code);
        this.#wake();
      });
    });
  }

  type(text: string): void {
    this.#process.stdin.write(text);
  }

  /** Waits until the screen shows a match, and returns all up to its end; the next wait looks behind it. */
  async until(pattern: RegExp): Promise<string> {
    for (;;) {
      const match = pattern.exec(this.#output);
      if (match !== null) {
        const end = match.index + match[0].length;
        const shown = this.#output.slice(0, end);
        this.#output = this.#output.slice(end);
        return shown;
      }
      if (this.#process.exitCode !== null)
        throw new Error(`it ended, having shown ${JSON.stringify(this.#output)}`);
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  /** The exit code. */
  end(): Promise<number | null> {
    return this.#ended;
  }

  /** Ends it where a test has left it running. */
  kill(): void {
    this.#process.kill("SIGKILL");
  }
}
