/**
 * Checkpoints that bitsandbytes quantised before they were saved. A 4-bit matrix X lies in several tensors:
 *
 *     X                                   codes, two a byte; [bytes, 1] of any dtype
 *     X.quant_state.bitsandbytes__nf4     JSON: quant_type, blocksize, shape, nested_blocksize, nested_offset
 *     X.quant_map                         float32 [16]: what the codes stand for
 *     X.absmax                            float32 [blocks], or with double quantisation uint8 and
 *     X.nested_absmax, X.nested_quant_map float32: value = map[code] · nested_absmax[block of 256] + nested_offset
 *
 * An 8-bit matrix P.weight is int8, its rows' scales are P.SCB / 127, and P.weight_format says how it is laid out.
 */
import { CheckpointError } from "../errors.ts";
import { byteLength, dequantize, elementCount } from "../quantization/gguf-blocks.ts";
import { BNB4_VALUES, type Bnb4Type, dequantizeBnb4, unnestAbsmax } from "../quantization/nf4.ts";
import type { Bnb4Encoding, Checkpoint, SavedEncoding, TensorSlice } from "./checkpoint.ts";
import { excerpt, parseStrictJson } from "./strict-json.ts";

const STATE = ".quant_state.bitsandbytes__";
const PARTS = [".absmax", ".quant_map", ".nested_absmax", ".nested_quant_map"];
const ROW_SCALES = ".SCB";
const FORMAT = ".weight_format";
/** The JSON of a matrix has about 200 bytes. */
const MAX_STATE_BYTES = 1 << 16;
/** What the rows of an int8 matrix are multiplied with besides SCB, as bitsandbytes writes 1 / 127. */
const INT8_STEP = Math.fround(7.874015718698502e-3);

type Tensors = ReadonlyMap<string, TensorSlice>;

/** The checkpoint with the true shapes of what bitsandbytes encoded; itself where there is nothing of the kind. */
export async function decodeBitsAndBytes(checkpoint: Checkpoint): Promise<Checkpoint> {
  const names = [...checkpoint.tensors.keys()];
  const [packed, rows] = [
    names.filter((name) => name.includes(STATE)),
    names.filter((name) => name.endsWith(ROW_SCALES)),
  ];
  if (packed.length === 0 && rows.length === 0) return checkpoint;
  const tensors = new Map(checkpoint.tensors);
  for (const name of packed) {
    const key = name.slice(0, name.indexOf(STATE));
    tensors.set(key, await decode4bit(checkpoint, key, checkpoint.tensors.get(name)!));
    for (const part of [name, ...PARTS.map((suffix) => key + suffix)]) tensors.delete(part);
  }
  for (const name of rows) {
    const path = name.slice(0, -ROW_SCALES.length);
    tensors.set(`${path}.weight`, await decodeInt8(checkpoint, path));
    for (const suffix of [ROW_SCALES, FORMAT]) tensors.delete(path + suffix);
  }
  const { format, files, metadata } = checkpoint;
  return {
    format,
    files,
    tensors,
    metadata,
    read: (slice, start, end) => checkpoint.read(slice, start, end),
    close: () => checkpoint.close(),
  };
}

async function decode4bit(checkpoint: Checkpoint, key: string, state: TensorSlice): Promise<TensorSlice> {
  const codes = part(checkpoint.tensors, key);
  const place = { file: codes.file, tensor: state.name };
  if (state.length > MAX_STATE_BYTES)
    throw new CheckpointError(`${state.length} bytes are too many for a quantisation state`, place);
  const json = parseStrictJson(await checkpoint.read(state), `${state.file}: ${state.name}`);
  const quant_type = state.name.slice(state.name.indexOf(STATE) + STATE.length);
  if (!isBnb4Type(quant_type) || json.quant_type !== quant_type)
    throw new CheckpointError(`its quant_type is ${excerpt(json.quant_type)}, expected nf4 or fp4`, place);
  const block_size = blockSize(json.blocksize, "blocksize", place);
  const shape = matrixShape(json.shape, place);
  const elements = shape[0]! * shape[1]!;
  if (codes.length !== Math.ceil(elements / 2))
    throw new CheckpointError(
      `${codes.length} bytes of codes, but a shape of [${shape.join(", ")}] takes ${Math.ceil(elements / 2)}`,
      { file: codes.file, tensor: key },
    );
  await checkMap(checkpoint, key, quant_type);
  const absmax = part(checkpoint.tensors, `${key}.absmax`, Math.ceil(elements / block_size));
  const nested = await decodeNested(checkpoint, key, absmax, json);
  const encoding: Bnb4Encoding = { kind: "bnb4", quant_type, block_size, absmax };
  return {
    ...codes,
    dtype: "U8",
    shape,
    encoding: nested === undefined ? encoding : { ...encoding, nested },
  };
}

