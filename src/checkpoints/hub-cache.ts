import { randomUUID } from "node:crypto";
import {
  copyFile,
  link,
  mkdir,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  symlink,
  writeFile,
} from "node:fs/promises";
import { dirname, join, relative, sep } from "node:path";
import { HubError } from "../errors.ts";
import { sleep } from "./http.ts";
import { checkFileName } from "./hub-files.ts";

const COMMIT = /^[0-9a-f]{40}([0-9a-f]{24})?$/;

/** Makes a symbolic link; replaceable, to try systems that refuse them. */
export type Linker = (target: string, path: string) => Promise<void>;

/**
 * One repository in the hub's cache, laid out as Python's huggingface_hub does: `blobs/<etag>` hold the bytes,
 * `snapshots/<commit>/<file>` link to them, `refs/<revision>` hold commits, `.no_exist/<commit>/<file>` note
 * files that a commit lacks.
 */
export class RepoCache {
  readonly root: string;
  private readonly locks: string;
  private readonly linker: Linker;

  constructor(cacheDir: string, id: string, linker: Linker = symlink) {
    const name = ["models", ...id.split("/")].join("--");
    this.root = join(cacheDir, name);
    this.locks = join(cacheDir, ".locks", name);
    this.linker = linker;
  }

  blob(etag: string): string {
    return join(this.root, "blobs", etag);
  }

  /** Python's locks are of another kind and may lie about: ours have a name of their own. */
  lock(etag: string): string {
    return join(this.locks, `${etag}.lapidary.lock`);
  }

  snapshot(commit: string): string {
    return join(this.root, "snapshots", commit);
  }

  pointer(commit: string, file: string): string {
    return join(this.snapshot(commit), ...file.split("/"));
  }

  /** The cached commit of a branch, tag or (abbreviated) commit. */
  async commitOf(revision: string): Promise<string | undefined> {
    checkFileName(revision, "revision");
    if (COMMIT.test(revision)) return (await isThere(this.snapshot(revision))) ? revision : undefined;
    const ref = await readFile(join(this.root, "refs", ...revision.split("/")), "utf8").catch(() => "");
    const commit = ref.trim();
    if (COMMIT.test(commit)) return commit;
    if (!/^[0-9a-f]{7,}$/.test(revision)) return undefined;
    const commits = await readdir(join(this.root, "snapshots")).catch(() => []);
    const matches = commits.filter((name) => name.startsWith(revision));
    return matches.length === 1 ? matches[0] : undefined;
  }

  async writeRef(revision: string, commit: string): Promise<void> {
    if (revision === commit) return;
    checkFileName(revision, "revision");
    const path = join(this.root, "refs", ...revision.split("/"));
    if ((await readFile(path, "utf8").catch(() => "")) === commit) return;
    await mkdir(dirname(path), { recursive: true });
    const temporary = `${path}.${randomUUID()}`;
    await writeFile(temporary, commit);
    await rename(temporary, path);
  }

  /** Names of the files that a snapshot really holds (links whose blob is gone don't count). */
  async files(commit: string): Promise<string[]> {
    const folder = this.snapshot(commit);
    const names = await readdir(folder, { recursive: true }).catch(() => []);
    const there = await Promise.all(names.map((name) => isFile(join(folder, name))));
    return names.filter((_, i) => there[i]).map((name) => name.split(sep).join("/"));
  }

  async markMissing(commit: string, file: string): Promise<void> {
    const path = this.missing(commit, file);
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, "");
  }

  async isMarkedMissing(commit: string, file: string): Promise<boolean> {
    return isThere(this.missing(commit, file));
  }

  /** Makes a blob appear in a snapshot: a relative link, else a hard link, else a copy. */
  async link(commit: string, file: string, etag: string): Promise<void> {
    const path = this.pointer(commit, file);
    await mkdir(dirname(path), { recursive: true });
    const temporary = `${path}.${randomUUID()}`;
    const blob = this.blob(etag);
    try {
      await this.linker(relative(dirname(path), blob), temporary)
        .catch(() => link(blob, temporary))
        .catch(() => copyFile(blob, temporary));
      await rename(temporary, path);
    } finally {
      await rm(temporary, { force: true });
    }
  }

  /**
   * Where a download gathers: the file that an interrupted one left, unless another program (Python takes no
   * notice of our locks) is writing there right now.
   */
  async partial(etag: string, signal?: AbortSignal): Promise<string> {
    const path = `${this.blob(etag)}.incomplete`;
    const before = await stat(path).catch(() => undefined);
    if (before === undefined || Date.now() - before.mtimeMs > 5_000) return path;
    await sleep(500, signal);
    const after = await stat(path).catch(() => undefined);
    const grows = after !== undefined && (after.size !== before.size || after.mtimeMs !== before.mtimeMs);
    return grows ? `${this.blob(etag)}.${randomUUID()}.incomplete` : path;
  }

  private missing(commit: string, file: string): string {
    return join(this.root, ".no_exist", commit, ...file.split("/"));
  }
}

/** Checks what a server calls a commit before it becomes part of a path. */
export function checkCommit(commit: unknown, origin: string): string {
  if (typeof commit === "string" && COMMIT.test(commit)) return commit;
  throw new HubError(`${origin}: the server's commit is not one: ${JSON.stringify(commit)}`);
}

async function isThere(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}

async function isFile(path: string): Promise<boolean> {
  return stat(path).then(
    (entry) => entry.isFile(),
    () => false,
  );
}
