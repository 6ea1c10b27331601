import { type SpawnSyncReturns, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, describe, expect, it } from "vitest";

const MAIN = resolve(import.meta.dirname, "../../dist/cli/main.js");
const TINY = resolve(import.meta.dirname, "../fixtures/golden-h16/gemma3_text/model");
const folder = mkdtempSync(join(tmpdir(), "lapidary-cli-mask-"));
afterAll(() => rmSync(folder, { recursive: true }));

function mask(args: readonly string[], input?: string, NO_COLOR = ""): SpawnSyncReturns<string> {
  return spawnSync(process.execPath, [MAIN, "mask", ...args], {
    encoding: "utf8",
    cwd: folder,
    env: { ...process.env, LAPIDARY_CACHE: join(folder, "cache"), HF_HUB_OFFLINE: "1", NO_COLOR },
    timeout: 60_000,
    ...(input === undefined ? {} : { input }),
  });
}

describe("lapidary mask", () => {
  it("prints the picture of a text from an argument or a pipe, in colour unless told otherwise", () => {
    const { stdout, stderr, status } = mask([TINY, "a", "e"]);
    expect([status, stderr]).toEqual([0, ""]);
    expect(stdout).toContain("'a':  0 \u001b[92m■\u001b[0m ⬚ ⬚    |    \u001b[92m■\u001b[0m ⬚ ⬚\n");
    expect(mask([TINY], "a e\n").stdout).toBe(stdout);
    const plain = mask([TINY, "--no-color", "a e"]).stdout;
    expect(plain).toContain("'a':  0 ■ ⬚ ⬚    |    ■ ⬚ ⬚\n");
    expect(mask([TINY, "a e"], undefined, "1").stdout).toBe(plain);
  });

  it("gives machines tokens and matrices", () => {
    const answer: unknown = JSON.parse(mask([TINY, "--json", "a"]).stdout);
    expect(answer).toEqual({
      model: TINY,
      text: "a",
      tokens: ["a"],
      matrix: [
        [1, 0],
        [1, 1],
      ],
      sliding_window_matrix: [[1]],
    });
  });

  it("gives machines the images too", () => {
    const images = resolve(import.meta.dirname, "../fixtures/multimodal/gemma3_mm/model");
    const { stdout } = mask([images, "--json", "<img>"]);
    const answer = JSON.parse(stdout) as {
      tokens: string[];
      token_type_ids: number[];
      full_attention: number[][];
    };
    expect(answer.tokens).toHaveLength(10);
    expect(answer.token_type_ids).toEqual([0, 0, 0, 1, 1, 1, 1, 1, 0, 0]);
    expect(answer.full_attention[3]).toEqual([1, 1, 1, 1, 1, 1, 1, 1, 0, 0]);
  });

  it("draws into files", () => {
    const { stderr, status } = mask([TINY, "a e", "--svg", "out.svg", "--png", "out.png"]);
    expect([status, stderr]).toEqual([0, "wrote out.svg\nwrote out.png\n"]);
    expect(readFileSync(join(folder, "out.svg"), "utf8")).toMatch(/^<svg .*'a' 0.*<\/svg>\n$/s);
    expect(readFileSync(join(folder, "out.png")).subarray(0, 8).toString("latin1")).toBe(
      "\u0089PNG\r\n\u001a\n",
    );
  });

  it.each([
    [[TINY, "a", "--svg", "nowhere/out.svg"], 1, /nowhere\/out\.svg: can't be written/],
    [[TINY], 2, /no prompt/],
    [["/nowhere/at-all", "a"], 1, /no such file or folder/],
    [[TINY, "a", "--jpeg", "x"], 2, /unknown option '--jpeg'/],
    [[], 2, /missing required argument 'model'/],
  ])("%j ends with %i", (args, status, message) => {
    const result = mask(args, "");
    expect(result.stderr).toMatch(message);
    expect(result.status).toBe(status);
    expect(result.stdout).toBe("");
    expect(existsSync(join(folder, "nowhere"))).toBe(false);
  });
});