async function decodeNested(
  checkpoint: Checkpoint,
  key: string,
  absmax: TensorSlice,
  json: Readonly<Record<string, unknown>>,
): Promise<Bnb4Encoding["nested"]> {
  const place = { file: absmax.file, tensor: absmax.name };
  if (!checkpoint.tensors.has(`${key}.nested_absmax`)) {
    if (absmax.dtype === "F32") return undefined;
    throw new CheckpointError(`absmax is ${absmax.dtype}, but there is no nested_absmax to it`, place);
  }
  if (absmax.dtype !== "U8")
    throw new CheckpointError(`nested absmax is ${absmax.dtype}, expected U8`, place);
  const block_size = blockSize(json.nested_blocksize, "nested_blocksize", place);
  const { nested_offset: offset } = json;
  if (typeof offset !== "number" || !Number.isFinite(offset))
    throw new CheckpointError(`nested_offset is ${excerpt(offset)}, expected a number`, place);
  const blocks = Math.ceil(absmax.length / block_size);
  return {
    absmax: await floats(checkpoint, part(checkpoint.tensors, `${key}.nested_absmax`, blocks)),
    map: await floats(checkpoint, part(checkpoint.tensors, `${key}.nested_quant_map`, 256)),
    block_size,
    offset: Math.fround(offset),
  };
}

/** The engine's kernel has the codes' values built in, so that a checkpoint must mean the same. */
async function checkMap(checkpoint: Checkpoint, key: string, quant_type: Bnb4Type): Promise<void> {
  const slice = part(checkpoint.tensors, `${key}.quant_map`, 16);
  const map = await floats(checkpoint, slice);
  const same = BNB4_VALUES[quant_type].every((value, i) => Math.abs(value - map[i]!) < 1e-6);
  if (!same)
    throw new CheckpointError(`its values are not those of ${quant_type}`, {
      file: slice.file,
      tensor: slice.name,
    });
}

async function decodeInt8(checkpoint: Checkpoint, path: string): Promise<TensorSlice> {
  const codes = part(checkpoint.tensors, `${path}.weight`);
  const place = { file: codes.file, tensor: codes.name };
  if (codes.dtype !== "I8" || codes.shape.length !== 2)
    throw new CheckpointError(
      `${codes.dtype} of ${codes.shape.length} axes beside SCB, expected int8`,
      place,
    );
  const scales = part(checkpoint.tensors, path + ROW_SCALES, codes.shape[0]);
  const format = checkpoint.tensors.get(path + FORMAT);
  if (format !== undefined && (format.length !== 1 || (await checkpoint.read(format))[0] !== 0))
    throw new CheckpointError("its weight_format is not that of plain rows", place);
  return { ...codes, encoding: { kind: "int8", scales } };
}

/** Elements start..end-1 of an encoded matrix, as the float32 numbers that they stand for. */
export async function readEncoded(
  checkpoint: Checkpoint,
  slice: TensorSlice,
  encoding: SavedEncoding,
  start: number,
  end: number,
): Promise<Float32Array> {
  if (encoding.kind === "bnb4") return read4bit(checkpoint, slice, encoding, start, end);
  const K = slice.shape[1]!;
  const codes = await checkpoint.read(slice, start, end);
  const firstRow = Math.floor(start / K);
  const scales = await readRowScales(checkpoint, encoding.scales, firstRow, Math.ceil(end / K));
  return Float32Array.from(
    { length: end - start },
    (_, i) => codes.readInt8(i) * scales[Math.floor((start + i) / K) - firstRow]!,
  );
}

