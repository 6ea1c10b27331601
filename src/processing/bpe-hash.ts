/** The two open-addressing tables of a BPE vocabulary: tokens by their bytes, merges by their pair of ids. */

/** FNV-1a of bytes[from, to). */
export function byteHash(bytes: Uint8Array, from: number, to: number): number {
  let hash = FNV_START;
  for (let i = from; i < to; i++) hash = fnvStep(hash, bytes[i]!);
  return spread(hash);
}

/** FNV-1a's start value. */
export const FNV_START: number = 0x811c9dc5 | 0;

/** One byte more; `spread` makes the slot number of the result. */
export function fnvStep(hash: number, byte: number): number {
  return Math.imul(hash ^ byte, 0x01000193);
}

/** FNV's low bits depend on the last bytes only a little: fold the high ones in. */
export function spread(hash: number): number {
  return (hash ^ (hash >>> 15)) >>> 0;
}

/** Slot hash of a pair of token ids. */
export function pairHash(left: number, right: number): number {
  const hash = Math.imul(left, 0x9e3779b1) ^ Math.imul(right, 0x85ebca6b);
  return (hash ^ (hash >>> 15)) >>> 0;
}

/** Slots of a table of `count` entries: a power of two, at most half full. */
export function byteIndexSize(count: number): number {
  let size = 16;
  while (size < count * 2) size *= 2;
  return size;
}

interface ByteIndex {
  readonly tokenBytes: Uint8Array;
  readonly tokenOffsets: Uint32Array;
  readonly tokenSlots: Uint32Array;
}

/** Id of the token whose bytes are bytes[from, to), or -1. `hash` spares hashing them where it is known. */
export function findBytes(
  index: ByteIndex,
  bytes: Uint8Array,
  from: number,
  to: number,
  hash: number = byteHash(bytes, from, to),
): number {
  const { tokenBytes, tokenOffsets, tokenSlots } = index;
  const mask = tokenSlots.length - 1;
  const length = to - from;
  for (let slot = hash & mask; ; slot = (slot + 1) & mask) {
    const id = tokenSlots[slot]! - 1;
    if (id === -1) return -1;
    const start = tokenOffsets[id]!;
    if (tokenOffsets[id + 1]! - start !== length) continue;
    let i = 0;
    while (i < length && tokenBytes[start + i] === bytes[from + i]) i++;
    if (i === length) return id;
  }
}

/** Id of a token given as text, or -1. */
export function findText(index: ByteIndex, token: string): number {
  const bytes = new TextEncoder().encode(token);
  return bytes.length === 0 ? -1 : findBytes(index, bytes, 0, bytes.length);
}
