import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, rename, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { cacheFolder } from "../src/cache-folder.ts";

/** The version to compare with. */
export const NODE_LLAMA_CPP_VERSION = "3.22.1";

/** Its packages with CPU binaries. */
const BINARIES: Readonly<Record<string, string>> = {
  "linux-x64": "linux-x64",
  "linux-arm64": "linux-arm64",
  "darwin-arm64": "mac-arm64-metal",
  "darwin-x64": "mac-x64",
  "win32-x64": "win-x64",
  "win32-arm64": "win-arm64",
};

/**
 * Installs node-llama-cpp into lapidary's cache (never as a dependency) and gives the URL to import. Its optional
 * packages hold gigabytes of GPU libraries: all are left out, and the one for this processor is named as a direct
 * dependency, which is then not optional.
 */
export async function installNodeLlamaCpp(log: (line: string) => void): Promise<string> {
  const platform = `${process.platform}-${process.arch}`;
  const binary = BINARIES[platform];
  if (binary === undefined) throw new Error(`node-llama-cpp has no CPU binaries for ${platform}`);
  const folder = path.join(cacheFolder(), "bench", `node-llama-cpp-${NODE_LLAMA_CPP_VERSION}-${platform}`);
  const entry = path.join(folder, "node_modules", "node-llama-cpp", "dist", "index.js");
  if (!existsSync(entry)) {
    log(`installing node-llama-cpp ${NODE_LLAMA_CPP_VERSION} into ${folder}`);
    const unfinished = `${folder}.${process.pid}`;
    await mkdir(unfinished, { recursive: true });
    try {
      const dependencies = {
        "node-llama-cpp": NODE_LLAMA_CPP_VERSION,
        [`@node-llama-cpp/${binary}`]: NODE_LLAMA_CPP_VERSION,
      };
      await writeFile(path.join(unfinished, "package.json"), JSON.stringify({ private: true, dependencies }));
      await npm(["install", "--omit=optional", "--ignore-scripts", "--no-audit", "--no-fund"], unfinished);
      await rm(folder, { recursive: true, force: true });
      await rename(unfinished, folder);
    } finally {
      await rm(unfinished, { recursive: true, force: true });
    }
  }
  return pathToFileURL(entry).href;
}

/** Runs the npm that runs this script, else the one on the path. */
export function npm(args: readonly string[], folder: string): Promise<void> {
  const script = process.env.npm_execpath;
  const [file, first] = script === undefined ? ["npm", []] : [process.execPath, [script]];
  const child = spawn(file, [...first, ...args], {
    cwd: folder,
    stdio: ["ignore", "ignore", "pipe"],
    shell: script === undefined && process.platform === "win32",
  });
  let errors = "";
  child.stderr.on("data", (chunk: Buffer) => {
    errors = (errors + chunk.toString()).slice(-2000);
  });
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code) => {
      if (code === 0) resolve();
      else reject(new Error(`npm ${args.join(" ")} ended with ${code}: ${errors.trim()}`));
    });
  });
}
