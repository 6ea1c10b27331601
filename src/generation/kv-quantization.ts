/** Buffers of a cache: as the model computes keys and values, or in 8 bits with scales. */
export type CacheBuffer = Float32Array | Int8Array;

/** Values may become this much larger than those that the scales were taken from. */
const VALUE_ROOM = 1.5;
/** Rotated keys are normed by most models: they vary less. */
const KEY_ROOM = 1.25;
const LARGEST = 127;

/**
 * A scale for each element of a head's keys. Rotary embedding turns the pair of elements i and i + head_dim / 2 with the
 * position: the pair's length does not change, so both get the scale of the greatest length.
 */
export function keyScales(parts: readonly Float32Array[], head_dim: number): Float32Array {
  const half = head_dim / 2;
  const greatest = new Float32Array(head_dim);
  for (const keys of parts) {
    for (let start = 0; start < keys.length; start += head_dim) {
      for (let i = 0; i < half; i++) {
        const [first, second] = [keys[start + i]!, keys[start + half + i]!];
        const length = Math.sqrt(first * first + second * second);
        if (length > greatest[i]!) greatest[i] = greatest[half + i] = length;
      }
    }
  }
  return greatest.map((length) => scaleOf(length * KEY_ROOM));
}

/** A scale for each element of a head's values. */
export function valueScales(parts: readonly Float32Array[], head_dim: number): Float32Array {
  const greatest = new Float32Array(head_dim);
  for (const values of parts) {
    for (let i = 0; i < values.length; i++) {
      const size = Math.abs(values[i]!);
      if (size > greatest[i % head_dim]!) greatest[i % head_dim] = size;
    }
  }
  return greatest.map((size) => scaleOf(size * VALUE_ROOM));
}

/** How a buffer [rows, kv_heads, capacity, head_dim] is filled: `held` positions of each row. */
interface BufferLayout {
  readonly kv_heads: number;
  readonly head_dim: number;
  readonly capacity: number;
  readonly held: readonly number[];
}

/** A buffer in 8 bits, and its scales [kv_heads, head_dim]. */
export function quantizeBuffer(
  from: Float32Array,
  { kv_heads, head_dim, capacity, held }: BufferLayout,
  scalesOf: typeof keyScales,
): { buffer: Int8Array; scales: Float32Array } {
  const buffer = new Int8Array(from.length);
  const scales = new Float32Array(kv_heads * head_dim);
  for (let head = 0; head < kv_heads; head++) {
    const parts = held.map((count, row): [number, number] => {
      const start = (row * kv_heads + head) * capacity * head_dim;
      return [start, start + count * head_dim];
    });
    const found = scalesOf(
      parts.map((part) => from.subarray(...part)),
      head_dim,
    );
    scales.set(found, head * head_dim);
    for (const part of parts) encodeHead(from.subarray(...part), found, buffer.subarray(...part));
  }
  return { buffer, scales };
}

/** Elements that are always 0 (padding of heads) take any scale. */
function scaleOf(greatest: number): number {
  return greatest === 0 ? 1 : greatest / LARGEST;
}

/** Writes [positions, head_dim] of one head into a buffer. */
export function encodeHead(
  source: Float32Array,
  scales: Float32Array | undefined,
  target: CacheBuffer,
): void {
  if (scales === undefined) {
    target.set(source);
    return;
  }
  const width = scales.length;
  for (let i = 0; i < source.length; i++) {
    const code = Math.round(source[i]! / scales[i % width]!);
    target[i] = Math.min(LARGEST, Math.max(-LARGEST, code));
  }
}

/** Reads [positions, head_dim] of one head from a buffer. */
export function decodeHead(
  source: CacheBuffer,
  scales: Float32Array | undefined,
  target: Float32Array,
): void {
  if (scales === undefined) {
    target.set(source);
    return;
  }
  const width = scales.length;
  for (let i = 0; i < source.length; i++) target[i] = source[i]! * scales[i % width]!;
}
