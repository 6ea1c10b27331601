import { type Buffer, isUtf8 } from "node:buffer";
import { CheckpointError } from "../errors.ts";

/**
 * Thrown by a cursor that needs bytes of the file that have not been read yet; the reader fetches at least `needed`
 * bytes and parses again. Not an Error: it never leaves gguf.ts, and a stack trace would cost time.
 */
export class HeaderTooShort {
  readonly needed: number;
  constructor(needed: number) {
    this.needed = needed;
  }
}

/** The specification's limit for keys; tensor names are shorter still. */
const MAX_NAME = 65_535;

/** Reads a GGUF header's little-endian values from the beginning of a file. */
export class GgufCursor {
  position = 0;
  /** What is being read, for messages: "metadata", a key, a tensor. */
  where = "header";
  readonly bytes: Buffer;
  readonly #fileSize: number;
  readonly #file: string;

  /** `bytes` is the first part of a file of `fileSize` bytes. */
  constructor(bytes: Buffer, fileSize: number, file: string) {
    this.bytes = bytes;
    this.#fileSize = fileSize;
    this.#file = file;
  }

  fail(problem: string): never {
    throw new CheckpointError(`${this.where}: ${problem}`, { file: this.#file });
  }

  /** Reserves `length` bytes and returns where they start. `length` may be anything that a file claims. */
  take(length: number): number {
    const start = this.position;
    this.require(length);
    this.position = start + length;
    return start;
  }

  /** Checks that `length` more bytes exist, and that they are in memory, before anything is made from them. */
  require(length: number): void {
    const end = this.position + length;
    if (end <= this.bytes.length) return;
    if (end > this.#fileSize) {
      const left = this.#fileSize - this.position;
      this.fail(`needs ${length} bytes, but the file has ${left} left; it is truncated or damaged`);
    }
    throw new HeaderTooShort(end);
  }

  u8(): number {
    return this.bytes[this.take(1)]!;
  }

  u32(): number {
    return this.bytes.readUInt32LE(this.take(4));
  }

  /** A 64-bit count, length or offset; beyond 2^53 it can only be damage. */
  u64(): number {
    const at = this.take(8);
    const value = this.bytes.readUInt32LE(at) + this.bytes.readUInt32LE(at + 4) * 2 ** 32;
    if (value > Number.MAX_SAFE_INTEGER) this.fail(`a 64-bit value of ${value} is absurd`);
    return value;
  }

  /** A count of things that take at least `minimum` bytes each, checked against what the file has left. */
  count(minimum: number): number {
    const count = this.u64();
    this.require(count * minimum);
    return count;
  }

  /** A string that names something: it must be valid UTF-8, or two names could look the same. */
  name(): string {
    const length = this.u64();
    if (length > MAX_NAME) this.fail(`a name of ${length} bytes, at most ${MAX_NAME} are allowed`);
    const start = this.take(length);
    const bytes = this.bytes.subarray(start, start + length);
    if (!isUtf8(bytes)) this.fail("a name is not valid UTF-8");
    return bytes.toString("utf8");
  }

  /** A text; invalid UTF-8 becomes U+FFFD. */
  text(): string {
    const length = this.u64();
    const start = this.take(length);
    return this.bytes.toString("utf8", start, start + length);
  }
}
