import { readFileSync } from "node:fs";

/** Peak resident memory in bytes. File-backed pages (mapped weights) can be dropped by the system at any time. */
export interface PeakMemory {
  readonly anonymous: number;
  readonly file: number;
}

const INTERVAL_MS = 20;

/** Samples a process's resident memory from /proc until stopped. On other systems it sees nothing. */
export class MemoryWatch {
  readonly #pid: number | undefined;
  readonly #timer: NodeJS.Timeout;
  #peak: PeakMemory | undefined;

  constructor(pid: number | undefined) {
    this.#pid = pid;
    this.#timer = setInterval(() => this.#sample(), INTERVAL_MS);
    this.#timer.unref();
  }

  /** The largest values seen; each kind has its own moment. */
  peak(): PeakMemory | undefined {
    this.#sample();
    return this.#peak;
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  #sample(): void {
    const now = residentMemory(this.#pid);
    if (now === undefined) return;
    this.#peak = {
      anonymous: Math.max(now.anonymous, this.#peak?.anonymous ?? 0),
      file: Math.max(now.file, this.#peak?.file ?? 0),
    };
  }
}

function residentMemory(pid: number | undefined): PeakMemory | undefined {
  if (pid === undefined || process.platform !== "linux") return undefined;
  try {
    const status = readFileSync(`/proc/${pid}/status`, "utf8");
    const kilobytes = (name: string): number =>
      Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, "m").exec(status)?.[1]);
    // Shared memory without a file behind it counts with the anonymous pages: it cannot be dropped either.
    const anonymous = (kilobytes("RssAnon") + kilobytes("RssShmem")) * 1024;
    const file = kilobytes("RssFile") * 1024;
    return Number.isNaN(anonymous) || Number.isNaN(file) ? undefined : { anonymous, file };
  } catch {
    return undefined; // the process is gone
  }
}
