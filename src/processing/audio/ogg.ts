/** Ogg (RFC 3533): pages with check sums, which packets of any length are laid across. */
import { InputError } from "../../errors.ts";

/** Flags of a page. */
const CONTINUED = 1;
const LAST = 4;
const HEADER_BYTES = 27;

/** Reads one logical stream, page by page. Throws an InputError for a file that is cut off, damaged or of several streams. */
export class OggReader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #place: string;
  #granule = 0n;

  constructor(bytes: Uint8Array, place: string) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#place = place;
  }

  /** What the last page read says of its end: for audio, samples up to there. */
  get granule(): number {
    return Number(this.#granule);
  }

  /** Every packet; the ones within a page share the file's memory. */
  *packets(): Generator<Uint8Array> {
    let pending: Uint8Array[] = [];
    for (const { flags, segments, start } of this.#pages()) {
      if ((flags & CONTINUED) === 0) pending = [];
      let from = start;
      let to = start;
      for (const length of segments) {
        to += length;
        if (length === 255) continue;
        const part = this.#bytes.subarray(from, to);
        yield pending.length === 0 ? part : Buffer.concat([...pending, part]);
        pending = [];
        from = to;
      }
      if (to > from) pending.push(this.#bytes.subarray(from, to));
    }
  }

  /** Reads all pages for their check sums. */
  verify(): void {
    for (const _page of this.#pages());
  }

  *#pages(): Generator<{ flags: number; segments: Uint8Array; start: number }> {
    const serial = this.#bytes.length < HEADER_BYTES ? 0 : this.#view.getUint32(14, true);
    let position = 0;
    let flags = 0;
    while (position < this.#bytes.length) {
      if ((flags & LAST) !== 0) this.#fail("holds several streams one after the other; one is read");
      const page = this.#page(position);
      if (this.#view.getUint32(position + 14, true) !== serial)
        this.#fail("holds several streams side by side; one is read");
      flags = page.flags;
      const granule = this.#view.getBigInt64(position + 6, true);
      // -1: no packet ends on this page.
      if (granule >= 0n) this.#granule = granule;
      yield page;
      position = page.end;
    }
    if ((flags & LAST) === 0) this.#fail("is cut off: its last page is missing");
  }

  #page(position: number): { flags: number; segments: Uint8Array; start: number; end: number } {
    const bytes = this.#bytes;
    const left = bytes.length - position;
    if (left < HEADER_BYTES || left < HEADER_BYTES + bytes[position + 26]!)
      this.#fail("is cut off within a page");
    if (this.#view.getUint32(position) !== OGGS)
      this.#fail(`is damaged: there is no Ogg page at byte ${position}`);
    const start = position + HEADER_BYTES + bytes[position + 26]!;
    const segments = bytes.subarray(position + HEADER_BYTES, start);
    const end = segments.reduce((sum, length) => sum + length, start);
    if (end > bytes.length) this.#fail("is cut off within a page");
    if (checkSum(bytes, position, end) !== this.#view.getUint32(position + 22, true))
      this.#fail(`is damaged: the check sum of the page at byte ${position} is wrong`);
    return { flags: bytes[position + 5]!, segments, start, end };
  }

  #fail(problem: string): never {
    throw new InputError(`${this.#place}: ${problem}`);
  }
}

const OGGS = 0x4f67_6753;

/** The first bytes of the first packet, which tell the codec. */
export function oggCodec(bytes: Uint8Array): string {
  const start = HEADER_BYTES + (bytes[26] ?? 0);
  return Buffer.from(bytes.subarray(start, start + 8)).toString("latin1");
}

/** CRC-32 with the polynomial 0x04c11db7, most significant bit first; its own place counts as 0. */
function checkSum(bytes: Uint8Array, start: number, end: number): number {
  let crc = 0;
  for (let i = start; i < end; i++) {
    const at = i - start;
    const byte = at >= 22 && at < 26 ? 0 : bytes[i]!;
    crc = ((crc << 8) ^ CRC_TABLE[(crc >>> 24) ^ byte]!) >>> 0;
  }
  return crc;
}

const CRC_TABLE: Uint32Array = Uint32Array.from({ length: 256 }, (_, i) => {
  let crc = i << 24;
  for (let k = 0; k < 8; k++) crc = crc & 0x8000_0000 ? (crc << 1) ^ 0x04c1_1db7 : crc << 1;
  return crc >>> 0;
});
