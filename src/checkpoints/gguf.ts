import { Buffer } from "node:buffer";
import { CheckpointError } from "../errors.ts";
import type { Checkpoint, MetadataValue, TensorSlice } from "./checkpoint.ts";
import { tensorByteLength } from "./dtypes.ts";
import { FileCheckpoint } from "./file-checkpoint.ts";
import { renameClipTensors } from "./gguf-clip-names.ts";
import { GgufCursor, HeaderTooShort } from "./gguf-cursor.ts";
import { renameGgufTensor, unstackGgufTensor } from "./gguf-names.ts";
import { ggmlDtypes, unreadGgmlTypes } from "./gguf-types.ts";
import { readMetadataValue } from "./gguf-values.ts";
import { type FoundFile, findFile, OpenFiles } from "./open-files.ts";
import { sortByOffset } from "./tensor-ranges.ts";

/** "GGUF", read as a little-endian integer. */
const MAGIC = 0x46554747;
const DEFAULT_ALIGNMENT = 32;
const MAX_HEADER = 100_000_000;
const FIRST_CHUNK = 1 << 20;
/** Gemma's header, with 262,144 tokens, has 6.5 MB: it takes the first chunk and one more. */
const NEXT_CHUNK = 8 << 20;
/** Least bytes of a metadata entry (key length, type, one byte) and of a tensor's (name length, axes, type, offset). */
const MIN_ENTRY = 8 + 4 + 1;
const MIN_TENSOR = 8 + 4 + 4 + 8;
/** Far above any model; they bound the heap that a header of the greatest length can take. */
const MAX_ENTRIES = 65_536;
const MAX_TENSORS = 1_000_000;
/** GGML_MAX_DIMS. */
const MAX_AXES = 4;

/** What the header of a GGUF file says; the tensors have the file's own names. */
interface GgufHeader {
  readonly metadata: ReadonlyMap<string, MetadataValue>;
  readonly tensors: readonly TensorSlice[];
}

/** Opens a GGUF file. Only its header is read; its tensors get HF's names. */
export async function openGguf(path: string): Promise<Checkpoint> {
  const open = new OpenFiles();
  try {
    const file = await findFile(path);
    const { metadata, tensors } = await readGgufHeader(open, file);
    return new FileCheckpoint(open, {
      format: "gguf",
      files: [file.realPath],
      tensors: renameAll(tensors, metadata, path),
      metadata,
    });
  } catch (error) {
    await open.close();
    throw error;
  }
}

/**
 * Reads and checks a file's header: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. The header's length
 * is unknown until it has been parsed, so it is read in growing chunks and parsed again after each; as they grow by
 * a factor this costs little.
 */
async function readGgufHeader(open: OpenFiles, file: FoundFile): Promise<GgufHeader> {
  let bytes = await open.read(file.realPath, 0, Math.min(FIRST_CHUNK, file.size));
  for (;;) {
    try {
      return parseHeader(new GgufCursor(bytes, file.size, file.path), file);
    } catch (error) {
      if (!(error instanceof HeaderTooShort)) throw error;
      if (error.needed > MAX_HEADER) {
        throw new CheckpointError(`the header is longer than ${MAX_HEADER} bytes`, { file: file.path });
      }
      const length = Math.min(file.size, MAX_HEADER, Math.max(error.needed + NEXT_CHUNK, 2 * bytes.length));
      const rest = await open.read(file.realPath, bytes.length, length - bytes.length);
      bytes = Buffer.concat([bytes, rest]);
    }
  }
}

function parseHeader(cursor: GgufCursor, file: FoundFile): GgufHeader {
  checkVersion(cursor);
  const tensorCount = cursor.count(MIN_TENSOR);
  const entryCount = cursor.count(MIN_ENTRY);
  if (tensorCount > MAX_TENSORS || entryCount > MAX_ENTRIES) {
    cursor.fail(`claims ${tensorCount} tensors and ${entryCount} metadata entries, which is absurd`);
  }
  const metadata = new Map<string, MetadataValue>();
  for (let i = 0; i < entryCount; i++) {
    cursor.where = `metadata entry ${i}`;
    const key = cursor.name();
    cursor.where = `metadata ${key}`;
    if (metadata.has(key)) cursor.fail("duplicate name");
    metadata.set(key, readMetadataValue(cursor));
  }
  cursor.where = "header";
  checkWhole(cursor, metadata);
  const alignment = readAlignment(cursor, metadata);
  const infos: TensorInfo[] = [];
  for (let i = 0; i < tensorCount; i++) {
    cursor.where = `tensor entry ${i}`;
    infos.push(readTensorInfo(cursor));
  }
  const dataStart = Math.ceil(cursor.position / alignment) * alignment;
  const tensors = infos.map((info) => toSlice(info, file, dataStart, alignment));
  return { metadata, tensors: sortByOffset(tensors, file.path) };
}

