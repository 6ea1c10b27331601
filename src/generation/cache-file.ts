import { Buffer } from "node:buffer";
import type { Checkpoint } from "../checkpoints/checkpoint.ts";
import { openSafetensors } from "../checkpoints/safetensors.ts";
import { excerpt, isJsonObject, parseStrictJson } from "../checkpoints/strict-json.ts";
import { type TensorToWrite, writeSafetensors } from "../checkpoints/write-safetensors.ts";
import { CheckpointError, InputError } from "../errors.ts";
import { CacheRow } from "./cache-row.ts";
import { headDim, readRow } from "./cache-tensors.ts";
import { type CacheLayer, KeyValueCache } from "./kv-cache.ts";

const FORMAT = "lapidary key-value cache";
const VERSION = "1";
/** No model comes near; a file that claims more is damaged or hostile. */
const MOST = { layers: 1024, rows: 65_536, kv_heads: 1024, head_dim: 4096 } as const;
/** Rows of very different lengths make buffers larger than their file, but not without end. */
const MAX_GROWTH = 64;
const ALWAYS_ALLOWED_BYTES = 2 ** 30;

/** What the metadata's `cache` holds as JSON; keys and values are tensors, one of each for a row and a layer. */
interface Contents {
  readonly layers: readonly CacheLayer[];
  readonly rows: readonly CacheRow[];
}

/** Writes what a cache holds, whole or not at all: tensors rows.R.layers.L.key and .value [kv_heads, held, head_dim]. */
export async function saveCache(path: string, cache: KeyValueCache): Promise<void> {
  // A copy: the cache may go on while the file is written.
  const store = cache.select(
    cache.rows.map((_, row) => row),
    0,
  );
  const tensors: TensorToWrite[] = store.rows.flatMap((_, row) =>
    store.layers.flatMap((layer, i) => {
      const held = store.held(layer.kind)[row]!;
      const shape = [layer.kv_heads, held, headDim(layer)];
      return (["key", "value"] as const).map((part, j) => ({
        name: tensorName(row, i, part),
        dtype: "F32" as const,
        shape,
        data: bytesOf(() => readRow(store, i, row, held)[j]!),
      }));
    }),
  );
  const layers = store.layers.map((layer) => ({
    kind: layer.kind,
    kv_heads: layer.kv_heads,
    head_dim: headDim(layer),
    window: layer.window,
  }));
  const rows = store.rows.map(({ length, jumps, hidden }) => ({ length, jumps, hidden: [...hidden] }));
  await writeSafetensors(path, tensors, {
    format: FORMAT,
    version: VERSION,
    cache: JSON.stringify({ layers, rows }),
  });
}

/** Reads a cache that `saveCache` wrote; everything in the file is checked. */
export async function loadCache(path: string): Promise<KeyValueCache> {
  const file = await openSafetensors(path);
  try {
    const contents = readContents(file, path);
    return await readTensors(file, contents, path);
  } finally {
    await file.close();
  }
}

function readContents(file: Checkpoint, path: string): Contents {
  const { metadata } = file;
  if (metadata.get("format") !== FORMAT) throw new CheckpointError("is not a saved cache", { file: path });
  if (metadata.get("version") !== VERSION) {
    throw new CheckpointError(
      `is a cache of format version ${excerpt(metadata.get("version"))}, this is ${VERSION}: make it anew`,
      { file: path },
    );
  }
  const { layers, rows } = parseStrictJson(Buffer.from(String(metadata.get("cache") ?? "")), path);
  const contents = {
    layers: list(layers, MOST.layers, "layers", path).map((layer) => readLayer(layer, path)),
    rows: list(rows, MOST.rows, "rows", path).map((row) => readCacheRow(row, path)),
  };
  const windows = new Map<string, number | null>();
  for (const { kind, window } of contents.layers) {
    if ((windows.get(kind) ?? window) !== window)
      throw new CheckpointError(`its ${excerpt(kind)} layers have different windows`, { file: path });
    windows.set(kind, window);
  }
  const names = contents.rows.length * contents.layers.length * 2;
  if (file.tensors.size !== names)
    throw new CheckpointError(`has ${file.tensors.size} tensors, expected ${names}`, { file: path });
  for (const row of contents.rows.keys()) {
    for (const layer of contents.layers.keys()) {
      for (const part of ["key", "value"] as const) {
        const tensor = tensorName(row, layer, part);
        if (!file.tensors.has(tensor)) throw new CheckpointError("is missing", { file: path, tensor });
      }
    }
  }
  return contents;
}

