import { type SpawnSyncReturns, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, describe, expect, it } from "vitest";

const MAIN = resolve(import.meta.dirname, "../../dist/cli/main.js");
const FIXTURES = resolve(import.meta.dirname, "../fixtures");
const MODEL = join(FIXTURES, "multimodal/gemma3_mm/model");
const TEXT_MODEL = join(FIXTURES, "golden-h16/gemma3_text/model");
const SHAPES = join(FIXTURES, "multimodal/gemma3_mm/images/shapes.png");
const WIDE = join(FIXTURES, "multimodal/gemma3_mm/images/wide.png");
const folder = mkdtempSync(join(tmpdir(), "lapidary-cli-images-"));
afterAll(() => rmSync(folder, { recursive: true }));

function lapidary(args: readonly string[], input = ""): SpawnSyncReturns<string> {
  return spawnSync(process.execPath, [MAIN, ...args], {
    encoding: "utf8",
    cwd: folder,
    env: { ...process.env, LAPIDARY_CACHE: join(folder, "cache"), HF_HUB_OFFLINE: "1" },
    timeout: 110_000,
    input,
  });
}

function promptTokens(...args: string[]): number {
  const { stdout, stderr } = lapidary(["run", "--model", MODEL, "-n", "3", "--json", ...args]);
  expect(stderr).not.toContain("lapidary:");
  return (JSON.parse(stdout) as { stats: { prompt_tokens: number } }).stats.prompt_tokens;
}

describe("lapidary run --image", () => {
  it("puts images before the prompt, in the chat template or as they are", () => {
    const text = promptTokens("Compare.");
    const one = promptTokens("--image", SHAPES, "Compare.");
    const two = promptTokens("--image", SHAPES, "--image", WIDE, "Compare.");
    // Start, four tokens, end and newlines; those before the start join the template's.
    expect(one - text).toBe(7);
    expect(two - one).toBeGreaterThanOrEqual(7);
    expect(promptTokens("--raw", "--image", SHAPES, "Compare.")).toBeLessThan(one);
  });

  it.each([
    [
      ["run", "--model", TEXT_MODEL, "--image", SHAPES, "What?"],
      2,
      /takes text alone, neither images nor audio/,
    ],
    [
      ["run", "--model", MODEL, "--image", "nowhere.png", "What?"],
      2,
      /nowhere\.png: there is no such image file/,
    ],
    [["run", "--model", MODEL, "--audio", "talk.wav", "What?"], 2, /takes no audio/],
    [
      ["run", "--model", MODEL, "--raw", "--image", SHAPES, "<start_of_image><start_of_image>"],
      2,
      /1 image for 2/,
    ],
  ] as const)("%j ends with %i", (args, status, message) => {
    const result = lapidary(args);
    expect(result.stderr).toMatch(message);
    expect([result.status, result.stdout]).toEqual([status, ""]);
  });
});

describe("lapidary chat /image", () => {
  const talk = (model: string, ...lines: string[]): SpawnSyncReturns<string> =>
    lapidary(["chat", "--model", model, "--json", "-n", "3", "--ignore-eos"], `${lines.join("\n")}\n`);

  it("shows pictures with the next question, over the kept cache", () => {
    const { stdout, stderr, status } = talk(
      MODEL,
      "Hello",
      `/image ${SHAPES}`,
      `/image ${WIDE}`,
      "Compare.",
      "Why?",
    );
    expect(stderr).toContain("goes with the next question");
    expect(status).toBe(0);
    const stats = stdout
      .trim()
      .split("\n")
      .map((line) => (JSON.parse(line) as { stats: { prompt_tokens: number; cached_tokens: number } }).stats);
    expect(stats).toHaveLength(3);
    expect(stats[1]!.prompt_tokens - stats[0]!.prompt_tokens).toBeGreaterThan(14);
    expect(stats[2]!.cached_tokens).toBeGreaterThanOrEqual(stats[1]!.prompt_tokens);
  });

  it("says what can't be", () => {
    expect(talk(MODEL, "/image nowhere.png").stderr).toContain("nowhere.png: there is no such image file");
    expect(talk(TEXT_MODEL, `/image ${SHAPES}`).stderr).toContain("the model takes no images");
    expect(talk(MODEL, "/audio talk.wav").stderr).toContain("the model takes no audio");
  });
});
