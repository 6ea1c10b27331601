import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { CheckpointError } from "../errors.ts";
import { decodeBitsAndBytes } from "./bitsandbytes.ts";
import type { Checkpoint } from "./checkpoint.ts";
import { flaxShards, openFlax } from "./flax.ts";
import { openGguf } from "./gguf.ts";
import { reasonOf } from "./open-files.ts";
import { openSafetensors } from "./safetensors.ts";
import { openSharded } from "./shards.ts";

const WHOLE = "model.safetensors";
const INDEX = "model.safetensors.index.json";
const FLAX_WHOLE = "flax_model.msgpack";
const FLAX_INDEX = "flax_model.msgpack.index.json";

/**
 * Opens a folder that holds model.safetensors, model.safetensors.index.json, one .gguf file or Flax's counterparts
 * of the first two, or such a file itself; what is named first here is preferred. Only headers are read; close() the checkpoint when its tensors are no longer needed.
 */
export async function openCheckpoint(path: string): Promise<Checkpoint> {
  const checkpoint = await openFile(await weightFileOf(path));
  try {
    return await decodeBitsAndBytes(checkpoint);
  } catch (error) {
    await checkpoint.close();
    throw error;
  }
}

function openFile(path: string): Promise<Checkpoint> {
  if (path.endsWith(".gguf")) return openGguf(path);
  if (path.endsWith(".safetensors")) return openSafetensors(path);
  if (path.endsWith(".msgpack")) return openFlax(path);
  if (path.endsWith(".msgpack.index.json")) return openSharded(path, flaxShards);
  if (path.endsWith(".index.json")) return openSharded(path);
  throw new CheckpointError("expected a folder, a .safetensors, .index.json, .gguf or .msgpack file", {
    file: path,
  });
}

/** The file to open: `path` itself, or what its folder holds. */
async function weightFileOf(path: string): Promise<string> {
  let names: string[];
  try {
    if (!(await stat(path)).isDirectory()) return path;
    names = (await readdir(path)).sort();
  } catch (cause) {
    throw new CheckpointError(reasonOf(cause), { file: path, cause });
  }
  if (names.includes(WHOLE)) return join(path, WHOLE);
  if (names.includes(INDEX)) return join(path, INDEX);
  const ggufs = names.filter((name) => name.endsWith(".gguf"));
  if (ggufs.length === 1) return join(path, ggufs[0]!);
  const flax = [FLAX_WHOLE, FLAX_INDEX].find((name) => names.includes(name));
  if (flax !== undefined && ggufs.length === 0) return join(path, flax);
  throw new CheckpointError(nothingToOpen(names, ggufs), { file: path });
}

function nothingToOpen(names: readonly string[], ggufs: readonly string[]): string {
  if (ggufs.length > 1) return `holds several GGUF files; name one: ${listed(ggufs)}`;
  const expected = `expected ${WHOLE}, ${INDEX}, one .gguf file or ${FLAX_WHOLE}`;
  const others = names.filter((name) => /\.(safetensors|msgpack)$/.test(name));
  if (others.length > 0) return `${expected}; to open another file, name it: ${listed(others)}`;
  const pickles = names.filter((name) => /\.(bin|pt|pth|ckpt|h5)$/.test(name));
  if (pickles.length > 0) {
    const advice =
      "can't be read; download the model's safetensors files, or save it again with save_pretrained";
    return `${expected}; ${listed(pickles)} ${advice}`;
  }
  return `${expected}; found ${names.length === 0 ? "an empty folder" : listed(names)}`;
}

function listed(names: readonly string[]): string {
  const shown = names.slice(0, 8).join(", ");
  return names.length > 8 ? `${shown} and ${names.length - 8} more` : shown;
}