async function readTensors(
  file: Checkpoint,
  { layers, rows }: Contents,
  path: string,
): Promise<KeyValueCache> {
  const held = new Map<string, number[]>();
  for (const [row, { length }] of rows.entries())
    for (const [i, layer] of layers.entries()) {
      const count = heldPositions(file, layer, i, row, length, path);
      const counts = held.get(layer.kind) ?? [];
      counts[row] ??= count;
      if (counts[row] !== count)
        throw new CheckpointError(`row ${row} has layers of one kind that hold different positions`, {
          file: path,
        });
      held.set(layer.kind, counts);
    }
  const most = Math.max(...[...held.values()].flat());
  const fileBytes = [...file.tensors.values()].reduce((sum, tensor) => sum + tensor.length, 0);
  const bytes = KeyValueCache.bytes(layers, rows.length, most);
  if (bytes > Math.max(ALWAYS_ALLOWED_BYTES, MAX_GROWTH * fileBytes))
    throw new CheckpointError(`would take ${bytes} bytes for the ${fileBytes} that it holds`, { file: path });
  const store = new KeyValueCache(layers, rows.length, most);
  for (const row of rows.keys()) {
    for (const [i, layer] of layers.entries()) {
      const [key, value] = [await floats(file, row, i, "key"), await floats(file, row, i, "value")];
      store.append(i, row, key, value, held.get(layer.kind)![row]!);
    }
  }
  store.restore(rows, (kind, row) => held.get(kind)![row]!);
  return store;
}

/** The positions that a layer holds of a row, by its tensors' shapes. */
function heldPositions(
  file: Checkpoint,
  { kv_heads, head_dim, window }: CacheLayer,
  layer: number,
  row: number,
  length: number,
  path: string,
): number {
  const [key, value] = (["key", "value"] as const).map(
    (part) => file.tensors.get(tensorName(row, layer, part))!,
  );
  const held = key!.shape[1] ?? -1;
  const least = Math.min(length, window === null ? length : window - 1);
  for (const tensor of [key!, value!]) {
    const fits = tensor.shape.join() === [kv_heads, held, head_dim].join() && tensor.dtype === "F32";
    if (fits && held >= least && held <= length) continue;
    throw new CheckpointError(
      `is ${tensor.dtype}[${tensor.shape.join(", ")}], expected F32[${kv_heads}, ${least} to ${length}, ${head_dim}]`,
      { file: path, tensor: tensor.name },
    );
  }
  return held;
}

function readLayer(value: unknown, file: string): CacheLayer {
  const { kind, kv_heads, head_dim, window } = object(value, "a layer", file);
  if (typeof kind !== "string" || kind.length > 64)
    throw new CheckpointError(`a layer's kind is ${excerpt(kind)}`, { file });
  return {
    kind,
    kv_heads: integer(kv_heads, 1, MOST.kv_heads, "kv_heads", file),
    head_dim: integer(head_dim, 1, MOST.head_dim, "head_dim", file),
    window: window === null ? null : integer(window, 1, Number.MAX_SAFE_INTEGER, "window", file),
  };
}

function readCacheRow(value: unknown, file: string): CacheRow {
  const { length, jumps, hidden } = object(value, "a row", file);
  const count = integer(length, 0, 2 ** 32, "length", file);
  const places = list(jumps, count, "jumps", file, 0).map((jump) => {
    const { from, offset } = object(jump, "a jump", file);
    return { from: from as number, offset: offset as number };
  });
  try {
    return CacheRow.restore(count, places, list(hidden, count, "hidden", file, 0) as number[]);
  } catch (cause) {
    if (cause instanceof InputError) throw new CheckpointError(cause.message, { file, cause });
    throw cause;
  }
}

function list(value: unknown, most: number, name: string, file: string, least = 1): unknown[] {
  if (Array.isArray(value) && value.length >= least && value.length <= most) return value;
  throw new CheckpointError(`${name} must be a list of ${least} to ${most}, got ${excerpt(value)}`, { file });
}

function object(value: unknown, name: string, file: string): Record<string, unknown> {
  if (isJsonObject(value)) return value;
  throw new CheckpointError(`${name} is ${excerpt(value)}`, { file });
}

function integer(value: unknown, least: number, most: number, name: string, file: string): number {
  if (Number.isSafeInteger(value) && (value as number) >= least && (value as number) <= most)
    return value as number;
  throw new CheckpointError(`${name} is ${excerpt(value)}, expected ${least} to ${most}`, { file });
}

function tensorName(row: number, layer: number, part: "key" | "value"): string {
  return `rows.${row}.layers.${layer}.${part}`;
}

/** The bytes of an array that is made when they are asked for. */
function* bytesOf(make: () => Float32Array): Iterable<Uint8Array> {
  const { buffer, byteOffset, byteLength } = make();
  yield new Uint8Array(buffer, byteOffset, byteLength);
}

async function floats(
  file: Checkpoint,
  row: number,
  layer: number,
  part: "key" | "value",
): Promise<Float32Array> {
  const bytes = await file.read(file.tensors.get(tensorName(row, layer, part))!);
  const result = new Float32Array(bytes.length / 4);
  new Uint8Array(result.buffer).set(bytes);
  return result;
}
