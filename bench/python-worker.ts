import { spawn } from "node:child_process";
import path from "node:path";
import { createInterface } from "node:readline";

/** A Python program of this folder that answers a JSON object a line by another. */
export interface PythonWorker {
  /** What runs there: names and versions. */
  readonly name: string;
  ask(task: object): Promise<Readonly<Record<string, unknown>>>;
  close(): void;
}

/** Starts a program and waits until it says {"ready": …}; `needs` is what has to be installed, for messages. */
export async function startPython(
  python: string,
  script: string,
  args: readonly string[],
  needs: string,
): Promise<PythonWorker> {
  const child = spawn(python, [path.join(import.meta.dirname, script), ...args], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const answer = async (): Promise<Record<string, unknown>> => {
    const line = await lines.next();
    if (line.done === true) throw new Error(`${python} ended; is ${needs} installed there?`);
    return JSON.parse(line.value) as Record<string, unknown>;
  };
  const { ready } = await answer();
  return {
    name: String(ready),
    ask(task) {
      child.stdin.write(`${JSON.stringify(task)}\n`);
      return answer();
    },
    close: () => child.stdin.end(),
  };
}
