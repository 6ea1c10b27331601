import { Buffer } from "node:buffer";
import { randomUUID } from "node:crypto";
import { type FileHandle, open, rename, rm } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { CheckpointError } from "../errors.ts";
import { BLOCK_GEOMETRY } from "../quantization/gguf-blocks.ts";
import { isSafetensorsDtype, type SafetensorsDtype, tensorByteLength } from "./dtypes.ts";
import { reasonOf } from "./open-files.ts";

/** A tensor to write. `data` yields its bytes in order, in chunks of any size, when its turn comes. */
export interface TensorToWrite {
  readonly name: string;
  readonly dtype: SafetensorsDtype;
  readonly shape: readonly number[];
  readonly data: Iterable<Uint8Array> | AsyncIterable<Uint8Array>;
}

/** Writes a safetensors file, whole or not at all. */
export async function writeSafetensors(
  path: string,
  tensors: Iterable<TensorToWrite>,
  metadata: Readonly<Record<string, string>> = {},
): Promise<void> {
  // Wide elements first, so that every tensor is aligned to its element's size.
  const sorted = [...tensors].sort(
    (a, b) => BLOCK_GEOMETRY[b.dtype].blockBytes - BLOCK_GEOMETRY[a.dtype].blockBytes,
  );
  const header = makeHeader(sorted, metadata, path);
  await replaceFile(path, async (handle) => {
    await writeAll(handle, header);
    for (const tensor of sorted) await writeTensor(handle, tensor, path);
  });
}

/**
 * Gives `path` the contents that `write` puts into a temporary file beside it, which then takes its place: a reader
 * never sees half a file.
 */
export async function replaceFile(
  path: string,
  write: (handle: FileHandle) => Promise<void>,
  signal?: AbortSignal,
): Promise<void> {
  const temporary = join(dirname(path), `.${basename(path)}.${randomUUID()}.tmp`);
  try {
    const handle = await open(temporary, "wx");
    try {
      await write(handle);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temporary, path);
  } catch (cause) {
    await rm(temporary, { force: true });
    if (signal?.aborted === true || cause instanceof CheckpointError) throw cause;
    throw new CheckpointError(`can't be written: ${reasonOf(cause)}`, { file: path, cause });
  }
}

/**
 * Length and JSON at the start of a safetensors file; the tensors' bytes follow in this order. `spare` bytes of blanks
 * leave room for entries to come.
 */
export function makeHeader(
  tensors: readonly Pick<TensorToWrite, "name" | "dtype" | "shape">[],
  metadata: Readonly<Record<string, string>>,
  file: string,
  spare = 0,
): Buffer {
  const entries: Record<string, unknown> = Object.create(null);
  if (Object.keys(metadata).length > 0) entries.__metadata__ = metadata;
  let end = 0;
  for (const { name, dtype, shape } of tensors) {
    const place = { file, tensor: name };
    if (name in entries || name === "__metadata__") throw new CheckpointError("duplicate name", place);
    if (!isSafetensorsDtype(dtype)) throw new CheckpointError(`dtype ${dtype} can't be written`, place);
    const size = tensorByteLength(dtype, shape);
    if ("problem" in size) throw new CheckpointError(size.problem, place);
    const begin = end;
    end += size.length;
    entries[name] = { dtype, shape, data_offsets: [begin, end] };
  }
  const json = Buffer.from(JSON.stringify(entries));
  // Spaces fill the header up, so that the data begins at a multiple of 8.
  const header = Buffer.alloc(8 + Math.ceil((json.length + spare) / 8) * 8, " ");
  header.writeBigUInt64LE(BigInt(header.length - 8));
  json.copy(header, 8);
  return header;
}

async function writeTensor(handle: FileHandle, tensor: TensorToWrite, file: string): Promise<void> {
  const size = tensorByteLength(tensor.dtype, tensor.shape);
  const expected = "length" in size ? size.length : 0;
  let written = 0;
  for await (const chunk of tensor.data) {
    written += chunk.byteLength;
    if (written > expected) break;
    await writeAll(handle, chunk);
  }
  if (written === expected) return;
  const got = written > expected ? "more" : String(written);
  throw new CheckpointError(`its data yields ${got} bytes, expected ${expected}`, {
    file,
    tensor: tensor.name,
  });
}

/** Writes all of `bytes`, at `position` or at the end: FileHandle.write may write less than it was given. */
export async function writeAll(handle: FileHandle, bytes: Uint8Array, position?: number): Promise<void> {
  for (let done = 0; done < bytes.byteLength; ) {
    const at = position === undefined ? null : position + done;
    const { bytesWritten } = await handle.write(bytes, done, bytes.byteLength - done, at);
    done += bytesWritten;
  }
}
