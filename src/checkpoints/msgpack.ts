import { type Buffer, isUtf8 } from "node:buffer";
import { CheckpointError } from "../errors.ts";
import type { FoundFile, OpenFiles } from "./open-files.ts";

/** Bytes read at a time; what is skipped is not read. */
const WINDOW = 1 << 16;
/** Far above any model; it bounds the time that a hostile file can take. */
const MAX_VALUES = 1_000_000;

/** The beginning of one value: strings and the like are not read yet, members of arrays and maps follow. */
export type MsgpackToken =
  | { readonly kind: "nil" }
  | { readonly kind: "boolean"; readonly value: boolean }
  /** Integers beyond 2^53 are rounded. */
  | { readonly kind: "number"; readonly value: number }
  | { readonly kind: "string" | "bytes"; readonly length: number }
  | { readonly kind: "array" | "map"; readonly count: number }
  | { readonly kind: "extension"; readonly type: number; readonly length: number };

/**
 * Reads the values of a msgpack file one after the other (https://github.com/msgpack/msgpack/blob/master/spec.md).
 * Every length and count is checked against the bytes that are left before anything is made of it.
 */
export class MsgpackReader {
  position = 0;
  /** What is being read, for messages: "header", a tensor's path. */
  where = "header";
  readonly #open: OpenFiles;
  readonly #file: FoundFile;
  #window: Buffer | undefined;
  #windowStart = 0;
  #values = 0;

  constructor(open: OpenFiles, file: FoundFile) {
    this.#open = open;
    this.#file = file;
  }

  get left(): number {
    return this.#file.size - this.position;
  }

  fail(problem: string): never {
    throw new CheckpointError(`${this.where}: ${problem}`, { file: this.#file.path });
  }

  async token(): Promise<MsgpackToken> {
    if (++this.#values > MAX_VALUES) this.fail(`the file holds more than ${MAX_VALUES} values`);
    const first = await this.#unsigned(1);
    if (first <= 0x7f) return { kind: "number", value: first };
    if (first <= 0x8f) return this.#members("map", first & 0x0f);
    if (first <= 0x9f) return this.#members("array", first & 0x0f);
    if (first <= 0xbf) return this.#stretch("string", first & 0x1f);
    if (first >= 0xe0) return { kind: "number", value: first - 0x100 };
    if (first === 0xc0) return { kind: "nil" };
    if (first === 0xc2 || first === 0xc3) return { kind: "boolean", value: first === 0xc3 };
    if (first >= 0xc4 && first <= 0xc6)
      return this.#stretch("bytes", await this.#unsigned(1 << (first - 0xc4)));
    if (first >= 0xc7 && first <= 0xc9) return this.#extension(await this.#unsigned(1 << (first - 0xc7)));
    if (first === 0xca) return { kind: "number", value: (await this.bytes(4)).readFloatBE() };
    if (first === 0xcb) return { kind: "number", value: (await this.bytes(8)).readDoubleBE() };
    if (first >= 0xcc && first <= 0xcf)
      return { kind: "number", value: await this.#unsigned(1 << (first - 0xcc)) };
    if (first >= 0xd0 && first <= 0xd3)
      return { kind: "number", value: await this.#signed(1 << (first - 0xd0)) };
    if (first >= 0xd4 && first <= 0xd8) return this.#extension(1 << (first - 0xd4));
    if (first >= 0xd9 && first <= 0xdb)
      return this.#stretch("string", await this.#unsigned(1 << (first - 0xd9)));
    if (first === 0xdc || first === 0xdd)
      return this.#members("array", await this.#unsigned(first === 0xdc ? 2 : 4));
    if (first === 0xde || first === 0xdf)
      return this.#members("map", await this.#unsigned(first === 0xde ? 2 : 4));
    return this.fail(`byte ${this.position - 1} begins no msgpack value`);
  }

  /** The next value, which must be a string (or, as older writers had it, bytes) of at most `longest` bytes. */
  async text(longest: number): Promise<string> {
    const token = await this.token();
    if (token.kind !== "string" && token.kind !== "bytes")
      return this.fail(`a ${token.kind}, expected a string`);
    if (token.length > longest)
      this.fail(`a string of ${token.length} bytes, at most ${longest} are allowed`);
    const bytes = await this.bytes(token.length);
    // Two names must not look the same.
    if (!isUtf8(bytes)) this.fail("a string is not valid UTF-8");
    return bytes.toString("utf8");
  }

  /** The next bytes, as they are. */
  async bytes(length: number): Promise<Buffer> {
    this.#require(length);
    const { position } = this;
    const start = position - this.#windowStart;
    if (this.#window === undefined || start < 0 || start + length > this.#window.length) {
      const size = Math.min(this.left, Math.max(length, WINDOW));
      this.#window = await this.#open.read(this.#file.realPath, position, size);
      this.#windowStart = position;
    }
    this.position += length;
    const from = position - this.#windowStart;
    return this.#window.subarray(from, from + length);
  }

  /** Passes over bytes without reading them. */
  skip(length: number): void {
    this.#require(length);
    this.position += length;
  }

  #require(length: number): void {
    if (length > this.left)
      this.fail(`needs ${length} bytes, but the file has ${this.left} left; it is truncated or damaged`);
  }

  #stretch(kind: "string" | "bytes", length: number): MsgpackToken {
    this.#require(length);
    return { kind, length };
  }

  #members(kind: "array" | "map", count: number): MsgpackToken {
    this.#require(kind === "map" ? 2 * count : count);
    return { kind, count };
  }

  async #extension(length: number): Promise<MsgpackToken> {
    const type = await this.#signed(1);
    this.#require(length);
    return { kind: "extension", type, length };
  }

  async #unsigned(width: number): Promise<number> {
    const bytes = await this.bytes(width);
    return width === 8 ? Number(bytes.readBigUInt64BE()) : bytes.readUIntBE(0, width);
  }

  async #signed(width: number): Promise<number> {
    const bytes = await this.bytes(width);
    return width === 8 ? Number(bytes.readBigInt64BE()) : bytes.readIntBE(0, width);
  }
}
