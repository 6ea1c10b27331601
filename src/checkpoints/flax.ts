import type { Checkpoint, CheckpointDtype, TensorSlice } from "./checkpoint.ts";
import { tensorByteLength } from "./dtypes.ts";
import { openOneFile } from "./file-checkpoint.ts";
import { fromFlax } from "./flax-names.ts";
import { MsgpackReader, type MsgpackToken } from "./msgpack.ts";
import { type FoundFile, findFile, type OpenFiles, refuseLfsPointer } from "./open-files.ts";
import type { ShardFormat, ShardHeader } from "./shards.ts";
import { excerpt } from "./strict-json.ts";

/** Far above any model; they bound the heap that a hostile file can take. */
const MAX_DEPTH = 16;
const MAX_NAME = 1024;
const MAX_TENSORS = 65_536;
const MAX_CHUNKS = 4096;
const MAX_AXES = 16;

/** Extension types of flax.serialization. */
const NDARRAY = 1;
const NATIVE_COMPLEX = 2;
const NUMPY_SCALAR = 3;

/** The mark of an array over 2^30 bytes, which Flax writes as a map of its shape and of pieces in flat order. */
const CHUNKED = "__msgpack_chunked_array__";

const DTYPES: ReadonlyMap<string, CheckpointDtype> = new Map([
  ["float64", "F64"],
  ["float32", "F32"],
  ["float16", "F16"],
  ["bfloat16", "BF16"],
  ["int64", "I64"],
  ["int32", "I32"],
  ["int16", "I16"],
  ["int8", "I8"],
  ["uint8", "U8"],
  ["bool", "BOOL"],
]);

/** How shards of Flax are named and read. */
export const flaxShards: ShardFormat = {
  format: "flax",
  extension: ".msgpack",
  readHeader: readFlaxHeader,
};

/** Opens a checkpoint of one Flax file; its tensors get PyTorch's names. No tensor is read. */
export function openFlax(path: string): Promise<Checkpoint> {
  return openOneFile("flax", path, readFlaxHeader);
}

/**
 * Finds the arrays of a file written by flax.serialization.to_bytes: one msgpack map, nested as the model's modules
 * are, with arrays as its leaves. Leaves of other kinds (the step of an optimizer, say) are passed over.
 */
export async function readFlaxHeader(open: OpenFiles, path: string): Promise<ShardHeader> {
  const file = await findFile(path);
  refuseLfsPointer(await open.read(file.realPath, 0, Math.min(8, file.size)), path);
  const found = await new TreeReader(new MsgpackReader(open, file), file).read();
  const tensors = fromFlax(found.values(), path);
  return { file, tensors, metadata: new Map(), listed: new Set(found.keys()) };
}

/** An array of the file: where its bytes are. */
type Found = Pick<TensorSlice, "offset" | "length" | "dtype" | "shape" | "pieces">;

class TreeReader {
  readonly #reader: MsgpackReader;
  readonly #file: FoundFile;
  readonly #found = new Map<string, TensorSlice>();

  constructor(reader: MsgpackReader, file: FoundFile) {
    this.#reader = reader;
    this.#file = file;
  }

  /** The arrays by their place in the tree, `a/b/c`, as an index spells it. */
  async read(): Promise<ReadonlyMap<string, TensorSlice>> {
    const reader = this.#reader;
    const top = await reader.token();
    if (top.kind !== "map")
      return reader.fail(`is not a Flax checkpoint: it begins with ${top.kind}, expected map`);
    await this.#walk(top.count, []);
    reader.where = "end";
    if (reader.left > 0) reader.fail(`${reader.left} bytes after the parameters belong to none`);
    return this.#found;
  }

