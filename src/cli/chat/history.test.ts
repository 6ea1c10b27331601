import { mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { InputHistory } from "./history.ts";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "lapidary-history-"));
});
afterAll(() => rm(folder, { recursive: true }));

function fail(message: string): never {
  throw new Error(message);
}

describe("InputHistory", () => {
  it("keeps lines from chat to chat, newest first, and for the user alone", async () => {
    const file = join(folder, "new", "history");
    const first = await InputHistory.open(file, fail);
    expect(first.lines).toEqual([]);
    for (const line of ["one", "  ", "zwei — δύο", "x".repeat(5000)]) first.add(line);
    expect((await InputHistory.open(file, fail)).lines).toEqual(["zwei — δύο", "one"]);
    if (process.platform !== "win32") expect((await stat(file)).mode & 0o777).toBe(0o600);
  });

  it("does not grow without end, and leaves out what a terminal would obey", async () => {
    const file = join(folder, "long");
    const lines = Array.from({ length: 2001 }, (_, i) => `line ${i}`);
    await writeFile(file, ["\u001b]0;title\u0007", ...lines, "\u001b[2J", ""].join("\n"));
    const { lines: kept } = await InputHistory.open(file, fail);
    expect([kept.length, kept[0], kept[999]]).toEqual([1000, "line 2000", "line 1001"]);
    expect(await readFile(file, "utf8")).toBe(`${lines.slice(1001).join("\n")}\n`);
  });

  it("reads the end of a file that is too long", async () => {
    const file = join(folder, "huge");
    await writeFile(file, `${"y".repeat(100)}\n`.repeat(50_000));
    expect((await InputHistory.open(file, fail)).lines).toHaveLength(1000);
    expect((await stat(file)).size).toBe(101 * 1000);
  });

  it("does without a file that can't be used, and says so once", async () => {
    const warnings: string[] = [];
    const history = await InputHistory.open(folder, (message) => warnings.push(message));
    history.add("one");
    history.add("two");
    expect(warnings).toHaveLength(1);
    expect(warnings[0]).toMatch(/not kept: EISDIR/);
    expect((await InputHistory.open(undefined, fail)).lines).toEqual([]);
  });
});
