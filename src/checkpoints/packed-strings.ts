import type { Buffer } from "node:buffer";

/** A read-only list of strings kept as UTF-8 bytes; each is decoded when asked for. */
export class PackedStrings implements Iterable<string> {
  readonly length: number;
  readonly #bytes: Buffer;
  readonly #starts: Uint32Array;
  readonly #ends: Uint32Array;

  /** String i is `bytes[starts[i] .. ends[i]]`. */
  constructor(bytes: Buffer, starts: Uint32Array, ends: Uint32Array) {
    this.length = starts.length;
    this.#bytes = bytes;
    this.#starts = starts;
    this.#ends = ends;
  }

  /** The string at `index`, or undefined outside of the list. Invalid UTF-8 becomes U+FFFD. */
  at(index: number): string | undefined {
    const start = this.#starts[index];
    return start === undefined ? undefined : this.#bytes.toString("utf8", start, this.#ends[index]);
  }

  toArray(): string[] {
    return Array.from(this);
  }

  *[Symbol.iterator](): IterableIterator<string> {
    for (let index = 0; index < this.length; index++) yield this.at(index)!;
  }
}
