import { Buffer } from "node:buffer";
import { type FileHandle, open, realpath, stat } from "node:fs/promises";
import { CheckpointError } from "../errors.ts";

/** A file that was found: as it was asked for (messages name this), and as it is on disk. */
export interface FoundFile {
  readonly path: string;
  readonly realPath: string;
  readonly size: number;
}

/** Reads are split so that none exceeds what one system call can return. */
const MAX_READ = 1 << 30;

/** Finds a regular file, links resolved. Pipes and devices are refused: opening one could wait for ever. */
export async function findFile(path: string): Promise<FoundFile> {
  try {
    const realPath = await realpath(path);
    const found = await stat(realPath);
    if (found.isFile()) return { path, realPath, size: found.size };
  } catch (cause) {
    throw new CheckpointError(reasonOf(cause), { file: path, cause });
  }
  throw new CheckpointError("not a regular file", { file: path });
}

/** Refuses what a clone without Git LFS has in a large file's place; `start` is the file's beginning, 8 bytes. */
export function refuseLfsPointer(start: Buffer, path: string): void {
  if (start.toString("latin1") !== "version ") return;
  throw new CheckpointError("is a Git LFS pointer, not the weights; fetch them with `git lfs pull`", {
    file: path,
  });
}

/** The handles of a checkpoint: one per file, opened at its first read, closed together. */
export class OpenFiles {
  readonly #handles = new Map<string, Promise<FileHandle>>();
  #closed = false;

  /** Exactly `length` bytes from `offset`. The caller has checked that the file is that long. */
  async read(realPath: string, offset: number, length: number, tensor?: string): Promise<Buffer> {
    const place = tensor === undefined ? { file: realPath } : { file: realPath, tensor };
    try {
      const handle = await this.#handle(realPath);
      const bytes = Buffer.allocUnsafeSlow(length);
      let done = 0;
      while (done < length) {
        const wanted = Math.min(length - done, MAX_READ);
        const { bytesRead } = await handle.read(bytes, done, wanted, offset + done);
        if (bytesRead === 0) {
          const missing = `${length} bytes at ${offset}, got ${done}`;
          throw new CheckpointError(`short read: expected ${missing}; has the file changed?`, place);
        }
        done += bytesRead;
      }
      return bytes;
    } catch (cause) {
      if (cause instanceof CheckpointError) throw cause;
      throw new CheckpointError(reasonOf(cause), { ...place, cause });
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    const handles = [...this.#handles.values()];
    this.#handles.clear();
    for (const opened of await Promise.allSettled(handles)) {
      if (opened.status === "fulfilled") await opened.value.close();
    }
  }

  #handle(realPath: string): Promise<FileHandle> {
    if (this.#closed) throw new CheckpointError("the checkpoint is closed", { file: realPath });
    let handle = this.#handles.get(realPath);
    if (handle === undefined) {
      handle = open(realPath, "r");
      this.#handles.set(realPath, handle);
      // A failed opening may be tried again (too many open files, say).
      handle.catch(() => this.#handles.delete(realPath));
    }
    return handle;
  }
}

/** A system error in words. */
export function reasonOf(cause: unknown): string {
  const code = cause instanceof Error && "code" in cause ? cause.code : undefined;
  if (code === "ENOENT") return "no such file";
  if (code === "EACCES" || code === "EPERM") return "permission denied";
  if (code === "ELOOP") return "symbolic links form a cycle";
  return cause instanceof Error ? cause.message : String(cause);
}
