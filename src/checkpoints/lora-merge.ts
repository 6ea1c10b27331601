/** A checkpoint with an adapter merged into it: the sums are computed while a tensor is read, a run of rows at a time. */
import { Buffer } from "node:buffer";
import { setImmediate } from "node:timers/promises";
import { byteLength, dequantize } from "../quantization/gguf-blocks.ts";
import { readEncoded } from "./bitsandbytes.ts";
import type { Checkpoint, MetadataValue, TensorSlice } from "./checkpoint.ts";
import { type LoraAdapter, type LoraLayer, readFloat32 } from "./lora.ts";

/** The matrices of one layer, for as long as its rows are read. */
interface Factors {
  readonly layer: LoraLayer;
  /** Row-major [rank, row length], so that a row of the sum adds up rows of this. */
  readonly rows: Float32Array;
  /** Row-major [rows, rank], scale included. */
  readonly weights: Float32Array;
  readonly magnitude: Float32Array | undefined;
}

/** Raise it when the arithmetic changes. */
const VERSION = 1;
/** Products between two turns of the event loop: some ten milliseconds. */
const TURN_PRODUCTS = 1 << 23;

/** `base` with every weight that `adapter` changes computed on the way. Closing it closes the base alone. */
export function mergeLora(base: Checkpoint, adapter: LoraAdapter): Checkpoint {
  return new MergedCheckpoint(base, adapter);
}

class MergedCheckpoint implements Checkpoint {
  readonly format: Checkpoint["format"];
  readonly files: readonly string[];
  readonly tensors: ReadonlyMap<string, TensorSlice>;
  readonly metadata: ReadonlyMap<string, MetadataValue>;
  readonly #base: Checkpoint;
  readonly #adapter: LoraAdapter;
  readonly #layers: ReadonlyMap<string, LoraLayer>;
  #factors: Factors | undefined;

  constructor(base: Checkpoint, adapter: LoraAdapter) {
    this.#base = base;
    this.#adapter = adapter;
    this.#layers = new Map([...adapter.layers.values()].map((layer) => [layer.key, layer]));
    this.format = base.format;
    this.files = [...base.files, ...adapter.checkpoint.files];
    this.metadata = base.metadata;
    const tensors = new Map(base.tensors);
    for (const [key, slice] of adapter.saved) tensors.set(key, { ...slice, name: key });
    for (const layer of this.#layers.values()) {
      const slice = tensors.get(layer.key);
      if (slice !== undefined) tensors.set(layer.key, computedSlice(slice, layer));
    }
    this.tensors = tensors;
  }

  async read(slice: TensorSlice, start = 0, end: number = slice.length): Promise<Buffer> {
    const layer = slice.computed === undefined ? undefined : this.#layers.get(slice.name);
    const origin = this.#adapter.saved.get(slice.name) ?? this.#base.tensors.get(slice.name);
    if (layer === undefined || origin === undefined) return this.#source(slice).read(slice, start, end);
    const width = slice.shape[1]!;
    const [first, last] = [Math.floor(start / 4 / width), Math.ceil(end / 4 / width)];
    const values = await this.#readRows(origin, first, last);
    const factors = await this.#factorsOf(layer);
    const rows = Math.max(1, Math.floor(TURN_PRODUCTS / (width * layer.rank)));
    for (let row = first; row < last; row += rows) {
      const part = values.subarray((row - first) * width, (row - first + rows) * width);
      addRows(part, width, row, factors);
      await setImmediate();
    }
    return Buffer.from(values.buffer, values.byteOffset + start - 4 * first * width, end - start);
  }

