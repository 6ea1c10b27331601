import { existsSync } from "node:fs";
import { afterEach, expect, test, vi } from "vitest";
import { RuntimeError } from "../errors.ts";
import { findLibrary, LIBRARY_VARIABLE } from "./library.ts";

afterEach(() => vi.unstubAllEnvs());

test("finds the library in onnxruntime-node", () => {
  expect(existsSync(findLibrary())).toBe(true);
});

test.each([
  ["linux", "x64", "libonnxruntime.so.1"],
  ["linux", "arm64", "libonnxruntime.so.1"],
  ["darwin", "arm64", "libonnxruntime.1.dylib"],
  ["win32", "x64", "onnxruntime.dll"],
  ["win32", "arm64", "onnxruntime.dll"],
])("knows its name on %s/%s", (platform, arch, name) => {
  const path = findLibrary({ platform, arch });
  expect(path.replaceAll("\\", "/")).toMatch(
    new RegExp(`/${platform}/${arch}/${name.replaceAll(".", "\\.")}$`),
  );
});

test("says what it looked for", () => {
  expect(() => findLibrary({ platform: "linux", arch: "s390x" })).toThrow(
    /no ONNX Runtime library for linux\/s390x.*looked for .*libonnxruntime\.so\.1.*LAPIDARY_ORT_LIBRARY/,
  );
  expect(() => findLibrary({ platform: "aix", arch: "ppc64" })).toThrow("this platform is not known");
});

test("a path or the variable comes first, and must exist", () => {
  expect(findLibrary({ path: import.meta.filename })).toBe(import.meta.filename);
  vi.stubEnv(LIBRARY_VARIABLE, import.meta.filename);
  expect(findLibrary()).toBe(import.meta.filename);
  vi.stubEnv(LIBRARY_VARIABLE, "/nowhere/libonnxruntime.so");
  expect(() => findLibrary()).toThrow("LAPIDARY_ORT_LIBRARY: no ONNX Runtime library at /nowhere");
  expect(() => findLibrary({ path: "/nowhere" })).toThrow(RuntimeError);
});
