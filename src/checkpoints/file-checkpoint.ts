import type { Buffer } from "node:buffer";
import { CheckpointError } from "../errors.ts";
import type { Checkpoint, MetadataValue, TensorSlice } from "./checkpoint.ts";
import type { OpenFiles } from "./open-files.ts";

/** A checkpoint whose tensors lie in files of this machine. */
export class FileCheckpoint implements Checkpoint {
  readonly format: "safetensors" | "gguf";
  readonly files: readonly string[];
  readonly tensors: ReadonlyMap<string, TensorSlice>;
  readonly metadata: ReadonlyMap<string, MetadataValue>;
  readonly #open: OpenFiles;

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
    return this.#open.read(slice.file, slice.offset + start, end - start, slice.name);
  }

  close(): Promise<void> {
    return this.#open.close();
  }
}
