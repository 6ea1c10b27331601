import { Buffer } from "node:buffer";
import { CheckpointError } from "../errors.ts";
import type { Checkpoint, MetadataValue, TensorSlice } from "./checkpoint.ts";
import { type FoundFile, OpenFiles } from "./open-files.ts";
import { TransposedReader } from "./transposed-reader.ts";

/** What the header of one file says. */
export interface FileHeader {
  readonly file: FoundFile;
  readonly tensors: readonly TensorSlice[];
  readonly metadata: ReadonlyMap<string, string>;
}

/** Opens a checkpoint of one file. Only its header is read. */
export async function openOneFile(
  format: Checkpoint["format"],
  path: string,
  readHeader: (open: OpenFiles, path: string) => Promise<FileHeader>,
): Promise<Checkpoint> {
  const open = new OpenFiles();
  try {
    const { file, tensors, metadata } = await readHeader(open, path);
    return new FileCheckpoint(open, {
      format,
      files: [file.realPath],
      tensors: new Map(tensors.map((tensor) => [tensor.name, tensor])),
      metadata,
    });
  } catch (error) {
    await open.close();
    throw error;
  }
}

/** A checkpoint whose tensors lie in files of this machine. */
export class FileCheckpoint implements Checkpoint {
  readonly format: Checkpoint["format"];
  readonly files: readonly string[];
  readonly tensors: ReadonlyMap<string, TensorSlice>;
  readonly metadata: ReadonlyMap<string, MetadataValue>;
  readonly #open: OpenFiles;
  readonly #transposed = new TransposedReader((slice, start, end) => this.#readStored(slice, start, end));

  constructor(open: OpenFiles, content: Omit<Checkpoint, "read" | "close">) {
    this.format = content.format;
    this.files = content.files;
    this.tensors = content.tensors;
    this.metadata = content.metadata;
    this.#open = open;
  }

  /** The bytes `start` (default 0) up to `end` (default the slice's length) of a tensor. */
  async read(slice: TensorSlice, start = 0, end: number = slice.length): Promise<Buffer> {
    const place = { file: slice.file, tensor: slice.name };
    if (!this.files.includes(slice.file)) {
      throw new CheckpointError(`not a file of this checkpoint (${this.files.join(", ")})`, place);
    }
    const integers = Number.isSafeInteger(start) && Number.isSafeInteger(end);
    if (!integers || start < 0 || end < start || end > slice.length) {
      throw new CheckpointError(`bytes ${start} to ${end} are outside of its ${slice.length} bytes`, place);
    }
    if (slice.transposed === true) return this.#transposed.read(slice, start, end);
    return this.#readStored(slice, start, end);
  }

  /** Bytes in the order of the file. */
  async #readStored(slice: TensorSlice, start: number, end: number): Promise<Buffer> {
    const { file, name, pieces } = slice;
    if (pieces === undefined) return this.#open.read(file, slice.offset + start, end - start, name);
    const bytes = Buffer.allocUnsafeSlow(end - start);
    let pieceStart = 0;
    for (const { offset, length } of pieces) {
      const from = Math.max(start - pieceStart, 0);
      const to = Math.min(end - pieceStart, length);
      if (from < to)
        bytes.set(await this.#open.read(file, offset + from, to - from, name), pieceStart + from - start);
      pieceStart += length;
    }
    return bytes;
  }

  close(): Promise<void> {
    this.#transposed.clear();
    return this.#open.close();
  }
}
