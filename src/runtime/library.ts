/** Finds the ONNX Runtime shared library that the onnxruntime-node package carries. */
import { existsSync, readdirSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { RuntimeError } from "../errors.ts";

/** Environment variable that names another ONNX Runtime library, for instance one built for a GPU. */
export const LIBRARY_VARIABLE = "LAPIDARY_ORT_LIBRARY";

const FILE_NAMES: Readonly<Record<string, readonly string[]>> = {
  linux: ["libonnxruntime.so.1", "libonnxruntime.so"],
  darwin: ["libonnxruntime.1.dylib", "libonnxruntime.dylib"],
  win32: ["onnxruntime.dll"],
};

/** Where to look, for tests; by default this process's platform and environment. */
export interface LibrarySearch {
  readonly path?: string | undefined;
  readonly platform?: string;
  readonly arch?: string;
}

/**
 * The path of the ONNX Runtime library: `path`, else LAPIDARY_ORT_LIBRARY, else the one inside onnxruntime-node.
 * Throws a RuntimeError that lists what was looked for.
 */
export function findLibrary(search: LibrarySearch = {}): string {
  const override = search.path ?? process.env[LIBRARY_VARIABLE];
  if (override !== undefined && override !== "") {
    if (existsSync(override)) return override;
    const source = search.path === undefined ? LIBRARY_VARIABLE : "libraryPath";
    throw new RuntimeError(`${source}: no ONNX Runtime library at ${override}`);
  }
  const { platform = process.platform, arch = process.arch } = search;
  const candidates = candidatePaths(packageFolder(), platform, arch);
  const found = candidates.find((path) => existsSync(path));
  if (found !== undefined) return found;
  throw new RuntimeError(
    `no ONNX Runtime library for ${platform}/${arch} in onnxruntime-node; looked for ${
      candidates.length === 0 ? "none: this platform is not known" : candidates.join(", ")
    }. Set ${LIBRARY_VARIABLE} to the path of one`,
  );
}

function packageFolder(): string {
  const require = createRequire(import.meta.url);
  try {
    return dirname(require.resolve("onnxruntime-node/package.json"));
  } catch (cause) {
    throw new RuntimeError(
      `the package onnxruntime-node, which carries the ONNX Runtime library, is not installed. Set ${LIBRARY_VARIABLE} to the path of one`,
      { cause },
    );
  }
}

/** bin/napi-v6/linux/x64/…: the number changes with the package, so every napi folder is a candidate. */
function candidatePaths(root: string, platform: string, arch: string): string[] {
  const bin = join(root, "bin");
  const folders = existsSync(bin) ? readdirSync(bin).filter((name) => name.startsWith("napi-v")) : [];
  if (folders.length === 0) folders.push("napi-v6");
  const names = FILE_NAMES[platform] ?? [];
  return folders.flatMap((folder) => names.map((name) => join(bin, folder, platform, arch, name)));
}
