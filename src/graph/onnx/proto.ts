import { GraphError } from "../../errors.ts";

/** A writer of protocol buffers' wire format: just what ONNX models need. */
export class ProtoWriter {
  readonly #chunks: Uint8Array[] = [];
  #length = 0;

  /** int32, int64, bool and enum fields. */
  varint(field: number, value: number | bigint): this {
    return this.#push([encodeVarint(BigInt(field) << 3n), encodeVarint(BigInt.asUintN(64, BigInt(value)))]);
  }

  float(field: number, value: number): this {
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setFloat32(0, value, true);
    return this.#push([encodeVarint((BigInt(field) << 3n) | 5n), bytes]);
  }

  string(field: number, value: string): this {
    return this.bytes(field, utf8.encode(value));
  }

  /** A field as it was read. */
  raw({ field, wire, bytes }: ProtoField): this {
    if (wire === 2) return this.bytes(field, bytes);
    return this.#push([encodeVarint((BigInt(field) << 3n) | BigInt(wire)), bytes]);
  }

  bytes(field: number, value: Uint8Array): this {
    return this.#push([encodeVarint((BigInt(field) << 3n) | 2n), encodeVarint(BigInt(value.length)), value]);
  }

  message(field: number, value: ProtoWriter): this {
    this.#push([encodeVarint((BigInt(field) << 3n) | 2n), encodeVarint(BigInt(value.#length))]);
    return this.#push(value.#chunks);
  }

  finish(): Uint8Array {
    const result = new Uint8Array(this.#length);
    let offset = 0;
    for (const chunk of this.#chunks) {
      result.set(chunk, offset);
      offset += chunk.length;
    }
    return result;
  }

  /** A list, not arguments: a graph has more chunks than a call may have arguments. */
  #push(chunks: readonly Uint8Array[]): this {
    for (const chunk of chunks) {
      this.#chunks.push(chunk);
      this.#length += chunk.length;
    }
    return this;
  }
}

const utf8 = new TextEncoder();

function encodeVarint(value: bigint): Uint8Array {
  const bytes: number[] = [];
  let rest = value;
  do {
    const low = Number(rest & 0x7fn);
    rest >>= 7n;
    bytes.push(rest === 0n ? low : low | 0x80);
  } while (rest !== 0n);
  return Uint8Array.from(bytes);
}

/** One field of a message: its number, its wire type, and its bytes: a varint's, a fixed number's, or a payload's. */
export interface ProtoField {
  readonly field: number;
  readonly wire: number;
  readonly bytes: Uint8Array;
}

const FIXED_LENGTHS: Readonly<Record<number, number>> = { 1: 8, 5: 4 };

/** The fields of a message in order. Throws a GraphError where the bytes are no message. */
export function* readFields(message: Uint8Array): Generator<ProtoField> {
  let at = 0;
  const varint = (): number => {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = message[at++];
      if (byte === undefined || scale > 2 ** 49)
        throw new GraphError("not a valid protocol buffer: a number runs over its end");
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value;
    }
  };
  while (at < message.length) {
    const key = varint();
    const [field, wire] = [Math.floor(key / 8), key % 8];
    if (wire === 0) {
      const start = at;
      while ((message[at++] ?? 0) >= 0x80);
      yield { field, wire, bytes: message.subarray(start, at) };
      continue;
    }
    const length = wire === 2 ? varint() : FIXED_LENGTHS[wire];
    if (length === undefined || at + length > message.length)
      throw new GraphError(`not a valid protocol buffer: field ${field} runs over its end`);
    yield { field, wire, bytes: message.subarray(at, at + length) };
    at += length;
  }
}

/** The numbers of a repeated field: one of them, or all packed together. */
export function readVarints(bytes: Uint8Array): number[] {
  const values: number[] = [];
  let [value, scale] = [0, 1];
  for (const byte of bytes) {
    value += (byte & 0x7f) * scale;
    scale *= 128;
    if (byte >= 0x80) continue;
    values.push(value);
    [value, scale] = [0, 1];
  }
  return values;
}
