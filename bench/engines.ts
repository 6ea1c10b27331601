import { existsSync } from "node:fs";
import { readdir, stat } from "node:fs/promises";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { installNodeLlamaCpp, npm } from "./node-llama-cpp.ts";
import type { BenchOptions } from "./options.ts";
import type { EngineProcess } from "./workers.ts";

const ROOT = path.join(import.meta.dirname, "..");

/** Prompt tokens, decoded tokens and some room. */
const ROOM = 160;

/** How to start an engine's process; installs or builds what it needs. Throws where it cannot be had. */
export async function prepareEngine(
  name: string,
  options: BenchOptions,
  log: (line: string) => void,
): Promise<EngineProcess> {
  const common = {
    model: path.resolve(options.model),
    threads: options.threads,
    positions: Math.max(512, ...options.depths) + ROOM,
    batch: Math.max(...options.batches),
  };
  if (name === "node-llama-cpp") {
    return { script: "node-llama-cpp", setup: { ...common, module: await installNodeLlamaCpp(log) } };
  }
  if (name === "hf-torch") {
    const script = path.join(import.meta.dirname, "hf_torch_worker.py");
    return { script: name, program: [options.python, script], setup: { ...common, module: "" } };
  }
  const module = await buildLapidary(log);
  const dtype = name === "lapidary-q4" ? "q4" : "auto";
  const engine = name === "onnxruntime-node" ? "node" : "native";
  return { script: "lapidary", setup: { ...common, module, dtype }, env: { LAPIDARY_ENGINE: engine } };
}

/** The built package's entry; builds it when the source is newer, since users run the build. */
async function buildLapidary(log: (line: string) => void): Promise<string> {
  const entry = path.join(ROOT, "dist", "index.js");
  if (!existsSync(path.join(ROOT, "src", "index.ts"))) throw new Error("src/index.ts does not exist yet");
  const built = existsSync(entry) ? (await stat(entry)).mtimeMs : 0;
  if ((await newest(path.join(ROOT, "src"))) > built) {
    log("building lapidary");
    await npm(["run", "build"], ROOT);
  }
  return pathToFileURL(entry).href;
}

async function newest(folder: string): Promise<number> {
  const entries = await readdir(folder, { withFileTypes: true, recursive: true });
  const files = entries.filter((entry) => entry.isFile() && !entry.name.endsWith(".test.ts"));
  const times = await Promise.all(
    files.map(async (entry) => (await stat(path.join(entry.parentPath, entry.name))).mtimeMs),
  );
  return Math.max(0, ...times);
}
