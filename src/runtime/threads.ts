/** How many threads to use where the caller does not say. */
import { readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { posix } from "node:path";

/** What the count depends on; tests give their own. */
export interface SystemView {
  readonly platform: string;
  readonly arch: string;
  /** Logical processors that the process may use, as Node sees them. */
  readonly parallelism: number;
  /** A file's text, or undefined where there is none. */
  read(path: string): string | undefined;
}

let known: number | undefined;

/**
 * Physical cores that this process may run on, within the cgroup's CPU quota; at least 1. A second thread on a core
 * adds nothing to matrix products, which fill its units with one.
 */
export function defaultThreads(): number {
  known ??= countThreads({
    platform: process.platform,
    arch: process.arch,
    parallelism: availableParallelism(),
    read: readIfThere,
  });
  return known;
}

/** As `defaultThreads`, for any system. */
export function countThreads(system: SystemView): number {
  const cores = system.platform === "linux" ? linuxCores(system) : undefined;
  const quota = system.platform === "linux" ? cgroupQuota(system) : Number.POSITIVE_INFINITY;
  // Rounded down: a thread beyond the quota gets all of them stopped for part of every period.
  return Math.max(1, Math.min(cores ?? guessCores(system), Math.floor(quota)));
}

/** Where the topology is not told: on x64 two logical processors usually share a core, on arm64 none do. */
function guessCores(system: SystemView): number {
  return system.arch === "x64" ? Math.ceil(system.parallelism / 2) : system.parallelism;
}

function linuxCores(system: SystemView): number | undefined {
  const allowed = /^Cpus_allowed_list:\s*(.+)$/m.exec(system.read("/proc/self/status") ?? "")?.[1];
  if (allowed === undefined) return undefined;
  const cores = new Set<string>();
  for (const cpu of parseCpuList(allowed)) {
    const siblings = system.read(`/sys/devices/system/cpu/cpu${cpu}/topology/thread_siblings_list`);
    if (siblings === undefined) return undefined;
    cores.add(siblings.trim());
  }
  return cores.size === 0 ? undefined : cores.size;
}

/** "0-3,8" as numbers. */
function parseCpuList(list: string): number[] {
  return list
    .trim()
    .split(",")
    .flatMap((part) => {
      const [first, last = first] = part.split("-").map(Number);
      if (first === undefined || last === undefined || Number.isNaN(first + last)) return [];
      return Array.from({ length: last - first + 1 }, (_, index) => first + index);
    });
}

/** The smallest quota, in processors, on the way from the process's group to the root, in cgroup v2 or v1. */
function cgroupQuota(system: SystemView): number {
  let quota = Number.POSITIVE_INFINITY;
  for (const line of (system.read("/proc/self/cgroup") ?? "").split("\n")) {
    const [, controllers, path] = /^\d+:([^:]*):(.*)$/.exec(line) ?? [];
    if (controllers === undefined || path === undefined) continue;
    if (controllers === "")
      quota = Math.min(
        quota,
        smallest(path, (group) => quotaV2(system, group)),
      );
    else if (controllers.split(",").includes("cpu")) {
      quota = Math.min(
        quota,
        smallest(path, (group) => quotaV1(system, controllers, group)),
      );
    }
  }
  return quota;
}

/** A container sees its own group as the root: folders of the path above may not be there, and count as no limit. */
function smallest(path: string, quotaOf: (group: string) => number): number {
  const own = quotaOf(path);
  return path === "/" || path === "" || path === "."
    ? own
    : Math.min(own, smallest(posix.dirname(path), quotaOf));
}

function quotaV2(system: SystemView, group: string): number {
  const [limit, period] = (system.read(posix.join("/sys/fs/cgroup", group, "cpu.max")) ?? "")
    .trim()
    .split(" ");
  return ratio(Number(limit), Number(period));
}

function quotaV1(system: SystemView, controllers: string, group: string): number {
  for (const mount of [controllers, "cpu"]) {
    const folder = posix.join("/sys/fs/cgroup", mount, group);
    const limit = system.read(posix.join(folder, "cpu.cfs_quota_us"));
    const period = system.read(posix.join(folder, "cpu.cfs_period_us"));
    if (limit !== undefined && period !== undefined) return ratio(Number(limit), Number(period));
  }
  return Number.POSITIVE_INFINITY;
}

/** "max" (not a number) and -1 mean no limit. */
function ratio(limit: number, period: number): number {
  return limit > 0 && period > 0 ? limit / period : Number.POSITIVE_INFINITY;
}

function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}
