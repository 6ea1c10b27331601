import { readFile } from "node:fs/promises";

/**
 * A reader of its own, apart from src/checkpoints: what checks lapidary must not rest on the code it checks. It knows
 * the element types that the parity sets use and reads files whole, which for them is a few megabytes.
 */

/** A tensor of a parity set. Booleans are held as 0 and 1. */
export interface StoredTensor {
  readonly kind: "float" | "integer";
  readonly shape: readonly number[];
  readonly data: Float32Array | Int32Array | Uint8Array;
}

interface HeaderEntry {
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly data_offsets: readonly [number, number];
}

/** Reads all tensors of a safetensors file. */
export async function readStoredTensors(file: string): Promise<Map<string, StoredTensor>> {
  const bytes = await readFile(file);
  const headerLength = Number(bytes.readBigUInt64LE(0));
  const start = 8 + headerLength;
  if (start > bytes.length)
    throw new Error(`${file}: header of ${headerLength} bytes in ${bytes.length} bytes`);
  const header = JSON.parse(bytes.toString("utf8", 8, start)) as Record<string, HeaderEntry>;
  const tensors = new Map<string, StoredTensor>();
  for (const [name, entry] of Object.entries(header)) {
    if (name === "__metadata__") continue;
    const [from, to] = entry.data_offsets;
    // A copy, since the offset in the file need not be a multiple of the element size.
    const content = new Uint8Array(bytes.subarray(start + from, start + to)).buffer;
    tensors.set(name, decode(`${file}: ${name}`, entry, content));
  }
  return tensors;
}

function decode(place: string, entry: HeaderEntry, content: ArrayBuffer): StoredTensor {
  const tensor = ((): StoredTensor => {
    switch (entry.dtype) {
      case "F32":
        return { kind: "float", shape: entry.shape, data: new Float32Array(content) };
      case "I32":
        return { kind: "integer", shape: entry.shape, data: new Int32Array(content) };
      case "U8":
      case "BOOL":
        return { kind: "integer", shape: entry.shape, data: new Uint8Array(content) };
      default:
        throw new Error(`${place}: element type ${entry.dtype} does not belong in a parity set`);
    }
  })();
  const size = entry.shape.reduce((product, dim) => product * dim, 1);
  if (size !== tensor.data.length) {
    throw new Error(`${place}: ${tensor.data.length} elements for [${entry.shape.join(", ")}]`);
  }
  return tensor;
}