  /** Rows first..last-1 of a weight as it was, in float32. */
  async #readRows(origin: TensorSlice, first: number, last: number): Promise<Float32Array> {
    const width = origin.shape[1]!;
    const source = this.#source(origin);
    if (origin.encoding !== undefined)
      return readEncoded(source, origin, origin.encoding, first * width, last * width);
    const rowBytes = byteLength(origin.dtype, width);
    const values = new Float32Array((last - first) * width);
    dequantize(origin.dtype, await source.read(origin, first * rowBytes, last * rowBytes), values);
    return values;
  }

  close(): Promise<void> {
    return this.#base.close();
  }

  #source(slice: TensorSlice): Checkpoint {
    return this.#adapter.checkpoint.files.includes(slice.file) ? this.#adapter.checkpoint : this.#base;
  }

  /** Packing reads one tensor after the other, so that the factors of one are kept. */
  async #factorsOf(layer: LoraLayer): Promise<Factors> {
    if (this.#factors?.layer !== layer) this.#factors = await readFactors(this.#adapter.checkpoint, layer);
    return this.#factors;
  }
}

function computedSlice(slice: TensorSlice, layer: LoraLayer): TensorSlice {
  const { A, B, magnitude, rank, scale } = layer;
  const places = [A, B, magnitude].map((part) => part && [part.offset, part.dtype]);
  const { encoding, ...plain } = slice;
  return {
    ...plain,
    dtype: "F32",
    length: slice.shape.reduce((product, dim) => product * dim, 4),
    computed: {
      from: encoding === undefined ? slice.dtype : "F32",
      identity: JSON.stringify(["lora", VERSION, rank, scale, places]),
    },
  };
}

async function readFactors(checkpoint: Checkpoint, layer: LoraLayer): Promise<Factors> {
  const A = await readFloat32(checkpoint, layer.A);
  const B = await readFloat32(checkpoint, layer.B);
  const { magnitude, rank, scale } = layer;
  const weights = layer.table ? transpose(A, rank) : B;
  return {
    layer,
    rows: layer.table ? transpose(B, B.length / rank) : A,
    weights: weights.map((value) => value * scale),
    magnitude: magnitude && (await readFloat32(checkpoint, magnitude)),
  };
}

/** [rows, columns] → [columns, rows]. */
export function transpose(values: Float32Array, rows: number): Float32Array {
  const columns = values.length / rows;
  const result = new Float32Array(values.length);
  for (let row = 0; row < rows; row++)
    for (let column = 0; column < columns; column++)
      result[column * rows + row] = values[row * columns + column]!;
  return result;
}

/** Adds the low-rank product to rows of a weight, `first` of which is the first. */
function addRows(values: Float32Array, width: number, first: number, factors: Factors): void {
  const { layer, magnitude } = factors;
  const delta = new Float64Array(width);
  for (let at = 0, row = first; at < values.length; at += width, row++) {
    delta.fill(0);
    for (let k = 0; k < layer.rank; k += 4) addFour(delta, factors, row, k);
    let squares = 0;
    for (let i = 0; i < width; i++) {
      const sum = values[at + i]! + delta[i]!;
      values[at + i] = sum;
      squares += sum * sum;
    }
    if (magnitude === undefined) continue;
    const factor = magnitude[row]! / Math.sqrt(squares);
    for (let i = 0; i < width; i++) values[at + i] = values[at + i]! * factor;
  }
}

/** Adds four of the products (or the last few) of one row at a time: the sums are loaded and stored a quarter as often. */
function addFour(delta: Float64Array, { layer, rows, weights }: Factors, row: number, k: number): void {
  const width = delta.length;
  const at = (i: number): number => Math.min(k + i, layer.rank - 1);
  const weight = (i: number): number => (k + i < layer.rank ? weights[row * layer.rank + k + i]! : 0);
  const [w0, w1, w2, w3] = [weight(0), weight(1), weight(2), weight(3)];
  const [a, b, c, d] = [at(0) * width, at(1) * width, at(2) * width, at(3) * width];
  for (let i = 0; i < width; i++) {
    delta[i] = delta[i]! + w0 * rows[a + i]! + w1 * rows[b + i]! + (w2 * rows[c + i]! + w3 * rows[d + i]!);
  }
}