function checkVersion(cursor: GgufCursor): void {
  const magic = cursor.u32();
  const version = cursor.u32();
  const swapped = Buffer.from("FUGG").readUInt32LE();
  // Big-endian files exist in both spellings: the magic as bytes or as an integer, the version always swapped.
  if (magic === swapped || (magic === MAGIC && (version & 0xffff) === 0)) {
    cursor.fail("is a big-endian GGUF file; only little-endian ones can be read");
  }
  if (magic !== MAGIC) cursor.fail("is not a GGUF file: it does not begin with GGUF");
  if (version !== 2 && version !== 3) cursor.fail(`GGUF version ${version}, expected 2 or 3`);
}

function checkWhole(cursor: GgufCursor, metadata: ReadonlyMap<string, MetadataValue>): void {
  const parts = metadata.get("split.count");
  if (typeof parts === "number" && parts > 1) {
    cursor.fail(`is one of ${parts} parts; join them with \`llama-gguf-split --merge\` first`);
  }
}

function readAlignment(cursor: GgufCursor, metadata: ReadonlyMap<string, MetadataValue>): number {
  const alignment = metadata.get("general.alignment") ?? DEFAULT_ALIGNMENT;
  const valid = typeof alignment === "number" && alignment >= 1 && Number.isInteger(Math.log2(alignment));
  if (valid && alignment <= 2 ** 31) return alignment;
  return cursor.fail("metadata general.alignment is not a power of two");
}

interface TensorInfo {
  readonly name: string;
  readonly shape: readonly number[];
  readonly type: number;
  /** From the start of the data. */
  readonly offset: number;
}

function readTensorInfo(cursor: GgufCursor): TensorInfo {
  const name = cursor.name();
  cursor.where = `tensor ${name}`;
  const axes = cursor.u32();
  if (axes > MAX_AXES) cursor.fail(`has ${axes} axes, at most ${MAX_AXES} are allowed`);
  // GGML counts axes from the innermost, PyTorch from the outermost.
  const shape = Array.from({ length: axes }, () => cursor.u64()).reverse();
  return { name, shape, type: cursor.u32(), offset: cursor.u64() };
}

function toSlice(info: TensorInfo, file: FoundFile, dataStart: number, alignment: number): TensorSlice {
  const { name, shape, type } = info;
  const place = { file: file.path, tensor: name };
  const dtype = ggmlDtypes.get(type);
  if (dtype === undefined) {
    const known = unreadGgmlTypes.get(type) ?? `number ${type}`;
    throw new CheckpointError(`its type ${known} can't be read`, place);
  }
  const size = tensorByteLength(dtype, shape);
  if ("problem" in size) throw new CheckpointError(size.problem, place);
  if (info.offset % alignment !== 0) {
    throw new CheckpointError(`its offset ${info.offset} is not a multiple of ${alignment}`, place);
  }
  const offset = dataStart + info.offset;
  const end = offset + size.length;
  if (end > file.size) {
    throw new CheckpointError(`ends at byte ${end} of a file of ${file.size}; it is truncated`, place);
  }
  return { name, file: file.realPath, offset, length: size.length, dtype, shape };
}

function renameAll(
  tensors: readonly TensorSlice[],
  metadata: ReadonlyMap<string, MetadataValue>,
  file: string,
): Map<string, TensorSlice> {
  const architecture = metadata.get("general.architecture");
  if (architecture === "clip")
    return new Map(renameClipTensors(tensors, metadata, file).map((tensor) => [tensor.name, tensor]));
  const renamed = new Map<string, TensorSlice>();
  for (const tensor of tensors.flatMap((tensor) => unstackGgufTensor(tensor, architecture) ?? tensor)) {
    const { name, storedPlusOne } = renameGgufTensor(tensor.name, architecture);
    if (renamed.has(name)) {
      const was = name === tensor.name ? "" : ` (${tensor.name} in the file)`;
      throw new CheckpointError(`duplicate name${was}`, { file, tensor: name });
    }
    renamed.set(name, storedPlusOne ? { ...tensor, name, storedPlusOne } : { ...tensor, name });
  }
  return renamed;
}
