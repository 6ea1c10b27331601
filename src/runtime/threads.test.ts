import { availableParallelism } from "node:os";
import { expect, test } from "vitest";
import { countThreads, defaultThreads, type SystemView } from "./threads.ts";

/** A Linux machine with `cores` of two threads each, numbered as Linux does: cpu n and n + cores share a core. */
function linux(cores: number, allowed: string, files: Record<string, string> = {}): SystemView {
  const all: Record<string, string> = {
    "/proc/self/status": `Name:\tnode\nCpus_allowed_list:\t${allowed}\n`,
  };
  for (let cpu = 0; cpu < 2 * cores; cpu++) {
    const first = cpu % cores;
    all[`/sys/devices/system/cpu/cpu${cpu}/topology/thread_siblings_list`] = `${first},${first + cores}\n`;
  }
  Object.assign(all, files);
  return { platform: "linux", arch: "x64", parallelism: 2 * cores, read: (path) => all[path] };
}

test("this machine has at least one and at most its logical processors", () => {
  expect(defaultThreads()).toBeGreaterThanOrEqual(1);
  expect(defaultThreads()).toBeLessThanOrEqual(availableParallelism());
});

test("counts physical cores that the process may use", () => {
  expect(countThreads(linux(8, "0-15"))).toBe(8);
  expect(countThreads(linux(8, "0-3"))).toBe(4);
  expect(countThreads(linux(8, "0,8"))).toBe(1);
  expect(countThreads(linux(8, "0-1,9-10,15"))).toBe(4);
});

test("keeps within the quota of cgroup v2, of every group above too", () => {
  const group = { "/proc/self/cgroup": "0::/user/job\n" };
  const at = (path: string, text: string) => ({ ...group, [`/sys/fs/cgroup${path}/cpu.max`]: text });
  expect(countThreads(linux(8, "0-15", at("/user/job", "350000 100000\n")))).toBe(3);
  expect(countThreads(linux(8, "0-15", at("/user", "200000 100000\n")))).toBe(2);
  expect(countThreads(linux(8, "0-15", at("", "50000 100000\n")))).toBe(1);
  expect(countThreads(linux(8, "0-15", at("/user/job", "max 100000\n")))).toBe(8);
});

test("keeps within the quota of cgroup v1", () => {
  const files = (mount: string, quota: string) => ({
    "/proc/self/cgroup": "4:memory:/m\n3:cpu,cpuacct:/docker/abc\n0::/\n",
    [`/sys/fs/cgroup/${mount}/cpu.cfs_quota_us`]: quota,
    [`/sys/fs/cgroup/${mount}/cpu.cfs_period_us`]: "100000\n",
  });
  expect(countThreads(linux(8, "0-15", files("cpu,cpuacct/docker/abc", "400000\n")))).toBe(4);
  expect(countThreads(linux(8, "0-15", files("cpu", "250000\n")))).toBe(2);
  expect(countThreads(linux(8, "0-15", files("cpu", "-1\n")))).toBe(8);
});

test("guesses where the topology is not told", () => {
  const read = () => undefined;
  expect(countThreads({ platform: "win32", arch: "x64", parallelism: 12, read })).toBe(6);
  expect(countThreads({ platform: "darwin", arch: "arm64", parallelism: 10, read })).toBe(10);
  expect(countThreads({ platform: "linux", arch: "x64", parallelism: 1, read })).toBe(1);
});
