import { Buffer } from "node:buffer";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll } from "vitest";

/** A folder of its own for one test file, removed after its tests. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "lapidary-"));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** The bytes of a safetensors file with any header, good or bad. */
export function safetensorsBytes(header: unknown, data: Uint8Array = new Uint8Array()): Buffer {
  const json = Buffer.from(typeof header === "string" ? header : JSON.stringify(header));
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(BigInt(json.length));
  return Buffer.concat([prefix, json, data]);
}

export function write(path: string, bytes: Uint8Array | string): string {
  writeFileSync(path, bytes);
  return path;
}

/** GGUF's value types; an array is given as its element type and its elements. */
export type GgufValue =
  | { u8: number }
  | { i8: number }
  | { u16: number }
  | { i16: number }
  | { u32: number }
  | { i32: number }
  | { f32: number }
  | { bool: number }
  | { string: string | Buffer }
  | { array: readonly GgufValue[]; of?: number }
  | { u64: bigint }
  | { i64: bigint }
  | { f64: number };

export interface GgufTensor {
  readonly name: string;
  /** GGML's order: innermost axis first. */
  readonly axes: readonly (number | bigint)[];
  readonly type: number;
  readonly data?: Uint8Array;
  /** Instead of the next free place. */
  readonly offset?: number;
}

export interface GgufContent {
  readonly metadata?: readonly (readonly [string, GgufValue])[];
  readonly tensors?: readonly GgufTensor[];
  readonly version?: number;
  readonly alignment?: number;
  readonly tensorCount?: bigint;
  readonly entryCount?: bigint;
}

/** The bytes of a GGUF file, good or bad. */
export function ggufBytes(content: GgufContent): Buffer {
  const { metadata = [], tensors = [], version = 3, alignment = 32 } = content;
  const parts: Buffer[] = [Buffer.from("GGUF"), u32(version)];
  parts.push(u64(content.tensorCount ?? BigInt(tensors.length)));
  parts.push(u64(content.entryCount ?? BigInt(metadata.length)));
  for (const [key, value] of metadata) parts.push(text(key), u32(typeOf(value)), valueBytes(value));
  const data: Buffer[] = [];
  let end = 0;
  for (const tensor of tensors) {
    const bytes = Buffer.from(tensor.data ?? []);
    parts.push(text(tensor.name), u32(tensor.axes.length), ...tensor.axes.map((n) => u64(BigInt(n))));
    parts.push(u32(tensor.type), u64(BigInt(tensor.offset ?? end)));
    const padding = Buffer.alloc((alignment - (bytes.length % alignment)) % alignment);
    data.push(bytes, padding);
    end += bytes.length + padding.length;
  }
  const header = Buffer.concat(parts);
  const gap = Buffer.alloc((alignment - (header.length % alignment)) % alignment);
  return Buffer.concat([header, gap, ...data]);
}

const typeNumbers: Readonly<Record<string, number>> = {
  u8: 0,
  i8: 1,
  u16: 2,
  i16: 3,
  u32: 4,
  i32: 5,
  f32: 6,
  bool: 7,
  string: 8,
  array: 9,
  u64: 10,
  i64: 11,
  f64: 12,
};

function typeOf(value: GgufValue): number {
  return Object.keys(value)
    .map((key) => typeNumbers[key])
    .find((n) => n !== undefined)!;
}

function valueBytes(value: GgufValue): Buffer {
  const bytes = Buffer.alloc(8);
  if ("string" in value) return text(value.string);
  if ("array" in value) {
    const type = value.of ?? (value.array[0] === undefined ? 4 : typeOf(value.array[0]));
    return Buffer.concat([u32(type), u64(BigInt(value.array.length)), ...value.array.map(valueBytes)]);
  }
  if ("u8" in value) return bytes.subarray(0, bytes.writeUInt8(value.u8));
  if ("bool" in value) return bytes.subarray(0, bytes.writeUInt8(value.bool));
  if ("i8" in value) return bytes.subarray(0, bytes.writeInt8(value.i8));
  if ("u16" in value) return bytes.subarray(0, bytes.writeUInt16LE(value.u16));
  if ("i16" in value) return bytes.subarray(0, bytes.writeInt16LE(value.i16));
  if ("u32" in value) return u32(value.u32);
  if ("i32" in value) return bytes.subarray(0, bytes.writeInt32LE(value.i32));
  if ("f32" in value) return bytes.subarray(0, bytes.writeFloatLE(value.f32));
  if ("u64" in value) return u64(value.u64);
  if ("i64" in value) return bytes.subarray(0, bytes.writeBigInt64LE(value.i64));
  return bytes.subarray(0, bytes.writeDoubleLE(value.f64));
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

function u64(value: bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(value);
  return bytes;
}

function text(value: string | Buffer): Buffer {
  const bytes = Buffer.from(value);
  return Buffer.concat([u64(BigInt(bytes.length)), bytes]);
}
