import { spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { mkdir, readdir, rename, rm, stat } from "node:fs/promises";
import { join, resolve } from "node:path";
import { variable } from "../env.ts";
import { HubError } from "../errors.ts";

/** A pip that runs: the command and its first arguments. */
export type PipCommand = readonly [string, ...string[]];

const CANDIDATES: readonly PipCommand[] = [
  ["pip"],
  ["pip3"],
  ["python3", "-m", "pip"],
  ["python", "-m", "pip"],
  ["py", "-m", "pip"],
];
const POLL = 250;

/** The first pip on the PATH that answers. */
export async function findPip(
  folder: string,
  signal?: AbortSignal | undefined,
): Promise<PipCommand | undefined> {
  for (const command of CANDIDATES) {
    const { code, output } = await runQuietly([...command, "--version"], folder, {}, signal);
    if (code === 0 && output.startsWith("pip ")) return command;
  }
  return undefined;
}

export interface PipDownload {
  pip: PipCommand;
  /** `name==version`. */
  requirement: string;
  /** The wheel that it brings. */
  wheel: string;
  /** Where the wheel goes. */
  target: string;
  /** An existing folder of ours for what pip writes on the way. */
  folder: string;
  signal?: AbortSignal | undefined;
  onProgress?: (loaded: number) => void;
}

/**
 * Has pip fetch one wheel with the index, proxy and certificates it is configured with. Only wheels are accepted,
 * so no code of the package runs.
 */
export async function pipDownload(request: PipDownload): Promise<void> {
  const { pip, requirement, wheel, target, folder, signal, onProgress } = request;
  // pip copies into its destination in place: a folder of its own keeps half a wheel from being taken for one.
  const destination = join(folder, `pip-${randomUUID()}`);
  await mkdir(join(destination, "tmp"), { recursive: true });
  const temporary = join(destination, "tmp");
  const watch = setInterval(() => {
    folderSize(destination).then(onProgress, () => undefined);
  }, POLL).unref();
  try {
    const flags = [
      "--no-deps",
      "--only-binary",
      ":all:",
      "--no-input",
      "--quiet",
      "--disable-pip-version-check",
    ];
    const { code, output } = await runQuietly(
      [...pip, "download", ...flags, "--dest", destination, requirement],
      destination,
      { TMPDIR: temporary, TEMP: temporary, TMP: temporary },
      signal,
    );
    if (code !== 0)
      throw new HubError(`${pip.join(" ")} download ${requirement} failed: ${lastLines(output)}`);
    const names = await readdir(destination);
    if (!names.includes(wheel)) {
      throw new HubError(`pip download ${requirement} brought ${names.join(", ")}, expected ${wheel}`);
    }
    await rename(join(destination, wheel), target);
  } finally {
    clearInterval(watch);
    await rm(destination, { recursive: true, force: true });
  }
}

/** Runs a program without a shell; its combined output's end comes back. A program that isn't there has code -1. */
async function runQuietly(
  command: readonly string[],
  cwd: string,
  extra: Record<string, string>,
  signal?: AbortSignal | undefined,
): Promise<{ code: number; output: string }> {
  signal?.throwIfAborted();
  const [program = "", ...args] = command;
  return new Promise((done, fail) => {
    // Not the caller's folder: `python -m` would import a module named pip from there. Relative paths in pip's
    // variables have to be made independent of it.
    const child = spawn(program, args, {
      cwd,
      env: { ...process.env, ...absoluteConfig(), ...extra },
      stdio: ["ignore", "pipe", "pipe"],
      windowsHide: true,
    });
    let output = "";
    const keep = (chunk: Buffer): void => {
      output = (output + chunk.toString("utf8")).slice(-8192);
    };
    const stop = (): void => {
      child.kill();
    };
    child.stdout.on("data", keep);
    child.stderr.on("data", keep);
    signal?.addEventListener("abort", stop, { once: true });
    const settle = (code: number): void => {
      signal?.removeEventListener("abort", stop);
      if (signal?.aborted === true) fail(signal.reason as Error);
      else done({ code, output });
    };
    child.on("error", () => settle(-1));
    child.on("close", (code) => settle(code ?? -1));
  });
}

function absoluteConfig(): Record<string, string> {
  const file = variable("PIP_CONFIG_FILE");
  return file === undefined || file === "/dev/null" ? {} : { PIP_CONFIG_FILE: resolve(file) };
}

async function folderSize(folder: string): Promise<number> {
  const names = await readdir(folder, { recursive: true });
  const sizes = await Promise.all(
    names.map((name) =>
      stat(join(folder, name)).then(
        (entry) => (entry.isFile() ? entry.size : 0),
        () => 0,
      ),
    ),
  );
  return sizes.reduce((sum, size) => sum + size, 0);
}

function lastLines(output: string): string {
  const lines = output.split("\n").map((line) => line.trim());
  const errors = lines.filter((line) => line.startsWith("ERROR"));
  return (errors.length > 0 ? errors : lines.filter((line) => line !== "").slice(-3)).join(" ");
}
