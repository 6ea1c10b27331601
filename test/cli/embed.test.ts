import { type SpawnSyncReturns, spawnSync } from "node:child_process";
import { join, resolve } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { temporaryFolder } from "../checkpoints/files.ts";
import { writeSentenceFolder } from "../support/sentence-folder.ts";

const MAIN = resolve(import.meta.dirname, "../../dist/cli/main.js");
const folder = temporaryFolder();

function embed(args: readonly string[], input?: string): SpawnSyncReturns<string> {
  return spawnSync(process.execPath, [MAIN, "embed", ...args], {
    encoding: "utf8",
    env: { ...process.env, LAPIDARY_CACHE: join(folder, "cache"), HF_HUB_OFFLINE: "1" },
    timeout: 60_000,
    ...(input === undefined ? {} : { input }),
  });
}

describe("lapidary embed", () => {
  let model: string[];
  beforeAll(() => {
    const settings = { prompts: { query: "query: " } };
    model = ["--model", writeSentenceFolder(join(folder, "model"), { hidden_size: 20, settings })];
  });

  it("explains itself", () => {
    const { stdout, status } = embed(["--help"]);
    expect(status).toBe(0);
    expect(stdout).toMatch(/--prompt-name <name>/);
  });

  it("prints a vector a line, for arguments and for lines of a pipe alike", () => {
    const { stdout, stderr, status } = embed([...model, "Hello world", "What is it?"]);
    expect([status, stderr]).toEqual([0, ""]);
    const vectors = stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as number[]);
    expect(vectors).toHaveLength(2);
    for (const vector of vectors) expect(Math.hypot(...vector)).toBeCloseTo(1, 5);
    expect(vectors.map((vector) => vector.length)).toEqual([3, 3]);
    expect(embed(model, "Hello world\nWhat is it?\n").stdout).toBe(stdout);
  });

  it("takes prompts and shortens vectors", () => {
    const { stdout } = embed([...model, "--prompt-name", "query", "--truncate-dim", "2", "--normalize", "a"]);
    const vector = JSON.parse(stdout) as number[];
    expect(vector).toHaveLength(2);
    expect(Math.hypot(...vector)).toBeCloseTo(1, 5);
    expect(embed([...model, "--prompt", "query: ", "--truncate-dim", "2", "--normalize", "a"]).stdout).toBe(
      stdout,
    );
    expect(embed([...model, "--truncate-dim", "2", "--normalize", "a"]).stdout).not.toBe(stdout);
  });

  it("compares the first text with the others", () => {
    const texts = ["Hello world", "What is it?", "Hello world"];
    const { stdout } = embed([...model, "--similarity", ...texts]);
    expect(stdout).toMatch(/^-?[01]\.\d{4}\tWhat is it\?\n1\.0000\tHello world\n$/);
    const answer: unknown = JSON.parse(embed([...model, "--similarity", "--json", ...texts]).stdout);
    expect(answer).toMatchObject({
      measure: "cosine",
      source_sentence: "Hello world",
      sentences: texts.slice(1),
    });
  });

  it("gives machines everything in one object", () => {
    const answer = JSON.parse(embed([...model, "--json", "a", "b"]).stdout) as { embeddings: number[][] };
    expect(answer).toMatchObject({ model: model[1], dimensions: 3, texts: ["a", "b"] });
    expect(answer.embeddings).toHaveLength(2);
  });

  it.each([
    [["x"], /--model/],
    [["--model", "M", "--prompt-name", "querry", "x"], /did you mean "query"/],
    [["--model", "M", "--truncate-dim", "0", "x"], /positive whole number/],
    [["--model", "M", "--similarity", "x"], /two at least/],
  ])("%j is refused", (args, message) => {
    const { status, stderr } = embed(args.map((arg) => (arg === "M" ? model[1]! : arg)));
    expect(status).toBe(2);
    expect(stderr).toMatch(message);
    expect(stderr).not.toMatch(/\n\s+at /);
  });

  it("wants texts", () => {
    expect(embed(model, "").stderr).toMatch(/standard input is empty/);
  });
});
