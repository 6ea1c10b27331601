/** What this process holds in memory, apart from what it merely maps. */
import { readFileSync } from "node:fs";

/** Bytes. Weights that ONNX Runtime maps from a file are file-backed: the system takes them back when it is short. */
export interface MemoryUsage {
  /** All memory of the process that is in RAM. */
  readonly resident: number;
  /** The highest that `resident` has been. */
  readonly peakResident: number;
  /** The part that belongs to no file: heaps, caches, prepacked weights. Linux only. */
  readonly anonymous: number | undefined;
  /** The part that is pages of files: mapped weights, libraries. Linux only. */
  readonly fileBacked: number | undefined;
}

/** This process's memory now. */
export function memoryUsage(): MemoryUsage {
  const fields = process.platform === "linux" ? readStatus() : new Map<string, number>();
  return {
    resident: fields.get("VmRSS") ?? process.memoryUsage.rss(),
    peakResident: fields.get("VmHWM") ?? process.resourceUsage().maxRSS * 1024,
    anonymous: fields.get("RssAnon"),
    fileBacked: fields.get("RssFile"),
  };
}

/** The fields of /proc/self/status that are sizes. */
function readStatus(): Map<string, number> {
  try {
    const lines = readFileSync("/proc/self/status", "utf8").matchAll(/^(\w+):\s+(\d+) kB$/gm);
    return new Map(Array.from(lines, ([, name, kilobytes]) => [name!, Number(kilobytes) * 1024]));
  } catch {
    return new Map(); // /proc may be hidden in a sandbox
  }
}
