/** The file of a screen (src/quantization/screen.ts), kept beside the pack whose output layer it screens. */
import type { FileHandle } from "node:fs/promises";
import { open, stat, unlink } from "node:fs/promises";
import { CheckpointError } from "../errors.ts";
import type { FileRange, NBitsWeight } from "../graph/weights.ts";
import { blocksPerRow, rowBytes } from "../quantization/matmul-nbits.ts";
import { SCREEN_LAYOUT, SCREENED_LAYOUT, screenRows, screenWidth } from "../quantization/screen.ts";
import type { Checkpoint } from "./checkpoint.ts";
import { checkRoom } from "./disk.ts";
import { withLock } from "./file-lock.ts";
import { SPARE_HEADER } from "./pack-append.ts";
import { openSafetensors } from "./safetensors.ts";
import { makeHeader, replaceFile, writeAll } from "./write-safetensors.ts";

/** Raise it when a screen's layout or arithmetic changes. */
const FORMAT_VERSION = 1;
/** Rows made at a time: a few ms, so that the event loop breathes. */
const RUN_ROWS = 512;

/** A screen as it lies in its file. */
export interface Screen {
  readonly file: string;
  /** The 4-bit matrix [N, K + refined columns]. */
  readonly weight: NBitsWeight;
  /** [N] */
  readonly bounds: Float32Array;
  /** Columns that are encoded twice. */
  readonly refined: Int32Array;
}

/** The screen of `weight`, an 8-bit matrix of the pack `pack`; made where it is not there yet. */
export async function findOrWriteScreen(
  pack: string,
  weight: NBitsWeight,
  refined: Int32Array,
): Promise<Screen> {
  const file = `${pack.replace(/\.safetensors$/, "")}.screen${FORMAT_VERSION}.safetensors`;
  const found = await openScreen(file, weight, refined);
  if (found !== undefined) return found;
  return withLock(`${file}.lock`, async () => {
    const meanwhile = await openScreen(file, weight, refined);
    if (meanwhile !== undefined) return meanwhile;
    await writeScreen(file, weight, refined);
    const written = await openScreen(file, weight, refined);
    if (written === undefined)
      throw new CheckpointError("the screen just written can't be read back", { file });
    return written;
  });
}

interface Entry {
  readonly name: "bounds" | "scales" | "codes" | "refined";
  readonly dtype: "F32" | "U8" | "I32";
  readonly shape: readonly number[];
  readonly bytes: number;
}

function entriesOf(N: number, width: number, refined: Int32Array): Entry[] {
  const [blocks, bytes] = [blocksPerRow(width, SCREEN_LAYOUT), rowBytes(width, SCREEN_LAYOUT)];
  return [
    { name: "refined", dtype: "I32", shape: [refined.length], bytes: 4 * refined.length },
    { name: "bounds", dtype: "F32", shape: [N], bytes: 4 * N },
    { name: "scales", dtype: "F32", shape: [N, blocks], bytes: 4 * N * blocks },
    { name: "codes", dtype: "U8", shape: [N, bytes], bytes: N * bytes },
  ];
}

async function openScreen(
  file: string,
  weight: NBitsWeight,
  refined: Int32Array,
): Promise<Screen | undefined> {
  if ((await stat(file).catch(() => undefined)) === undefined) return undefined;
  const checkpoint = await openSafetensors(file).catch((error: unknown) => {
    if (error instanceof CheckpointError) return undefined;
    throw error;
  });
  const screen = checkpoint && (await readScreen(file, checkpoint, weight, refined));
  await checkpoint?.close();
  // Damaged, or of other weights.
  if (screen === undefined) await unlink(file).catch(() => undefined);
  return screen;
}

