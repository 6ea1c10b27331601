import { appendFileSync } from "node:fs";
import { mkdir, open } from "node:fs/promises";
import { dirname } from "node:path";
import { replaceFile, writeAll } from "../../checkpoints/write-safetensors.ts";

/** Lines kept. The file is cut back to them when it has twice as many. */
const MAX_LINES = 1000;
/** Longer lines are not kept. */
const MAX_LENGTH = 4096;
/** Of a longer file only so much is read, from its end. */
const MAX_BYTES = 1 << 22;
/** What a terminal would take for an order; readline never gives such lines, a damaged file may. */
const CONTROL = /\p{Cc}/u;

/** The lines typed into earlier chats, in a file that several chats may append to at once. */
export class InputHistory {
  /** Newest first. */
  readonly lines: readonly string[];
  #file: string | undefined;
  readonly #warn: (message: string) => void;

  private constructor(file: string | undefined, lines: readonly string[], warn: (message: string) => void) {
    this.#file = file;
    this.lines = lines;
    this.#warn = warn;
  }

  /** Without a file nothing is kept. A file that can't be used is told to `warn`, and done without. */
  static async open(file: string | undefined, warn: (message: string) => void): Promise<InputHistory> {
    if (file === undefined) return new InputHistory(undefined, [], warn);
    try {
      await mkdir(dirname(file), { recursive: true });
      const found = (await readEnd(file)).split("\n").filter((line) => isKept(line) && !CONTROL.test(line));
      const kept = found.slice(-MAX_LINES);
      if (found.length > 2 * MAX_LINES) await rewrite(file, kept);
      return new InputHistory(file, kept.reverse(), warn);
    } catch (error) {
      warn(`the input history is not kept: ${(error as Error).message}`);
      return new InputHistory(undefined, [], warn);
    }
  }

  add(line: string): void {
    if (this.#file === undefined || !isKept(line)) return;
    try {
      appendFileSync(this.#file, `${line}\n`, { mode: 0o600 });
    } catch (error) {
      this.#file = undefined;
      this.#warn(`the input history is not kept: ${(error as Error).message}`);
    }
  }
}

function isKept(line: string): boolean {
  return line.trim() !== "" && line.length <= MAX_LENGTH;
}

async function readEnd(file: string): Promise<string> {
  // What was typed is nobody else's business.
  const handle = await open(file, "a+", 0o600);
  try {
    const { size } = await handle.stat();
    const length = Math.min(size, MAX_BYTES);
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(length), 0, length, size - length);
    return buffer.toString("utf8", 0, bytesRead);
  } finally {
    await handle.close();
  }
}

async function rewrite(file: string, lines: readonly string[]): Promise<void> {
  await replaceFile(file, async (handle) => {
    await handle.chmod(0o600);
    await writeAll(handle, Buffer.from(lines.map((line) => `${line}\n`).join("")));
  });
}
