import { Buffer } from "node:buffer";
import type { MetadataArray, MetadataValue } from "./checkpoint.ts";
import type { GgufCursor } from "./gguf-cursor.ts";
import { PackedStrings } from "./packed-strings.ts";

/** Value types of the GGUF specification, by their numbers. */
const BOOL = 7;
const STRING = 8;
const ARRAY = 9;

/** Arrays of arrays: no known file has them; the bounds keep a hostile one from filling the heap or the stack. */
const MAX_NESTING = 4;
const MAX_NESTED_ARRAYS = 65_536;

type NumberArray = Exclude<MetadataArray, PackedStrings | readonly MetadataArray[]>;

interface NumberType {
  readonly bytes: number;
  scalar(bytes: Buffer, at: number): number | bigint;
  array(count: number): NumberArray;
}

const numberTypes: ReadonlyMap<number, NumberType> = new Map<number, NumberType>([
  [0, { bytes: 1, scalar: (b, at) => b.readUInt8(at), array: (n) => new Uint8Array(n) }],
  [1, { bytes: 1, scalar: (b, at) => b.readInt8(at), array: (n) => new Int8Array(n) }],
  [2, { bytes: 2, scalar: (b, at) => b.readUInt16LE(at), array: (n) => new Uint16Array(n) }],
  [3, { bytes: 2, scalar: (b, at) => b.readInt16LE(at), array: (n) => new Int16Array(n) }],
  [4, { bytes: 4, scalar: (b, at) => b.readUInt32LE(at), array: (n) => new Uint32Array(n) }],
  [5, { bytes: 4, scalar: (b, at) => b.readInt32LE(at), array: (n) => new Int32Array(n) }],
  [6, { bytes: 4, scalar: (b, at) => b.readFloatLE(at), array: (n) => new Float32Array(n) }],
  [10, { bytes: 8, scalar: (b, at) => small(b.readBigUInt64LE(at)), array: (n) => new BigUint64Array(n) }],
  [11, { bytes: 8, scalar: (b, at) => small(b.readBigInt64LE(at)), array: (n) => new BigInt64Array(n) }],
  [12, { bytes: 8, scalar: (b, at) => b.readDoubleLE(at), array: (n) => new Float64Array(n) }],
]);

/** Reads one metadata value, its type first. */
export function readMetadataValue(cursor: GgufCursor): MetadataValue {
  const type = cursor.u32();
  const number = numberTypes.get(type);
  if (number !== undefined) return number.scalar(cursor.bytes, cursor.take(number.bytes));
  if (type === STRING) return cursor.text();
  if (type === BOOL) return readBool(cursor) === 1;
  if (type === ARRAY) return readArray(cursor, 1, { left: MAX_NESTED_ARRAYS });
  return cursor.fail(`unknown value type ${type}, expected 0 to 12`);
}

function readArray(cursor: GgufCursor, depth: number, nested: { left: number }): MetadataArray {
  const type = cursor.u32();
  const number = numberTypes.get(type);
  if (number !== undefined) return readNumbers(cursor, number);
  if (type === STRING) return readStrings(cursor);
  if (type === BOOL) return readBools(cursor);
  if (type !== ARRAY) return cursor.fail(`unknown element type ${type} of an array, expected 0 to 12`);
  const count = cursor.count(4 + 8);
  nested.left -= count;
  if (depth >= MAX_NESTING || nested.left < 0) {
    cursor.fail(`arrays are nested deeper than ${MAX_NESTING} or more than ${MAX_NESTED_ARRAYS} times`);
  }
  return Array.from({ length: count }, () => readArray(cursor, depth + 1, nested));
}

function readNumbers(cursor: GgufCursor, type: NumberType): NumberArray {
  const count = cursor.count(type.bytes);
  const start = cursor.take(count * type.bytes);
  const array = type.array(count);
  // The file's values are unaligned, so they are copied. All platforms of ours are little-endian, as the file is.
  new Uint8Array(array.buffer).set(cursor.bytes.subarray(start, cursor.position));
  return array;
}

/** Runs 262,144 times for Gemma's vocabulary, so its inner loops stay plain. */
function readStrings(cursor: GgufCursor): PackedStrings {
  const count = cursor.count(8);
  const ends = new Uint32Array(count);
  const first = cursor.position;
  let total = 0;
  for (let i = 0; i < count; i++) {
    const length = cursor.u64();
    cursor.take(length);
    total += length;
    ends[i] = total;
  }
  const packed = Buffer.alloc(total);
  let from = first;
  let to = 0;
  for (let i = 0; i < count; i++) {
    from += 8; // the length
    while (to < ends[i]!) packed[to++] = cursor.bytes[from++]!;
  }
  return new PackedStrings(packed, ends);
}

function readBools(cursor: GgufCursor): Uint8Array {
  const count = cursor.count(1);
  return Uint8Array.from({ length: count }, () => readBool(cursor));
}

function readBool(cursor: GgufCursor): number {
  const value = cursor.u8();
  if (value > 1) cursor.fail(`a boolean of ${value}, expected 0 or 1`);
  return value;
}

function small(value: bigint): number | bigint {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}
