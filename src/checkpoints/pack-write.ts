import type { FileHandle } from "node:fs/promises";
import { CheckpointError } from "../errors.ts";
import type { FloatDtype, InlineWeight } from "../graph/weights.ts";
import { BLOCK_GEOMETRY, byteLength, dequantize, elementCount } from "../quantization/gguf-blocks.ts";
import { float32ToBfloat16, float32ToFloat16 } from "../quantization/half.ts";
import { quantizeColumns } from "../quantization/int8-columns.ts";
import { blocksPerRow, type NBitsLayout, quantizeRows, rowBytes } from "../quantization/matmul-nbits.ts";
import { repack } from "../quantization/repack.ts";
import { readEncoded } from "./bitsandbytes.ts";
import type { Checkpoint, TensorSlice } from "./checkpoint.ts";
import { checkRoom } from "./disk.ts";
import type { SafetensorsDtype } from "./dtypes.ts";
import type { PackOptions } from "./pack.ts";
import { SPARE_HEADER } from "./pack-append.ts";
import { encodeLinear, type LinearTarget, linearEntries } from "./pack-linear.ts";
import type { PlannedWeight } from "./pack-plan.ts";
import { makeHeader, replaceFile, writeAll } from "./write-safetensors.ts";

/** Elements converted at a time: keeps memory small and the event loop breathing. */
const RUN_ELEMENTS = 1 << 21;

/** One tensor of the pack, with its place once the header is made. */
interface Entry {
  readonly name: string;
  readonly dtype: SafetensorsDtype;
  readonly shape: readonly number[];
  readonly bytes: number;
}

const SAFETENSORS: Readonly<Record<FloatDtype, SafetensorsDtype>> = {
  float32: "F32",
  float16: "F16",
  bfloat16: "BF16",
};

/** Converts the planned weights into a pack at `path`, written beside it and then renamed. */
export async function writePack(
  path: string,
  checkpoint: Checkpoint,
  plan: readonly PlannedWeight[],
  options: PackOptions,
): Promise<void> {
  const entries = plan.flatMap(entriesOf);
  // Wide elements first: everything is aligned, and neighbours of one kind stay neighbours.
  const order: readonly SafetensorsDtype[] = ["F32", "BF16", "F16", "U8"];
  const place = ({ name, dtype }: Entry): number =>
    2 * order.indexOf(dtype) + (name.endsWith("#zeros") ? 1 : 0);
  entries.sort((a, b) => place(a) - place(b));
  const header = makeHeader(entries, { format: "lapidary" }, path, SPARE_HEADER);
  const offsets = new Map<string, number>();
  let end = header.length;
  for (const entry of entries) {
    offsets.set(entry.name, end);
    end += entry.bytes;
  }
  await checkRoom(options.folder, end, "packing the weights");
  const write = async (handle: FileHandle): Promise<void> => {
    await writeAll(handle, header, 0);
    let done = header.length;
    for (const weight of plan) {
      if (weight.target.kind === "direct") continue;
      for await (const written of convert(handle, checkpoint, weight, offsets)) {
        options.signal?.throwIfAborted();
        done += written;
        options.onProgress?.(done, end);
      }
    }
  };
  await replaceFile(path, write, options.signal);
}

/** Reads the small weights: from a pack, which has them as float32 under their key, or from the checkpoint itself. */
export async function readInline(
  source: Checkpoint,
  plan: readonly PlannedWeight[],
): Promise<Map<string, InlineWeight>> {
  const inline = new Map<string, InlineWeight>();
  for (const { key, shape, target } of plan) {
    if (target.kind !== "inline") continue;
    const slice = source.tensors.get(key);
    if (slice === undefined) throw new CheckpointError("missing", { tensor: key });
    inline.set(key, {
      kind: "inline",
      shape,
      data: await readFloats(source, slice, 0, elementCount(slice.dtype, slice.length)),
    });
  }
  return inline;
}

/** Names of the tensors that a weight has in its pack. */
export function packedNames(weight: PlannedWeight): string[] {
  return entriesOf(weight).map(({ name }) => name);
}

function entriesOf({ key, shape, target }: PlannedWeight): Entry[] {
  const elements = shape.reduce((product, dim) => product * dim, 1);
  switch (target.kind) {
    case "direct":
      return [];
    case "inline":
      return [{ name: key, dtype: "F32", shape, bytes: 4 * elements }];
    case "float":
      return [
        {
          name: key,
          dtype: SAFETENSORS[target.dtype],
          shape,
          bytes: elements * (target.dtype === "float32" ? 4 : 2),
        },
      ];
    case "nbits": {
      const [N, K] = shape as [number, number];
      const blocks = blocksPerRow(K, target);
      return [
        { name: `${key}#scales`, dtype: "F32", shape: [N, blocks], bytes: 4 * N * blocks },
        {
          name: `${key}#codes`,
          dtype: "U8",
          shape: [N, rowBytes(K, target)],
          bytes: N * rowBytes(K, target),
        },
      ];
    }
    case "int8": {
      const [N, K] = shape as [number, number];
      return [
        { name: `${key}#scales`, dtype: "F32", shape: [N], bytes: 4 * N },
        { name: `${key}#codes`, dtype: "U8", shape: [K, N], bytes: K * N },
      ];
    }
    case "linear":
      return linearEntries(target.form, shape as [number, number]).map((entry) => {
        const codes = entry.role === "codes";
        const count = entry.shape.reduce((product, dim) => product * dim, 1);
        return {
          name: `${key}#${entry.role}`,
          dtype: codes ? ("U8" as const) : ("F32" as const),
          shape: entry.shape,
          bytes: codes ? count : 4 * count,
        };
      });
  }
}

