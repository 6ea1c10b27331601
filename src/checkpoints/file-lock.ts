import { randomUUID } from "node:crypto";
import { mkdir, open, readFile, rm, stat, unlink, utimes } from "node:fs/promises";
import { hostname } from "node:os";
import { dirname } from "node:path";
import { sleep } from "./http.ts";

/** A lock's file is touched this often, so that a machine that went away can be told from a slow one. */
const HEARTBEAT = 5_000;
/** Age of the last touch after which a lock of another machine is taken over. */
const STALE_ELSEWHERE = 60_000;
/** The same for this machine, where a dead owner shows at once and only a reused process id misleads. */
const STALE_HERE = 600_000;
const POLL = 100;

/**
 * Runs `work` while holding a lock file, for exclusion between processes and within one. Waits for another owner;
 * the lock of an owner that died is taken over.
 */
export async function withLock<T>(
  path: string,
  work: () => Promise<T>,
  signal?: AbortSignal | undefined,
): Promise<T> {
  const token = JSON.stringify({ pid: process.pid, host: hostname(), id: randomUUID() });
  await mkdir(dirname(path), { recursive: true });
  while (!(await createLock(path, token))) {
    signal?.throwIfAborted();
    if (await isStale(path)) await breakLock(path);
    else await sleep(POLL, signal);
  }
  const heartbeat = setInterval(() => {
    const now = new Date();
    utimes(path, now, now).catch(() => undefined);
  }, HEARTBEAT).unref();
  try {
    return await work();
  } finally {
    clearInterval(heartbeat);
    // Somebody may have judged us dead and taken the lock: then it is theirs.
    if ((await contents(path)) === token) await rm(path, { force: true });
  }
}

async function createLock(path: string, token: string): Promise<boolean> {
  try {
    const handle = await open(path, "wx");
    try {
      await handle.writeFile(token);
    } finally {
      await handle.close();
    }
    return true;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    // Windows answers EPERM or EBUSY while the last owner's file is being deleted.
    if (code === "EEXIST" || (process.platform === "win32" && (code === "EPERM" || code === "EBUSY")))
      return false;
    throw error;
  }
}

async function isStale(path: string): Promise<boolean> {
  const text = await contents(path);
  if (text === undefined) return false; // released meanwhile
  const age = Date.now() - ((await stat(path).catch(() => undefined))?.mtimeMs ?? Date.now());
  try {
    const { pid, host } = JSON.parse(text) as { pid: number; host: string };
    if (host !== hostname()) return age > STALE_ELSEWHERE;
    return age > STALE_HERE || !isAlive(pid);
  } catch {
    return age > HEARTBEAT; // the owner died between creating and writing
  }
}

/** Removes a stale lock. A second lock around it keeps two waiters from removing each other's fresh ones. */
async function breakLock(path: string): Promise<void> {
  const guard = `${path}.break`;
  if (!(await createLock(guard, ""))) {
    const age = Date.now() - ((await stat(guard).catch(() => undefined))?.mtimeMs ?? Date.now());
    if (age > STALE_ELSEWHERE) await rm(guard, { force: true });
    else await sleep(POLL);
    return;
  }
  try {
    if (await isStale(path)) await unlink(path).catch(() => undefined);
  } finally {
    await rm(guard, { force: true });
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0); // signal 0 only asks
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM"; // alive, somebody else's
  }
}

async function contents(path: string): Promise<string | undefined> {
  return readFile(path, "utf8").catch(() => undefined);
}
