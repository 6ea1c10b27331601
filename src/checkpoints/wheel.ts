import { createReadStream } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { createInflateRaw } from "node:zlib";
import { CheckpointError } from "../errors.ts";

/** A file inside a zip archive. */
export interface ZipMember {
  readonly name: string;
  readonly size: number;
  readonly compressedSize: number;
  readonly method: "stored" | "deflated";
  /** Offset of the member's local header. */
  readonly header: number;
}

// Signatures and lengths: PKWARE's APPNOTE.TXT, sections 4.3.7, 4.3.12 and 4.3.16.
const END_SIGNATURE = 0x06054b50;
const END_LENGTH = 22;
const ENTRY_SIGNATURE = 0x02014b50;
const ENTRY_LENGTH = 46;
const LOCAL_SIGNATURE = 0x04034b50;
const LOCAL_LENGTH = 30;
const MAX_COMMENT = 0xffff;
const MAX_DIRECTORY = 16 * 2 ** 20;

/** Lists a zip archive (a Python wheel is one) without reading its members. */
export async function listZip(path: string): Promise<ZipMember[]> {
  return withFile(path, async (handle) => {
    const { size } = await handle.stat();
    const tail = await readAt(
      handle,
      path,
      Math.max(0, size - END_LENGTH - MAX_COMMENT),
      Math.min(size, END_LENGTH + MAX_COMMENT),
    );
    const end = findEnd(tail);
    if (end < 0) throw new CheckpointError("not a zip archive: no end record", { file: path });
    const count = tail.readUInt16LE(end + 10);
    const length = tail.readUInt32LE(end + 12);
    const start = tail.readUInt32LE(end + 16);
    if (count === 0xffff || start === 0xffffffff) {
      throw new CheckpointError("zip64 archives are not read", { file: path });
    }
    if (length > MAX_DIRECTORY || start + length > size - END_LENGTH) {
      throw new CheckpointError(`the zip directory (${start} + ${length}) leaves the file of ${size} bytes`, {
        file: path,
      });
    }
    return parseDirectory(await readAt(handle, path, start, length), count, path);
  });
}

/** Streams one member's bytes, unpacked, to `sink`; never more than its stated size. */
export async function extractMember(
  path: string,
  member: ZipMember,
  sink: (chunk: Uint8Array) => Promise<void>,
  signal?: AbortSignal | undefined,
): Promise<void> {
  const start = await dataOffset(path, member);
  let length = 0;
  for await (const chunk of unpacked(path, member, start)) {
    signal?.throwIfAborted();
    length += chunk.length;
    if (length > member.size) throw wrongLength(path, member, "more");
    await sink(chunk);
  }
  if (length !== member.size) throw wrongLength(path, member, length);
}

async function* unpacked(path: string, member: ZipMember, start: number): AsyncGenerator<Uint8Array> {
  if (member.compressedSize === 0) return;
  const source = createReadStream(path, {
    start,
    end: start + member.compressedSize - 1,
    highWaterMark: 2 ** 18,
  });
  const stream = member.method === "stored" ? source : source.pipe(createInflateRaw({ chunkSize: 2 ** 18 }));
  source.on("error", (error) => stream.destroy(error)); // pipe() does not pass errors on
  try {
    yield* stream as AsyncIterable<Uint8Array>;
  } catch (error) {
    if (!isZlibError(error)) throw error;
    throw new CheckpointError(`${member.name}: damaged: ${String(error)}`, { file: path, cause: error });
  } finally {
    source.destroy();
    stream.destroy();
  }
}

function wrongLength(path: string, member: ZipMember, found: number | "more"): CheckpointError {
  return new CheckpointError(`${member.name}: expected ${member.size} bytes, got ${found}`, { file: path });
}

function parseDirectory(bytes: Buffer, count: number, path: string): ZipMember[] {
  const members: ZipMember[] = [];
  let at = 0;
  for (let i = 0; i < count; i++) {
    if (at + ENTRY_LENGTH > bytes.length || bytes.readUInt32LE(at) !== ENTRY_SIGNATURE) {
      throw new CheckpointError(`zip directory: entry ${i} of ${count} is not one`, { file: path });
    }
    const flags = bytes.readUInt16LE(at + 8);
    const method = bytes.readUInt16LE(at + 10);
    const nameLength = bytes.readUInt16LE(at + 28);
    const next = at + ENTRY_LENGTH + nameLength + bytes.readUInt16LE(at + 30) + bytes.readUInt16LE(at + 32);
    if (next > bytes.length)
      throw new CheckpointError(`zip directory: entry ${i} is cut off`, { file: path });
    const name = bytes.toString("utf8", at + ENTRY_LENGTH, at + ENTRY_LENGTH + nameLength);
    const encrypted = (flags & 1) !== 0;
    if (!encrypted && (method === 0 || method === 8)) {
      members.push({
        name,
        size: bytes.readUInt32LE(at + 24),
        compressedSize: bytes.readUInt32LE(at + 20),
        method: method === 0 ? "stored" : "deflated",
        header: bytes.readUInt32LE(at + 42),
      });
    }
    at = next;
  }
  return members;
}

/** Where a member's data begins: the local header repeats the name and may have other extra fields. */
async function dataOffset(path: string, member: ZipMember): Promise<number> {
  return withFile(path, async (handle) => {
    const header = await readAt(handle, path, member.header, LOCAL_LENGTH);
    if (header.readUInt32LE(0) !== LOCAL_SIGNATURE) {
      throw new CheckpointError(`${member.name}: no local zip header at ${member.header}`, { file: path });
    }
    const start = member.header + LOCAL_LENGTH + header.readUInt16LE(26) + header.readUInt16LE(28);
    if (start + member.compressedSize > (await handle.stat()).size) {
      throw new CheckpointError(`${member.name}: its data leaves the file`, { file: path });
    }
    return start;
  });
}

function findEnd(tail: Buffer): number {
  for (let at = tail.length - END_LENGTH; at >= 0; at--) {
    if (tail.readUInt32LE(at) === END_SIGNATURE) return at;
  }
  return -1;
}

async function readAt(handle: FileHandle, path: string, position: number, length: number): Promise<Buffer> {
  const buffer = Buffer.alloc(length);
  const { bytesRead } = await handle.read(buffer, 0, length, position);
  if (bytesRead !== length) {
    throw new CheckpointError(`cut off: ${length} bytes expected at ${position}, ${bytesRead} found`, {
      file: path,
    });
  }
  return buffer;
}

async function withFile<T>(path: string, use: (handle: FileHandle) => Promise<T>): Promise<T> {
  const handle = await open(path, "r");
  try {
    return await use(handle);
  } finally {
    await handle.close();
  }
}

function isZlibError(error: unknown): boolean {
  const { code } = error as { code?: unknown };
  return typeof code === "string" && code.startsWith("Z_");
}
