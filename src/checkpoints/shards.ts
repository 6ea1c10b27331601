import { dirname, join } from "node:path";
import { CheckpointError } from "../errors.ts";
import type { Checkpoint, TensorSlice } from "./checkpoint.ts";
import { FileCheckpoint, type FileHeader } from "./file-checkpoint.ts";
import { findFile, OpenFiles } from "./open-files.ts";
import { readSafetensorsHeader } from "./safetensors.ts";
import { excerpt, isJsonObject, parseStrictJson } from "./strict-json.ts";

/** As for a safetensors header, which an index resembles. */
const MAX_INDEX = 100_000_000;

/** What one shard says about itself. */
export interface ShardHeader extends FileHeader {
  /** The names of its tensors as an index spells them. */
  readonly listed: ReadonlySet<string>;
}

/** How the shards of a format are named and read. */
export interface ShardFormat {
  readonly format: Checkpoint["format"];
  /** Of a shard's name, with its dot. */
  readonly extension: string;
  readHeader(open: OpenFiles, path: string): Promise<ShardHeader>;
}

const safetensorsShards: ShardFormat = {
  format: "safetensors",
  extension: ".safetensors",
  async readHeader(open, path) {
    const header = await readSafetensorsHeader(open, path);
    return { ...header, listed: new Set(header.tensors.map((tensor) => tensor.name)) };
  },
};

/**
 * Opens a checkpoint split over several files, by its model.safetensors.index.json or the like. Shards may be
 * symbolic links out of the folder (the hub's cache keeps them so); their names may not leave it.
 */
export async function openSharded(
  indexPath: string,
  { format, extension, readHeader }: ShardFormat = safetensorsShards,
): Promise<Checkpoint> {
  const open = new OpenFiles();
  try {
    const listed = await readWeightMap(open, indexPath, extension);
    const tensors = new Map<string, TensorSlice>();
    const metadata = new Map<string, string>();
    const files = new Set<string>();
    for (const [shard, names] of listed) {
      const header = await readHeader(open, join(dirname(indexPath), shard));
      files.add(header.file.realPath);
      for (const tensor of header.tensors) {
        const other = tensors.get(tensor.name);
        if (other !== undefined) {
          throw new CheckpointError(`is also in ${other.file}; a tensor belongs to one shard`, {
            file: header.file.path,
            tensor: tensor.name,
          });
        }
        tensors.set(tensor.name, tensor);
      }
      for (const [key, value] of header.metadata) metadata.set(key, value);
      checkListed(names, header);
    }
    return new FileCheckpoint(open, { format, files: [...files], tensors, metadata });
  } catch (error) {
    await open.close();
    throw error;
  }
}

/** Shard name to the names of its tensors. */
async function readWeightMap(
  open: OpenFiles,
  indexPath: string,
  extension: string,
): Promise<Map<string, string[]>> {
  const file = await findFile(indexPath);
  if (file.size > MAX_INDEX) {
    throw new CheckpointError(`is ${file.size} bytes long, too long for an index`, { file: indexPath });
  }
  const index = parseStrictJson(await open.read(file.realPath, 0, file.size), indexPath);
  if (!isJsonObject(index.weight_map)) {
    throw new CheckpointError("has no weight_map object", { file: indexPath });
  }
  const listed = new Map<string, string[]>();
  for (const [tensor, value] of Object.entries(index.weight_map)) {
    const shard = checkShardName(value, extension, { file: indexPath, tensor });
    const names = listed.get(shard);
    if (names === undefined) listed.set(shard, [tensor]);
    else names.push(tensor);
  }
  if (listed.size === 0) throw new CheckpointError("its weight_map is empty", { file: indexPath });
  return listed;
}

function checkShardName(shard: unknown, extension: string, place: { file: string; tensor: string }): string {
  const shown = excerpt(shard);
  if (typeof shard !== "string") throw new CheckpointError(`its shard is ${shown}, not a name`, place);
  const parts = shard.split("/");
  // A backslash or a colon is harmless on Linux, but leaves the folder on Windows.
  if (parts.some((part) => part === "" || part === "." || part === "..") || /[\\:\0]/.test(shard)) {
    throw new CheckpointError(`its shard ${shown} is not a file name inside the index's folder`, place);
  }
  if (shard.endsWith(".json")) {
    throw new CheckpointError(`its shard ${shown} is an index; an index can't name an index`, place);
  }
  if (!shard.endsWith(extension)) {
    throw new CheckpointError(`its shard ${shown} is not a ${extension} file`, place);
  }
  return shard;
}

function checkListed(names: readonly string[], header: ShardHeader): void {
  const tensor = names.find((name) => !header.listed.has(name));
  if (tensor !== undefined) {
    const file = header.file.path;
    throw new CheckpointError("the index lists it here, but the shard does not hold it", { file, tensor });
  }
}
