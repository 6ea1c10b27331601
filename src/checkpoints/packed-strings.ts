import { type Buffer, isUtf8 } from "node:buffer";

/** A read-only list of strings kept as UTF-8 bytes, decoded when asked for. Invalid UTF-8 becomes U+FFFD. */
export class PackedStrings implements Iterable<string> {
  readonly length: number;
  readonly #bytes: Buffer;
  readonly #ends: Uint32Array;

  /** The strings one after the other, and where each ends. */
  constructor(bytes: Buffer, ends: Uint32Array) {
    this.length = ends.length;
    this.#bytes = bytes;
    this.#ends = ends;
  }

  /** The string at `index`, or undefined outside of the list. */
  at(index: number): string | undefined {
    const end = this.#ends[index];
    return end === undefined ? undefined : this.#bytes.toString("utf8", this.#ends[index - 1] ?? 0, end);
  }

  /** All strings. One decoding of all bytes is ten times as fast as one per string. */
  toArray(): string[] {
    if (!this.#isEachUtf8()) return Array.from(this.#ends, (_, index) => this.at(index)!);
    const text = this.#bytes.toString("utf8");
    const strings = new Array<string>(this.length);
    let start = 0; // in bytes
    let from = 0; // in UTF-16 units
    for (let index = 0; index < this.length; index++) {
      const end = this.#ends[index]!;
      let to = from;
      for (let at = start; at < end; at++) to += utf16Units(this.#bytes[at]!);
      strings[index] = text.slice(from, to);
      [start, from] = [end, to];
    }
    return strings;
  }

  [Symbol.iterator](): IterableIterator<string> {
    return this.toArray().values();
  }

  /** Valid bytes may still be cut within a character; then a string begins with a continuation byte. */
  #isEachUtf8(): boolean {
    if (!isUtf8(this.#bytes)) return false;
    return this.#ends.every((end) => end === this.#bytes.length || utf16Units(this.#bytes[end]!) > 0);
  }
}

/** How many UTF-16 units a byte of valid UTF-8 starts: none if it continues a character. */
function utf16Units(byte: number): number {
  if (byte >= 0xf0) return 2;
  return (byte & 0xc0) === 0x80 ? 0 : 1;
}