async function readScreen(
  file: string,
  checkpoint: Checkpoint,
  { shape }: NBitsWeight,
  refined: Int32Array,
): Promise<Screen | undefined> {
  const [N, K] = shape as [number, number];
  const width = screenWidth(K, refined);
  const ranges = new Map<string, FileRange>();
  for (const { name, bytes } of entriesOf(N, width, refined)) {
    const slice = checkpoint.tensors.get(name);
    if (slice === undefined || slice.length !== bytes) return undefined;
    ranges.set(name, { file: slice.file, offset: slice.offset, length: slice.length });
  }
  const read = async (name: string): Promise<ArrayBuffer> => {
    const bytes = await checkpoint.read(checkpoint.tensors.get(name)!, 0, ranges.get(name)!.length);
    return new Uint8Array(bytes).buffer;
  };
  const stored = new Int32Array(await read("refined"));
  if (stored.join() !== refined.join()) return undefined;
  const weight: NBitsWeight = {
    kind: "nbits",
    ...SCREEN_LAYOUT,
    bits: 4,
    shape: [N, width],
    codes: ranges.get("codes")!,
    scales: ranges.get("scales")!,
  };
  return { file, weight, bounds: new Float32Array(await read("bounds")), refined };
}

async function writeScreen(file: string, weight: NBitsWeight, refined: Int32Array): Promise<void> {
  const [N, K] = weight.shape as [number, number];
  const entries = entriesOf(N, screenWidth(K, refined), refined);
  const header = makeHeader(entries, { format: "lapidary" }, file, SPARE_HEADER);
  const offsets = new Map<string, number>();
  let end = header.length;
  for (const entry of entries) {
    offsets.set(entry.name, end);
    end += entry.bytes;
  }
  await checkRoom(file, end, "preparing the output layer");
  const source = await open(weight.codes.file, "r");
  try {
    await replaceFile(file, async (target) => {
      await writeAll(target, header, 0);
      await writeAll(target, new Uint8Array(refined.buffer), offsets.get("refined"));
      for (let row = 0; row < N; row += RUN_ROWS)
        await writeRun(source, target, { weight, refined, offsets, row, count: Math.min(RUN_ROWS, N - row) });
    });
  } finally {
    await source.close();
  }
}

interface ScreenRun {
  readonly weight: NBitsWeight;
  readonly refined: Int32Array;
  readonly offsets: ReadonlyMap<string, number>;
  readonly row: number;
  readonly count: number;
}

async function writeRun(source: FileHandle, target: FileHandle, run: ScreenRun): Promise<void> {
  const { weight, refined, offsets, row, count } = run;
  const K = weight.shape[1]!;
  const codes = await readRows(source, weight.codes, row, count, rowBytes(K, SCREENED_LAYOUT));
  const scaleBytes = await readRows(source, weight.scales, row, count, 4 * blocksPerRow(K, SCREENED_LAYOUT));
  const width = screenWidth(K, refined);
  const rows = {
    codes: new Uint8Array(count * rowBytes(width, SCREEN_LAYOUT)),
    scales: new Float32Array(count * blocksPerRow(width, SCREEN_LAYOUT)),
    bounds: new Float32Array(count),
  };
  screenRows(codes, new Float32Array(scaleBytes.buffer), count, K, refined, rows);
  for (const [name, data] of Object.entries(rows)) {
    const bytes = new Uint8Array(data.buffer);
    await writeAll(target, bytes, offsets.get(name)! + (bytes.length / count) * row);
  }
}

async function readRows(
  source: FileHandle,
  { file, offset, length }: FileRange,
  row: number,
  count: number,
  bytes: number,
): Promise<Uint8Array<ArrayBuffer>> {
  const data = new Uint8Array(count * bytes);
  if ((row + count) * bytes > length)
    throw new CheckpointError("the output layer is shorter than its shape", { file });
  for (let done = 0; done < data.length; ) {
    const { bytesRead } = await source.read(data, done, data.length - done, offset + row * bytes + done);
    if (bytesRead === 0) throw new CheckpointError("ended before all of it was read", { file });
    done += bytesRead;
  }
  return data;
}
