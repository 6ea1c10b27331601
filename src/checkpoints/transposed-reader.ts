import { Buffer } from "node:buffer";
import { BLOCK_GEOMETRY } from "../quantization/gguf-blocks.ts";
import type { TensorSlice } from "./checkpoint.ts";

/** Rows of a tensor that are kept; a matrix of the 7B in float32 takes two of these. */
const STRIPE_BYTES = 1 << 28;
/** Of the file, read at a time. */
const SCAN_BYTES = 1 << 23;

/** Bytes of a slice in the order of its file. */
type ReadStored = (slice: TensorSlice, start: number, end: number) => Promise<Buffer>;

/** Consecutive rows of a tensor, the right way round. */
interface Stripe {
  readonly slice: TensorSlice;
  readonly start: number;
  readonly bytes: Buffer;
}

/**
 * Reads matrices of which the file holds the transpose. A row is spread over the whole tensor, so that many are
 * collected in one pass and kept for the reads that follow, which mostly go on where the last one ended. The file is
 * read in order, as often as the tensor has stripes.
 */
export class TransposedReader {
  readonly #readStored: ReadStored;
  readonly #stripeBytes: number;
  #stripe: Stripe | undefined;

  constructor(readStored: ReadStored, stripeBytes: number = STRIPE_BYTES) {
    this.#readStored = readStored;
    this.#stripeBytes = stripeBytes;
  }

  /** The bytes `start` up to `end` of a [rows, columns] matrix, which the file has as [columns, rows]. */
  async read(slice: TensorSlice, start: number, end: number): Promise<Buffer> {
    const kept = this.#stripe;
    const covers = (stripe: Stripe): boolean =>
      stripe.slice === slice && start >= stripe.start && end <= stripe.start + stripe.bytes.length;
    const stripe = kept !== undefined && covers(kept) ? kept : await this.#collect(slice, start, end);
    // Whoever reads a tensor to its end is done with it.
    this.#stripe = end === slice.length ? undefined : stripe;
    const from = start - stripe.start;
    if (this.#stripe === undefined && end - start === stripe.bytes.length) return stripe.bytes;
    const bytes = Buffer.allocUnsafeSlow(end - start);
    stripe.bytes.copy(bytes, 0, from, from + bytes.length);
    return bytes;
  }

  clear(): void {
    this.#stripe = undefined;
  }

  async #collect(slice: TensorSlice, start: number, end: number): Promise<Stripe> {
    this.#stripe = undefined;
    const [rows, columns] = slice.shape as [number, number];
    const width = BLOCK_GEOMETRY[slice.dtype].blockBytes;
    const rowBytes = columns * width;
    if (slice.length === 0) return { slice, start, bytes: Buffer.alloc(0) };
    const first = Math.floor(start / rowBytes);
    const wanted = Math.ceil(end / rowBytes) - first;
    const count = Math.min(rows - first, Math.max(wanted, Math.floor(this.#stripeBytes / rowBytes)));
    const bytes = Buffer.allocUnsafeSlow(count * rowBytes);
    const target: Target = { elements: elementsOf(bytes, width), rows, columns, first, count };
    const step = Math.max(1, Math.floor(SCAN_BYTES / (rows * width)));
    for (let column = 0; column < columns; column += step) {
      const next = Math.min(columns, column + step);
      const part = await this.#readStored(slice, column * rows * width, next * rows * width);
      scatter(elementsOf(part, width), column, next, target);
    }
    return { slice, start: first * rowBytes, bytes };
  }
}

type Elements = Uint8Array | Uint16Array | Uint32Array | BigUint64Array;

/** Bits are moved, whatever they mean. The bytes have a buffer of their own. */
function elementsOf({ buffer, byteOffset, byteLength }: Buffer, width: number): Elements {
  if (width === 8) return new BigUint64Array(buffer, byteOffset, byteLength / 8);
  if (width === 4) return new Uint32Array(buffer, byteOffset, byteLength / 4);
  return width === 2
    ? new Uint16Array(buffer, byteOffset, byteLength / 2)
    : new Uint8Array(buffer, byteOffset, byteLength);
}

/** Where `count` rows from the row `first` of a [rows, columns] matrix are put together. */
interface Target {
  readonly elements: Elements;
  readonly rows: number;
  readonly columns: number;
  readonly first: number;
  readonly count: number;
}

/** Puts the columns `column` up to `next`, each of which is in one piece in `from`, into the rows of `target`. */
function scatter(from: Elements, column: number, next: number, target: Target): void {
  const { elements, rows, columns, first, count } = target;
  for (let row = 0; row < count; row++) {
    const end = row * columns + next;
    let source = first + row;
    for (let at = row * columns + column; at < end; at++, source += rows) elements[at] = from[source]!;
  }
}
