import { CheckpointError } from "../errors.ts";
import type { Checkpoint, TensorSlice } from "./checkpoint.ts";
import { isSafetensorsDtype, tensorByteLength } from "./dtypes.ts";
import { type FileHeader, openOneFile } from "./file-checkpoint.ts";
import { fromFlax } from "./flax-names.ts";
import { type FoundFile, findFile, type OpenFiles, refuseLfsPointer } from "./open-files.ts";
import { excerpt, isJsonObject, parseStrictJson } from "./strict-json.ts";
import { sortByOffset } from "./tensor-ranges.ts";

/** The format's own limit: a longer header is a damaged or hostile file. */
const MAX_HEADER = 100_000_000;
/** The header's length comes first, as a 64-bit integer. */
const PREFIX = 8;

/** Opens a checkpoint of one safetensors file. Only its header is read. */
export function openSafetensors(path: string): Promise<Checkpoint> {
  return openOneFile("safetensors", path, readSafetensorsHeader);
}

/** Reads and checks one file's header: https://github.com/huggingface/safetensors#format */
export async function readSafetensorsHeader(open: OpenFiles, path: string): Promise<FileHeader> {
  const file = await findFile(path);
  if (file.size < PREFIX) {
    throw new CheckpointError(`holds ${file.size} bytes, too few for a safetensors file`, { file: path });
  }
  const prefix = await open.read(file.realPath, 0, PREFIX);
  refuseLfsPointer(prefix, path);
  const headerLength = prefix.readBigUInt64LE();
  if (headerLength > MAX_HEADER || headerLength > file.size - PREFIX) {
    throw new CheckpointError(
      `claims a header of ${headerLength} bytes in a file of ${file.size} (at most ${MAX_HEADER} are allowed); ` +
        "it is truncated or not a safetensors file",
      { file: path },
    );
  }
  const dataStart = PREFIX + Number(headerLength);
  const bytes = await open.read(file.realPath, PREFIX, Number(headerLength));
  if (bytes[0] !== 0x7b) {
    throw new CheckpointError("is not a safetensors file: its header does not begin with {", { file: path });
  }
  const { __metadata__, ...entries } = parseStrictJson(bytes, path);
  const tensors = Object.entries(entries).map(([name, entry]) => toSlice(name, entry, file, dataStart));
  checkCoverage(tensors, file, dataStart);
  const metadata = toMetadata(__metadata__, path);
  // Flax models may be saved in this format too.
  const isFlax = metadata.get("format") === "flax";
  return { file, tensors: isFlax ? fromFlax(tensors, path) : tensors, metadata };
}

function toSlice(name: string, entry: unknown, file: FoundFile, dataStart: number): TensorSlice {
  const place = { file: file.path, tensor: name };
  if (!isJsonObject(entry)) throw new CheckpointError("its header entry is not an object", place);
  const { dtype, shape, data_offsets: range } = entry;
  if (!isSafetensorsDtype(dtype)) {
    throw new CheckpointError(`dtype ${excerpt(dtype)} can't be read`, place);
  }
  if (!Array.isArray(shape)) throw new CheckpointError("its shape is not an array", place);
  const expected = tensorByteLength(dtype, shape);
  if ("problem" in expected) throw new CheckpointError(expected.problem, place);
  const [begin, end] = Array.isArray(range) && range.length === 2 ? (range as unknown[]) : [];
  if (!isOffset(begin) || !isOffset(end) || begin > end) {
    throw new CheckpointError("its data_offsets are not [begin, end] with 0 <= begin <= end", place);
  }
  const available = file.size - dataStart;
  if (end > available) {
    throw new CheckpointError(
      `ends at byte ${end} of the data, but the file holds ${available}; it is truncated`,
      place,
    );
  }
  if (end - begin !== expected.length) {
    throw new CheckpointError(
      `${dtype}[${shape.join(", ")}] takes ${expected.length} bytes, but data_offsets span ${end - begin}`,
      place,
    );
  }
  return { name, file: file.realPath, offset: dataStart + begin, length: end - begin, dtype, shape };
}

function isOffset(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

/** The format forbids bytes that belong to no tensor, so a gap means that header and data do not fit together. */
function checkCoverage(tensors: readonly TensorSlice[], file: FoundFile, dataStart: number): void {
  let end = dataStart;
  for (const tensor of sortByOffset(tensors, file.path)) {
    if (tensor.offset > end) {
      throw new CheckpointError(`${tensor.offset - end} bytes before it belong to no tensor`, {
        file: file.path,
        tensor: tensor.name,
      });
    }
    end = Math.max(end, tensor.offset + tensor.length);
  }
  if (end !== file.size) {
    throw new CheckpointError(`${file.size - end} bytes after the last tensor belong to none`, {
      file: file.path,
    });
  }
}

function toMetadata(value: unknown, file: string): ReadonlyMap<string, string> {
  if (value === undefined) return new Map();
  if (!isJsonObject(value)) throw new CheckpointError("__metadata__ is not an object", { file });
  return new Map(
    Object.entries(value).map(([key, text]) => {
      if (typeof text === "string") return [key, text];
      throw new CheckpointError(`__metadata__.${key} is not a string`, { file });
    }),
  );
}
