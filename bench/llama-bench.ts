import { execFile } from "node:child_process";
import { promisify } from "node:util";

/** One measurement of llama.cpp's own benchmark, in tokens a second. */
export async function runLlamaBench(
  binary: string,
  model: string,
  threads: number,
  measure: { readonly metric: string; readonly depth: number; readonly tokens: number },
): Promise<number> {
  const what =
    measure.metric === "prefill"
      ? ["-p", String(measure.tokens), "-n", "0"]
      : ["-p", "0", "-n", String(measure.tokens), "-d", String(measure.depth)];
  const args = ["-m", model, "-t", String(threads), "-r", "1", "-ngl", "0", "-o", "json", ...what];
  const { stdout } = await promisify(execFile)(binary, args);
  const [result] = JSON.parse(stdout) as { avg_ts: number }[];
  if (result === undefined) throw new Error("llama-bench gave no result");
  return result.avg_ts;
}
