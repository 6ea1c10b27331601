import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { cacheFolder } from "./cache-folder.ts";
import { env, hubToken, isOffline } from "./env.ts";

beforeEach(() => {
  for (const name of [
    "HF_HOME",
    "HF_HUB_CACHE",
    "HUGGINGFACE_HUB_CACHE",
    "HF_ENDPOINT",
    "HF_TOKEN",
    "HF_TOKEN_PATH",
    "HUGGING_FACE_HUB_TOKEN",
    "HF_HUB_DISABLE_IMPLICIT_TOKEN",
    "HF_HUB_OFFLINE",
    "TRANSFORMERS_OFFLINE",
    "XDG_CACHE_HOME",
    "LAPIDARY_CACHE",
    "LOCALAPPDATA",
  ]) {
    vi.stubEnv(name, "");
  }
});
afterEach(() => {
  vi.unstubAllEnvs();
  env.cacheDir = null;
  env.remoteHost = null;
});

it("follows the variables until something is assigned", () => {
  expect(env.cacheDir).toBe(join(homedir(), ".cache", "huggingface", "hub"));
  vi.stubEnv("XDG_CACHE_HOME", "/xdg");
  expect(env.cacheDir).toBe(join("/xdg", "huggingface", "hub"));
  vi.stubEnv("HF_HOME", "~/hf");
  expect(env.cacheDir).toBe(join(homedir(), "hf", "hub"));
  vi.stubEnv("HF_HUB_CACHE", "/hub");
  expect(env.cacheDir).toBe("/hub");
  env.cacheDir = "/mine";
  expect(env.cacheDir).toBe("/mine");
  expect(env.remoteHost).toBe("https://huggingface.co/");
  vi.stubEnv("HF_ENDPOINT", "http://mirror.example//");
  expect(env.remoteHost).toBe("http://mirror.example/");
});

it("finds the token where Python's tools leave it", async () => {
  const folder = await mkdtemp(join(tmpdir(), "lapidary-env-"));
  vi.stubEnv("HF_HOME", folder);
  expect(hubToken()).toBeUndefined();
  await writeFile(join(folder, "token"), " hf_file\n");
  expect(hubToken()).toBe("hf_file");
  vi.stubEnv("HF_TOKEN", "hf_variable");
  expect(hubToken()).toBe("hf_variable");
  vi.stubEnv("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1");
  expect(hubToken()).toBeUndefined();
  await rm(folder, { recursive: true });
});

it.each([
  ["1", true],
  ["true", true],
  ["Yes", true],
  ["0", false],
  ["", false],
])("HF_HUB_OFFLINE=%s", (value, offline) => {
  vi.stubEnv("HF_HUB_OFFLINE", value);
  expect(isOffline()).toBe(offline);
});

it("puts its own cache where the system wants caches", () => {
  expect(cacheFolder("linux")).toBe(join(homedir(), ".cache", "lapidary"));
  expect(cacheFolder("darwin")).toBe(join(homedir(), "Library", "Caches", "lapidary"));
  vi.stubEnv("LOCALAPPDATA", "C:\\Local");
  expect(cacheFolder("win32")).toBe(join("C:\\Local", "lapidary"));
  vi.stubEnv("XDG_CACHE_HOME", "relative");
  expect(cacheFolder("linux")).toBe(join(homedir(), ".cache", "lapidary"));
  vi.stubEnv("LAPIDARY_CACHE", "/chosen");
  expect(cacheFolder()).toBe("/chosen");
});
