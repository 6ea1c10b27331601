import { open, statfs } from "node:fs/promises";
import { dirname } from "node:path";
import { HubError } from "../errors.ts";

/** Room left on the disk beyond a download. */
const RESERVE = 16 * 2 ** 20;

/** Makes a rename in a folder last through a power cut, where the system can. */
export async function syncFolder(folder: string): Promise<void> {
  try {
    const handle = await open(folder, "r");
    await handle.sync().finally(() => handle.close());
  } catch {
    // Windows has no handles of folders.
  }
}

/** Refuses what can't fit before anything is fetched. */
export async function checkRoom(folder: string, bytes: number, label: string): Promise<void> {
  const disk = await statfs(folder).catch(() => undefined);
  if (disk === undefined) return;
  const free = disk.bavail * disk.bsize;
  if (bytes + RESERVE > free) {
    throw new HubError(`${label}: ${megabytes(bytes)} are needed in ${folder}, ${megabytes(free)} are free`);
  }
}

/** A failed write as a HubError that says what to do; other errors pass. */
export function diskError(error: unknown, place: { label: string; target: string }): unknown {
  const { code } = error as NodeJS.ErrnoException;
  const reasons: Record<string, string> = {
    ENOSPC: "the disk is full",
    EDQUOT: "the disk quota is used up",
    EFBIG: "the file system does not hold files of this size",
    EROFS: "the file system is read-only",
    EACCES: "no permission to write",
    EPERM: "no permission to write",
    ENOTDIR: "a file is where a folder should be",
    EEXIST: "a file is where a folder should be",
  };
  const reason = code === undefined ? undefined : reasons[code];
  if (reason === undefined || error instanceof HubError) return error;
  const options = "choose another folder with HF_HOME or cache_dir (hub), or LAPIDARY_CACHE (packages)";
  return new HubError(`${place.label}: ${reason} at ${dirname(place.target)}; ${options}`, { cause: error });
}

/** A size for people. */
export function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`;
}
