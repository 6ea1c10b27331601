import { Buffer } from "node:buffer";

/** A value as flax.serialization writes it. */
export type FlaxValue =
  | { readonly map: Readonly<Record<string, FlaxValue>> }
  | { readonly entries: readonly (readonly [string, FlaxValue])[] }
  | { readonly dtype: string; readonly shape: readonly number[]; readonly data: Uint8Array }
  /** Bytes of msgpack, as they are. */
  | { readonly raw: Uint8Array };

/** The bytes of a Flax checkpoint, good or bad. */
export function flaxBytes(value: FlaxValue): Buffer {
  if ("raw" in value) return Buffer.from(value.raw);
  if ("data" in value) {
    const { dtype, shape, data } = value;
    const sizes = shape.map((size) => unsigned(0xce, size, 4));
    const axes = Buffer.concat([Buffer.of(0x90 | shape.length), ...sizes]);
    return extension(
      1,
      Buffer.concat([Buffer.of(0x93), axes, text(dtype), unsigned(0xc6, data.length, 4), data]),
    );
  }
  const entries = "map" in value ? Object.entries(value.map) : value.entries;
  const members = entries.map(([key, member]) => Buffer.concat([text(key), flaxBytes(member)]));
  return Buffer.concat([unsigned(0xde, entries.length, 2), ...members]);
}

/** A large array as Flax cuts it, with chunks of `elements` elements. */
export function chunked(
  dtype: string,
  shape: readonly number[],
  data: Uint8Array,
  elements: number,
): FlaxValue {
  const width = data.length / shape.reduce((product, size) => product * size, 1);
  const chunks: FlaxValue[] = [];
  for (let at = 0; at < data.length; at += elements * width) {
    const part = data.subarray(at, at + elements * width);
    chunks.push({ dtype, shape: [part.length / width], data: part });
  }
  return {
    map: {
      __msgpack_chunked_array__: { raw: Buffer.of(0xc3) },
      shape: tuple(shape.map((size) => ({ raw: Buffer.of(size) }))),
      chunks: tuple(chunks),
    },
  };
}

export function extension(type: number, content: Uint8Array): Buffer {
  return Buffer.concat([unsigned(0xc9, content.length, 4), Buffer.of(type), content]);
}

function tuple(values: readonly FlaxValue[]): FlaxValue {
  return { entries: values.map((value, i) => [String(i), value] as const) };
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value);
  return Buffer.concat([unsigned(0xd9, bytes.length, 1), bytes]);
}

/** A type byte and a big-endian number. */
function unsigned(type: number, value: number, width: number): Buffer {
  const bytes = Buffer.alloc(1 + width);
  bytes[0] = type;
  bytes.writeUIntBE(value, 1, width);
  return bytes;
}