async function read4bit(
  checkpoint: Checkpoint,
  slice: TensorSlice,
  encoding: Bnb4Encoding,
  start: number,
  end: number,
): Promise<Float32Array> {
  const { quant_type, block_size } = encoding;
  const firstBlock = Math.floor(start / block_size);
  const from = firstBlock * block_size;
  const absmax = await readAbsmax(checkpoint, encoding, firstBlock, Math.ceil(end / block_size));
  const codes = await checkpoint.read(slice, from / 2, Math.ceil(end / 2));
  const values = new Float32Array(end - from);
  dequantizeBnb4(codes, absmax, quant_type, block_size, values);
  return values.subarray(start - from);
}

/** The largest magnitudes of the blocks first..end-1, double quantisation undone. */
export async function readAbsmax(
  checkpoint: Checkpoint,
  { absmax, nested }: Bnb4Encoding,
  first: number,
  end: number,
): Promise<Float32Array> {
  if (nested === undefined) return floats(checkpoint, absmax, first, end);
  // From the border of a nested block on, so that its scale is that of the first code.
  const group = Math.floor(first / nested.block_size);
  const from = group * nested.block_size;
  const codes = await checkpoint.read(absmax, from, end);
  const scales = nested.absmax.subarray(group, Math.ceil(end / nested.block_size));
  const values = unnestAbsmax(
    { codes, absmax: scales, offset: nested.offset },
    nested.map,
    nested.block_size,
  );
  return values.subarray(first - from);
}

/** What the codes of the rows first..end-1 of an int8 matrix are multiplied with. */
export async function readRowScales(
  checkpoint: Checkpoint,
  scales: TensorSlice,
  first: number,
  end: number,
): Promise<Float32Array> {
  return (await floats(checkpoint, scales, first, end)).map((value) => value * INT8_STEP);
}

function floats(
  checkpoint: Checkpoint,
  slice: TensorSlice,
  first = 0,
  end: number = elementCount(slice.dtype, slice.length),
): Promise<Float32Array> {
  const values = new Float32Array(end - first);
  const [from, to] = [byteLength(slice.dtype, first), byteLength(slice.dtype, end)];
  return checkpoint.read(slice, from, to).then((bytes) => {
    dequantize(slice.dtype, bytes, values);
    return values;
  });
}

function part(tensors: Tensors, name: string, elements?: number): TensorSlice {
  const slice = tensors.get(name);
  if (slice === undefined)
    throw new CheckpointError("missing beside the matrix that bitsandbytes quantised", { tensor: name });
  const found = elementCount(slice.dtype, slice.length);
  if (elements === undefined || found === elements) return slice;
  throw new CheckpointError(`expected ${elements} elements, got ${found}`, {
    file: slice.file,
    tensor: name,
  });
}

function isBnb4Type(value: string): value is Bnb4Type {
  return Object.hasOwn(BNB4_VALUES, value);
}

/** A power of two from 16 on. */
function blockSize(value: unknown, name: string, place: { file: string; tensor: string }): number {
  const size = value as number;
  if (Number.isInteger(size) && size >= 16 && size <= 4096 && (size & (size - 1)) === 0) return size;
  throw new CheckpointError(`${name} is ${excerpt(value)}, expected a power of two from 16 to 4096`, place);
}

function matrixShape(value: unknown, place: { file: string; tensor: string }): readonly number[] {
  const dims = Array.isArray(value) ? (value as unknown[]) : [];
  const sizes = dims.filter((dim): dim is number => Number.isSafeInteger(dim) && (dim as number) > 0);
  if (dims.length === 2 && sizes.length === 2 && Number.isSafeInteger(sizes[0]! * sizes[1]!)) return sizes;
  throw new CheckpointError(`shape is ${excerpt(value)}, expected [rows, columns]`, place);
}
