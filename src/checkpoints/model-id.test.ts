import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { env } from "../env.ts";
import { checkFileName } from "./hub-files.ts";
import { isPathLike, parseHubId } from "./model-id.ts";
import { resolveModel } from "./resolve.ts";

describe("ids", () => {
  it.each([
    ["google/gemma-3-270m", { id: "google/gemma-3-270m" }],
    ["ggml-org/gemma-3-1b-it-GGUF:Q4_K_M", { id: "ggml-org/gemma-3-1b-it-GGUF", quant: "Q4_K_M" }],
    ["a/b/c/model.gguf", { id: "a/b", file: "c/model.gguf" }],
    ["gemma-3-270m", undefined],
    ["a/b/c", undefined],
    ["../a", undefined],
    ["a/..", undefined],
    ["a/b--c", undefined],
    ["a/b c", undefined],
    ["models/file.gguf", undefined],
  ])("%s", (text, expected) => {
    expect(parseHubId(text)).toEqual(expected && { quant: undefined, file: undefined, ...expected });
  });

  it.each(["./a", "../a", "/a", "~/a", ".", "..", "C:\\a", "a\\b", "a.gguf", "dir/a.gguf"])(
    "%s is a path",
    (text) => {
      expect(isPathLike(text)).toBe(true);
    },
  );

  it.each(["a/b", "a", "a/b:Q8_0", "a/b/c.gguf"])("%s may be a model's name", (text) => {
    expect(isPathLike(text)).toBe(false);
  });

  it.each([
    "../a",
    "a/../b",
    "/a",
    "a//b",
    "a/",
    "",
    ".",
    "a\\b",
    "C:a",
    "a:b",
    "a\0b",
    "a\nb",
    "a.",
    "a ",
    "...",
  ])("%j is no file name", (name) => {
    expect(() => checkFileName(name, "test")).toThrow("refusing the file name");
  });
});

describe("local models", () => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), "lapidary-local-"));
  });
  afterEach(async () => {
    env.localModelPath = "./models/";
    env.allowLocalModels = true;
    await rm(folder, { recursive: true, force: true });
  });

  it("are folders with a configuration, .gguf files, or folders with one of these", async () => {
    await expect(resolveModel(folder)).rejects.toThrow("nor a .gguf file");
    const file = join(folder, "a-Q4_0.gguf");
    await writeFile(file, "");
    for (const id of [file, folder]) {
      expect(await resolveModel(id)).toEqual({
        path: file,
        source: "local",
        id,
        description: `${file} (local)`,
      });
    }
    await writeFile(join(folder, "b-Q8_0.gguf"), "");
    await expect(resolveModel(folder)).rejects.toThrow("several .gguf files");
    expect((await resolveModel(folder, { file: "b-Q8_0.gguf" })).path).toBe(join(folder, "b-Q8_0.gguf"));
    await writeFile(join(folder, "config.json"), "{}");
    expect((await resolveModel(folder)).path).toBe(folder);
    await mkdir(join(folder, "inner"));
    await writeFile(join(folder, "inner", "config.json"), "{}");
    expect((await resolveModel(folder, { subfolder: "inner" })).path).toBe(join(folder, "inner/"));
    await expect(resolveModel(folder, { subfolder: "../x" })).rejects.toThrow("refusing");
    await expect(resolveModel(join(folder, "config.json"))).rejects.toThrow("not a model");
  });

  it("are looked for under env.localModelPath too, unless switched off", async () => {
    await mkdir(join(folder, "google", "tiny"), { recursive: true });
    await writeFile(join(folder, "google", "tiny", "config.json"), "{}");
    env.localModelPath = folder;
    expect((await resolveModel("google/tiny")).path).toBe(join(folder, "google", "tiny"));
    env.allowLocalModels = false;
    await expect(resolveModel("google/tiny", { local_files_only: true })).rejects.toThrow("not in the cache");
    await expect(resolveModel(folder)).rejects.toThrow("env.allowLocalModels");
  });

  it("are asked for with known options", async () => {
    await expect(resolveModel(folder, { localFilesOnly: true } as object)).rejects.toThrow(
      "local_files_only",
    );
    await expect(resolveModel(folder, { source: "web" as "hub" })).rejects.toThrow(
      'expected "auto", "hub" or "pypi"',
    );
    await expect(resolveModel(folder, { file: "x.bin" })).rejects.toThrow(".gguf");
    await expect(resolveModel(" ")).rejects.toThrow("no model named");
  });
});