  async #walk(count: number, path: readonly string[]): Promise<void> {
    const reader = this.#reader;
    if (path.length >= MAX_DEPTH) reader.fail(`is nested deeper than ${MAX_DEPTH}`);
    const keys = new Set<string>();
    const place = path.length === 0 ? "header" : path.join(".");
    for (let i = 0; i < count; i++) {
      reader.where = place;
      const key = await reader.text(MAX_NAME);
      if (keys.has(key)) reader.fail(`the key ${excerpt(key)} occurs twice`);
      keys.add(key);
      if (key === CHUNKED) {
        if (i > 0) reader.fail(`${CHUNKED} must be the first key of its map`);
        return this.#add(path, await this.#chunked(count));
      }
      const name = [...path, key];
      reader.where = name.join(".");
      if (reader.where.length > MAX_NAME) reader.fail(`the name is longer than ${MAX_NAME} characters`);
      const value = await reader.token();
      if (value.kind === "map") await this.#walk(value.count, name);
      else await this.#leaf(value, name);
    }
  }

  async #leaf(value: MsgpackToken, path: readonly string[]): Promise<void> {
    const reader = this.#reader;
    if (value.kind === "array") reader.fail("is a list, expected a map of parameters or an array of numbers");
    if (value.kind === "string" || value.kind === "bytes") reader.skip(value.length);
    if (value.kind !== "extension") return;
    if (value.type === NDARRAY || value.type === NUMPY_SCALAR)
      this.#add(path, await this.#array(value.length));
    else if (value.type === NATIVE_COMPLEX) reader.skip(value.length);
    else reader.fail(`holds msgpack extension ${value.type}, which Flax does not write`);
  }

  #add(path: readonly string[], found: Found): void {
    const inFile = path.join("/");
    if (this.#found.has(inFile)) this.#reader.fail("duplicate name");
    if (this.#found.size >= MAX_TENSORS) this.#reader.fail(`the file holds more than ${MAX_TENSORS} arrays`);
    this.#found.set(inFile, { name: path.join("."), file: this.#file.realPath, ...found });
  }

  /** The content of an ndarray, itself msgpack: its shape, the name of its dtype, and its bytes, row-major. */
  async #array(length: number): Promise<Found> {
    const reader = this.#reader;
    const end = reader.position + length;
    const parts = await reader.token();
    if (parts.kind !== "array" || parts.count !== 3) reader.fail("an array must be shape, dtype and bytes");
    const axes = await reader.token();
    if (axes.kind !== "array" || axes.count > MAX_AXES)
      return reader.fail(`its shape is not an array of at most ${MAX_AXES} sizes`);
    const shape: number[] = [];
    for (let i = 0; i < axes.count; i++) shape.push(await this.#size());
    const dtypeName = await reader.text(MAX_NAME);
    const dtype = DTYPES.get(dtypeName);
    if (dtype === undefined) return reader.fail(`dtype ${excerpt(dtypeName)} can't be read`);
    const data = await reader.token();
    if (data.kind !== "bytes" && data.kind !== "string") return reader.fail("its bytes are missing");
    const offset = reader.position;
    if (offset + data.length !== end)
      reader.fail(`its bytes end at ${offset + data.length}, but the array ends at ${end}`);
    this.#checkLength(dtype, shape, data.length);
    reader.skip(data.length);
    return { offset, length: data.length, dtype, shape };
  }

  /** The rest of a map that stands for a large array, of which the first of `count` keys has been read. */
  async #chunked(count: number): Promise<Found> {
    const reader = this.#reader;
    if ((await reader.token()).kind !== "boolean") reader.fail(`${CHUNKED} is not true`);
    if (count !== 3) reader.fail(`a chunked array has ${count} keys, expected 3`);
    let shape: readonly number[] | undefined;
    let chunks: readonly Found[] | undefined;
    for (let i = 1; i < count; i++) {
      const key = await reader.text(MAX_NAME);
      if (key === "shape") shape = await this.#numbered(MAX_AXES, () => this.#size());
      else if (key === "chunks") chunks = await this.#numbered(MAX_CHUNKS, () => this.#chunk());
      else reader.fail(`a chunked array has the unknown key ${excerpt(key)}`);
    }
    const [first] = chunks ?? [];
    if (shape === undefined || chunks === undefined || first === undefined)
      return reader.fail("a chunked array must have a shape and chunks");
    if (chunks.some(({ dtype }) => dtype !== first.dtype)) reader.fail("its chunks are of several dtypes");
    const pieces = chunks.map(({ offset, length }) => ({ offset, length }));
    const length = pieces.reduce((sum, piece) => sum + piece.length, 0);
    this.#checkLength(first.dtype, shape, length);
    return { offset: first.offset, length, dtype: first.dtype, shape, pieces };
  }

  /** The values of a map with the keys "0", "1", and so on, which Flax writes for a tuple. */
  async #numbered<T>(most: number, read: () => Promise<T>): Promise<T[]> {
    const reader = this.#reader;
    const map = await reader.token();
    if (map.kind !== "map" || map.count > most)
      return reader.fail(`a chunked array's shape and chunks must be maps of at most ${most} entries`);
    const values: T[] = [];
    for (let i = 0; i < map.count; i++) {
      const key = await reader.text(MAX_NAME);
      if (key !== String(i)) reader.fail(`a chunked array has the key ${excerpt(key)}, expected "${i}"`);
      values.push(await read());
    }
    return values;
  }

  async #chunk(): Promise<Found> {
    const value = await this.#reader.token();
    if (value.kind === "extension" && value.type === NDARRAY) return this.#array(value.length);
    return this.#reader.fail("a chunk is not an array");
  }

  async #size(): Promise<number> {
    const token = await this.#reader.token();
    return token.kind === "number" ? token.value : this.#reader.fail(`its shape holds a ${token.kind}`);
  }

  #checkLength(dtype: CheckpointDtype, shape: readonly number[], length: number): void {
    const expected = tensorByteLength(dtype, shape);
    if ("problem" in expected) this.#reader.fail(expected.problem);
    else if (expected.length !== length)
      this.#reader.fail(
        `${dtype}[${shape.join(", ")}] takes ${expected.length} bytes, but there are ${length}`,
      );
  }
}
