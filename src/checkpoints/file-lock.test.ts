import { spawnSync } from "node:child_process";
import { mkdtemp, readdir, rm, utimes, writeFile } from "node:fs/promises";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { withLock } from "./file-lock.ts";

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "lapidary-lock-"));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

it("lets one in at a time and leaves nothing behind", async () => {
  const path = join(folder, "deeper", "lock");
  let inside = 0;
  let most = 0;
  const work = async (): Promise<void> => {
    most = Math.max(most, ++inside);
    await new Promise((done) => setTimeout(done, 5));
    inside--;
  };
  await Promise.all(Array.from({ length: 8 }, () => withLock(path, work)));
  expect(most).toBe(1);
  await expect(withLock(path, () => Promise.reject(new Error("work failed")))).rejects.toThrow("work failed");
  expect(await readdir(join(folder, "deeper"))).toEqual([]);
});

it("takes over from a process that died, from a silent machine and from a torn file", async () => {
  const path = join(folder, "lock");
  const { pid } = spawnSync(process.execPath, ["-e", ""]);
  const long = new Date(Date.now() - 120_000);
  for (const content of [
    JSON.stringify({ pid, host: hostname() }),
    JSON.stringify({ pid, host: "elsewhere" }),
    "{",
  ]) {
    await writeFile(path, content);
    await utimes(path, long, long);
    const both = await Promise.all([withLock(path, async () => 1), withLock(path, async () => 2)]);
    expect(both).toEqual([1, 2]);
    expect(await readdir(folder)).toEqual([]);
  }
});

it("waits for the living, until told to stop", async () => {
  const path = join(folder, "lock");
  await writeFile(path, JSON.stringify({ pid: process.pid, host: hostname() }));
  const reason = new Error("enough");
  const controller = new AbortController();
  setTimeout(() => controller.abort(reason), 150);
  await expect(withLock(path, async () => 1, controller.signal)).rejects.toBe(reason);
  expect(await readdir(folder)).toEqual(["lock"]);
});
