import { randomUUID } from "node:crypto";
import { copyFile, mkdir, readdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import type { Checkpoint, TensorSlice } from "../checkpoints/checkpoint.ts";
import { checkRoom } from "../checkpoints/disk.ts";
import { isSafetensorsDtype, type SafetensorsDtype } from "../checkpoints/dtypes.ts";
import { textPrefix } from "../checkpoints/model-prefix.ts";
import { sliceCheckpoint } from "../checkpoints/slice.ts";
import { type TensorToWrite, writeSafetensors } from "../checkpoints/write-safetensors.ts";
import { ConfigError, InputError } from "../errors.ts";
import type { JsonObject } from "../models/config-reader.ts";
import { type SliceOption, sliceConfig } from "../models/gemma3n/slice.ts";
import { stringifyWithFloats } from "./json-floats.ts";
import { ModelFiles } from "./model-files.ts";
import type { PretrainedOptions } from "./options.ts";

/** As large as the hub's shards are. */
const SHARD_BYTES = 4e9;
/** Read and written at a time. */
const CHUNK_BYTES = 1 << 23;
/** Files that hold weights, which are not copied. */
const WEIGHT_FILES = /\.(safetensors|gguf|bin|msgpack|pt|pth|h5)$|\.index\.json$/;

/** What `writeSlice` made. */
export interface WrittenSlice {
  readonly folder: string;
  readonly layers: number;
  readonly files: number;
  readonly bytes: number;
}

export interface WriteSliceOptions extends PretrainedOptions {
  /** Bytes of a file from which on another one is begun. */
  readonly shardBytes?: number;
}

/**
 * Writes the smaller model inside a Gemma 3n model as safetensors, with its configuration and the files beside it; towers
 * for images and sounds stay as they are. The folder appears when it is whole.
 */
export async function writeSlice(
  id: string,
  out: string,
  slice: SliceOption,
  { shardBytes = SHARD_BYTES, ...options }: WriteSliceOptions = {},
): Promise<WrittenSlice> {
  const folder = resolve(out);
  if ((await stat(folder).catch(() => undefined)) !== undefined)
    throw new InputError(`${out}: exists already; name a folder that does not`, { option: "out" });
  const files = await ModelFiles.find(id, options);
  const temporary = join(dirname(folder), `.${basename(folder)}.${randomUUID()}.tmp`);
  try {
    const config = await files.config();
    const sliced = sliceConfig(config, slice);
    const checkpoint = await files.checkpoint();
    if (checkpoint.format !== "safetensors")
      throw new ConfigError(`${id}: a slice is written as safetensors, and out of safetensors only`);
    const cut = sliceCheckpoint(checkpoint, sliced.slice, { prefix: textPrefix(checkpoint), tables: true });
    await mkdir(dirname(folder), { recursive: true });
    await mkdir(temporary);
    await copyOthers(files.path, temporary);
    const text = await readFile(join(files.path, "config.json"), "utf8");
    await writeFile(
      join(temporary, "config.json"),
      `${stringifyWithFloats(text, sliced.config, ["activation_sparsity_pattern"])}\n`,
    );
    const written = await writeShards(temporary, cut, shardBytes, options);
    await rename(temporary, folder);
    return { folder, layers: sliced.slice.kept.length, ...written };
  } finally {
    await files.close();
    await rm(temporary, { recursive: true, force: true });
  }
}

/** Tokenizer, processor, chat template and so on: every file of the folder that holds no weights. */
async function copyOthers(from: string, to: string): Promise<void> {
  const folder = (await stat(from)).isDirectory() ? from : dirname(from);
  for (const name of await readdir(folder)) {
    if (name === "config.json" || name.startsWith(".") || WEIGHT_FILES.test(name)) continue;
    if ((await stat(join(folder, name))).isFile()) await copyFile(join(folder, name), join(to, name));
  }
}

async function writeShards(
  folder: string,
  checkpoint: Checkpoint,
  shardBytes: number,
  { signal, progress_callback }: PretrainedOptions,
): Promise<{ files: number; bytes: number }> {
  const shards = groupBySize([...checkpoint.tensors.values()], shardBytes);
  const bytes = shards.flat().reduce((sum, { length }) => sum + length, 0);
  await checkRoom(folder, bytes, "the slice");
  const metadata = Object.fromEntries(
    [...checkpoint.metadata].filter((entry): entry is [string, string] => typeof entry[1] === "string"),
  );
  let loaded = 0;
  const weight_map: Record<string, string> = {};
  for (const [i, shard] of shards.entries()) {
    const place = (n: number): string => String(n).padStart(5, "0");
    const file =
      shards.length === 1
        ? "model.safetensors"
        : `model-${place(i + 1)}-of-${place(shards.length)}.safetensors`;
    const report = (count: number): void => {
      signal?.throwIfAborted();
      loaded += count;
      progress_callback?.({
        status: "progress",
        file,
        loaded,
        total: bytes,
        progress: (100 * loaded) / bytes,
      });
    };
    for (const { name } of shard) weight_map[name] = file;
    const tensors = shard.map((tensor) => tensorToWrite(checkpoint, tensor, report));
    await writeSafetensors(join(folder, file), tensors, metadata);
  }
  if (shards.length > 1) await writeIndex(folder, { metadata: { total_size: bytes }, weight_map });
  return { files: shards.length, bytes };
}

async function writeIndex(folder: string, index: JsonObject): Promise<void> {
  const text = `${JSON.stringify(index, null, 2)}\n`;
  await writeFile(join(folder, "model.safetensors.index.json"), text);
}

/** In order, a new group where the last one would grow beyond `most` bytes. */
function groupBySize(tensors: readonly TensorSlice[], most: number): TensorSlice[][] {
  const groups: TensorSlice[][] = [[]];
  let size = 0;
  for (const tensor of tensors) {
    if (size > 0 && size + tensor.length > most) {
      groups.push([]);
      size = 0;
    }
    groups.at(-1)!.push(tensor);
    size += tensor.length;
  }
  return groups;
}

function tensorToWrite(
  checkpoint: Checkpoint,
  tensor: TensorSlice,
  report: (bytes: number) => void,
): TensorToWrite {
  const { name, shape, dtype } = tensor;
  if (!isSafetensorsDtype(dtype)) throw new ConfigError(`${name}: ${dtype} has no place in safetensors`);
  const data = async function* (): AsyncGenerator<Uint8Array> {
    for (let start = 0; start < tensor.length; start += CHUNK_BYTES) {
      const bytes = await checkpoint.read(tensor, start, Math.min(tensor.length, start + CHUNK_BYTES));
      yield bytes;
      report(bytes.length);
    }
  };
  return { name, dtype: dtype satisfies SafetensorsDtype, shape, data: data() };
}
