import { type FileHandle, open } from "node:fs/promises";
import { CheckpointError } from "../errors.ts";
import { writeAll } from "./write-safetensors.ts";

/** The tensor of a pack that holds weights as the engine re-lays them; one preparation a pack. */
const PREPARED = "#prepared";
/** Places inside re-laid weights are computed from their address, so that each begins where a page does. */
const ALIGNMENT = 4096;
const COPY_BYTES = 1 << 23;

/** Room that a header must have for the entry that `appendPrepared` adds. */
export const SPARE_HEADER = 256;

/** Bytes of a file that are to be in the pack. */
export interface Stretch {
  readonly offset: number;
  readonly length: number;
}

/**
 * Appends stretches of the file `source` to a pack and returns the offset of each. What was in the pack stays where
 * it is, under the feet of whoever maps it; a crash in between leaves a pack that is recognised as damaged.
 * Undefined where the pack has a preparation already.
 */
export async function appendPrepared(
  pack: string,
  source: string,
  stretches: readonly Stretch[],
): Promise<number[] | undefined> {
  const [target, from] = [await open(pack, "r+"), await open(source, "r")];
  try {
    const { size } = await target.stat();
    const header = await readHeader(target, pack);
    if (PREPARED in header.entries) return undefined;
    let end = size;
    const offsets = stretches.map(({ length }) => {
      const offset = Math.ceil(end / ALIGNMENT) * ALIGNMENT;
      end = offset + length;
      return offset;
    });
    const start = size - header.length;
    header.entries[PREPARED] = {
      dtype: "U8",
      shape: [end - size],
      data_offsets: [start, start + end - size],
    };
    const text = Buffer.from(JSON.stringify(header.entries));
    if (text.length > header.length - 8)
      throw new CheckpointError("its header has no room for another entry", { file: pack });
    for (const [i, stretch] of stretches.entries()) await copy(from, target, stretch, offsets[i]!);
    await target.sync();
    const padded = Buffer.alloc(header.length - 8, " ");
    text.copy(padded);
    await writeAll(target, padded, 8);
    await target.sync();
    return offsets;
  } finally {
    await Promise.all([target.close(), from.close()]);
  }
}

/** The header of a file that this project wrote: its length, 8 bytes of prefix included, and its entries. */
async function readHeader(
  handle: FileHandle,
  file: string,
): Promise<{ length: number; entries: Record<string, unknown> }> {
  const prefix = Buffer.alloc(8);
  await handle.read(prefix, 0, 8, 0);
  const { size } = await handle.stat();
  const length = Number(prefix.readBigUInt64LE());
  if (length + 8 > size) throw new CheckpointError("its header runs over its end", { file });
  const text = Buffer.alloc(length);
  await handle.read(text, 0, length, 8);
  return { length: length + 8, entries: JSON.parse(text.toString()) as Record<string, unknown> };
}

async function copy(
  source: FileHandle,
  target: FileHandle,
  { offset, length }: Stretch,
  to: number,
): Promise<void> {
  const buffer = new Uint8Array(Math.min(length, COPY_BYTES));
  for (let done = 0; done < length; ) {
    const { bytesRead } = await source.read(buffer, 0, Math.min(buffer.length, length - done), offset + done);
    if (bytesRead === 0) throw new CheckpointError("ended before all of it was read");
    await writeAll(target, buffer.subarray(0, bytesRead), to + done);
    done += bytesRead;
  }
}