/** Yields the bytes written after each run of rows. */
async function* convert(
  handle: FileHandle,
  checkpoint: Checkpoint,
  weight: PlannedWeight,
  offsets: ReadonlyMap<string, number>,
): AsyncGenerator<number> {
  const { key, shape, slice, target } = weight;
  if (target.kind === "nbits") return yield* convertNBits(handle, checkpoint, weight, target, offsets);
  if (target.kind === "int8") return yield* convertInt8(handle, checkpoint, weight, offsets);
  if (target.kind === "linear") return yield* convertLinear(handle, checkpoint, weight, target.form, offsets);
  const dtype = target.kind === "inline" ? "float32" : target.dtype;
  const elements = shape.reduce((product, dim) => product * dim, 1);
  let at = offsets.get(key)!;
  for (let start = 0; start < elements; start += RUN_ELEMENTS) {
    const bytes = encode(
      await readFloats(checkpoint, slice, start, Math.min(elements, start + RUN_ELEMENTS)),
      dtype,
    );
    await writeAll(handle, bytes, at);
    at += bytes.byteLength;
    yield bytes.byteLength;
  }
}

async function* convertLinear(
  handle: FileHandle,
  checkpoint: Checkpoint,
  { key, shape, slice }: PlannedWeight,
  form: LinearTarget,
  offsets: ReadonlyMap<string, number>,
): AsyncGenerator<number> {
  const read = (start: number, end: number): Promise<Float32Array> =>
    readFloats(checkpoint, slice, start, end);
  for await (const part of encodeLinear({ checkpoint, slice, shape, read }, form, RUN_ELEMENTS)) {
    await writeAll(handle, part.bytes, offsets.get(`${key}#${part.role}`)! + part.at);
    yield part.bytes.byteLength;
  }
}

/** A row of the weight becomes a column: the codes are written when all are there. */
async function* convertInt8(
  handle: FileHandle,
  checkpoint: Checkpoint,
  { key, shape, slice }: PlannedWeight,
  offsets: ReadonlyMap<string, number>,
): AsyncGenerator<number> {
  const [N, K] = shape as [number, number];
  const [codes, scales] = [new Int8Array(N * K), new Float32Array(N)];
  const rows = Math.max(1, Math.floor(RUN_ELEMENTS / K));
  for (let row = 0; row < N; row += rows) {
    const values = await readFloats(checkpoint, slice, row * K, Math.min(N, row + rows) * K);
    quantizeColumns(values, row, [N, K], codes, scales);
    yield 0;
  }
  await writeAll(handle, new Uint8Array(codes.buffer), offsets.get(`${key}#codes`)!);
  await writeAll(handle, bytesOf(scales), offsets.get(`${key}#scales`)!);
  yield codes.byteLength + scales.byteLength;
}

async function* convertNBits(
  handle: FileHandle,
  checkpoint: Checkpoint,
  { key, shape, slice }: PlannedWeight,
  layout: NBitsLayout,
  offsets: ReadonlyMap<string, number>,
): AsyncGenerator<number> {
  const [N, K] = shape as [number, number];
  const rows = Math.max(1, Math.floor(RUN_ELEMENTS / K));
  for (let row = 0; row < N; row += rows) {
    const count = Math.min(rows, N - row);
    const codes = new Uint8Array(count * rowBytes(K, layout));
    const scales = new Float32Array(count * blocksPerRow(K, layout));
    if (slice.encoding !== undefined) {
      const values = await readFloats(checkpoint, slice, row * K, (row + count) * K);
      quantizeRows(values, count, K, layout, codes, scales);
    } else {
      const sourceRow = byteLength(slice.dtype, K);
      const bytes = await checkpoint.read(slice, row * sourceRow, (row + count) * sourceRow);
      repack(slice.dtype, bytes, count, K, layout, codes, scales);
    }
    await writeAll(handle, codes, offsets.get(`${key}#codes`)! + row * rowBytes(K, layout));
    await writeAll(
      handle,
      bytesOf(scales),
      offsets.get(`${key}#scales`)! + 4 * row * blocksPerRow(K, layout),
    );
    yield codes.byteLength + scales.byteLength;
  }
}

/**
 * Elements start..end-1 of a tensor as float32. `start` lies at the border of a block of its dtype, or anywhere else:
 * then whole blocks are read.
 */
async function readFloats(
  checkpoint: Checkpoint,
  slice: TensorSlice,
  start: number,
  end: number,
): Promise<Float32Array> {
  if (slice.encoding !== undefined) return readEncoded(checkpoint, slice, slice.encoding, start, end);
  const { blockElements, blockBytes } = BLOCK_GEOMETRY[slice.dtype];
  const [first, last] = [Math.floor(start / blockElements), Math.ceil(end / blockElements)];
  const bytes = await checkpoint.read(slice, first * blockBytes, last * blockBytes);
  const values = new Float32Array((last - first) * blockElements);
  dequantize(slice.dtype, bytes, values);
  if (slice.storedPlusOne === true) for (let i = 0; i < values.length; i++) values[i]! -= 1;
  const skipped = start - first * blockElements;
  return values.subarray(skipped, skipped + end - start);
}

function encode(values: Float32Array, dtype: FloatDtype): Uint8Array {
  if (dtype === "float32") return bytesOf(values);
  const halves = new Uint16Array(values.length);
  (dtype === "float16" ? float32ToFloat16 : float32ToBfloat16)(values, halves);
  return bytesOf(halves);
}

function bytesOf({ buffer, byteOffset, byteLength }: Float32Array | Uint16Array): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}
