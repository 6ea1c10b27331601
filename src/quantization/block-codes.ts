/**
 * GGML's block formats, taken apart. Every one of them is, per group of 16 or 32 elements,
 *
 *     value = scale · (code − zero) − min
 *
 * with small unsigned codes; the formats differ only in how codes, scales and minima are packed. A K-quant's
 * scale and min are themselves products of a float16 and a small integer, rounded once to float32.
 * Layouts: ggml-common.h of ggml; element orders checked against the Python package `gguf`.
 */

import type { CheckpointDtype } from "../checkpoints/checkpoint.ts";
import { halfTable } from "./half.ts";

/** Where `unpack` writes: codes from `codesAt` on, scales and minima (of affine formats) from 0 on. */
export interface UnpackTarget {
  codes: Uint8Array;
  codesAt: number;
  scales: Float32Array;
  mins: Float32Array;
}

/** How to take one block format apart. */
export interface BlockFormat {
  readonly blockElements: number;
  readonly blockBytes: number;
  /** Elements that share a scale. */
  readonly group: number;
  /** The code that stands for 0; 0 in affine formats. */
  readonly zero: number;
  /** The largest code. */
  readonly top: number;
  /** Whether groups have a minimum. */
  readonly affine: boolean;
  /** Takes `blocks` blocks at byte `start` apart, `bias` added to every code (modulo 256). */
  unpack(bytes: Uint8Array, start: number, blocks: number, bias: number, target: UnpackTarget): void;
}

/** A CheckpointDtype that is a block format. */
export type BlockDtype = Extract<CheckpointDtype, `Q${string}`>;

/** Scale and optional min as float16, optional fifth bits, then 16 bytes of nibbles: elements j and j + 16. */
function nibbles(affine: boolean, fifthBit: boolean): BlockFormat["unpack"] {
  const highAt = affine ? 4 : 2;
  const nibblesAt = highAt + (fifthBit ? 4 : 0);
  return (bytes, start, blocks, bias, { codes, codesAt, scales, mins }) => {
    const half = halfTable();
    for (let block = 0; block < blocks; block++) {
      const at = start + block * (nibblesAt + 16);
      scales[block] = half[bytes[at]! | (bytes[at + 1]! << 8)]!;
      if (affine) mins[block] = -half[bytes[at + 2]! | (bytes[at + 3]! << 8)]!;
      const to = codesAt + 32 * block;
      const from = at + nibblesAt;
      if (fifthBit) {
        let high = bytes[at + highAt]! | (bytes[at + highAt + 1]! << 8);
        high |= (bytes[at + highAt + 2]! << 16) | (bytes[at + highAt + 3]! << 24);
        for (let j = 0; j < 16; j++) {
          const pair = bytes[from + j]!;
          codes[to + j] = ((pair & 15) | ((high << 4) & 16)) + bias;
          codes[to + 16 + j] = ((pair >>> 4) | ((high >>> 12) & 16)) + bias;
          high >>>= 1;
        }
      } else {
        for (let j = 0; j < 16; j++) {
          const pair = bytes[from + j]!;
          codes[to + j] = (pair & 15) + bias;
          codes[to + 16 + j] = (pair >>> 4) + bias;
        }
      }
    }
  };
}

const unpackQ8: BlockFormat["unpack"] = (bytes, start, blocks, bias, { codes, codesAt, scales }) => {
  const half = halfTable();
  const shifted = bias + 128; // signed to unsigned codes
  for (let block = 0; block < blocks; block++) {
    const at = start + 34 * block;
    scales[block] = half[bytes[at]! | (bytes[at + 1]! << 8)]!;
    const to = codesAt + 32 * block;
    for (let j = 0; j < 32; j++) codes[to + j] = bytes[at + 2 + j]! + shifted;
  }
};

/** 16 bytes of (4-bit scale, 4-bit min), 64 bytes of 2-bit codes, then d and dmin. */
const unpackQ2K: BlockFormat["unpack"] = (bytes, start, blocks, bias, { codes, codesAt, scales, mins }) => {
  const half = halfTable();
  for (let block = 0; block < blocks; block++) {
    const at = start + 84 * block;
    const d = half[bytes[at + 80]! | (bytes[at + 81]! << 8)]!;
    const dmin = half[bytes[at + 82]! | (bytes[at + 83]! << 8)]!;
    for (let i = 0; i < 16; i++) {
      const packed = bytes[at + i]!;
      scales[16 * block + i] = d * (packed & 15);
      mins[16 * block + i] = dmin * (packed >>> 4);
    }
    for (let part = 0; part < 8; part++) {
      const from = at + 16 + 32 * (part >>> 2);
      const shift = 2 * (part & 3);
      const to = codesAt + 256 * block + 32 * part;
      for (let j = 0; j < 32; j++) codes[to + j] = ((bytes[from + j]! >>> shift) & 3) + bias;
    }
  }
};

/** 32 bytes of third bits, 64 bytes of lower 2 bits, 16 scales of 6 bits in 12 bytes, then d. */
const unpackQ3K: BlockFormat["unpack"] = (bytes, start, blocks, bias, { codes, codesAt, scales }) => {
  const half = halfTable();
  for (let block = 0; block < blocks; block++) {
    const at = start + 110 * block;
    const d = half[bytes[at + 108]! | (bytes[at + 109]! << 8)]!;
    for (let i = 0; i < 16; i++) {
      const low = (bytes[at + 96 + (i & 7)]! >>> (4 * (i >>> 3))) & 15;
      const high = (bytes[at + 104 + (i & 3)]! >>> (2 * (i >>> 2))) & 3;
      scales[16 * block + i] = d * ((low | (high << 4)) - 32);
    }
    for (let part = 0; part < 8; part++) {
      const from = at + 32 + 32 * (part >>> 2);
      const shift = 2 * (part & 3);
      const to = codesAt + 256 * block + 32 * part;
      for (let j = 0; j < 32; j++) {
        const third = ((bytes[at + j]! >>> part) & 1) << 2;
        codes[to + j] = (((bytes[from + j]! >>> shift) & 3) | third) + bias;
      }
    }
  }
};

/** d, dmin, 8 scales and 8 minima of 6 bits in 12 bytes, optional fifth bits, then 128 bytes of nibbles. */
function nibblesK(fifthBit: boolean): BlockFormat["unpack"] {
  const nibblesAt = fifthBit ? 48 : 16;
  return (bytes, start, blocks, bias, { codes, codesAt, scales, mins }) => {
    const half = halfTable();
    for (let block = 0; block < blocks; block++) {
      const at = start + block * (nibblesAt + 128);
      const d = half[bytes[at]! | (bytes[at + 1]! << 8)]!;
      const dmin = half[bytes[at + 2]! | (bytes[at + 3]! << 8)]!;
      for (let i = 0; i < 4; i++) {
        const a = bytes[at + 4 + i]!;
        const b = bytes[at + 8 + i]!;
        const c = bytes[at + 12 + i]!;
        scales[8 * block + i] = d * (a & 63);
        mins[8 * block + i] = dmin * (b & 63);
        scales[8 * block + 4 + i] = d * ((c & 15) | ((a >>> 2) & 48));
        mins[8 * block + 4 + i] = dmin * ((c >>> 4) | ((b >>> 2) & 48));
      }
      for (let part = 0; part < 4; part++) {
        const from = at + nibblesAt + 32 * part;
        const to = codesAt + 256 * block + 64 * part;
        for (let j = 0; j < 32; j++) {
          const pair = bytes[from + j]!;
          const high = fifthBit ? (bytes[at + 16 + j]! >>> (2 * part)) << 4 : 0;
          codes[to + j] = ((pair & 15) | (high & 16)) + bias;
          codes[to + 32 + j] = ((pair >>> 4) | ((high >>> 1) & 16)) + bias;
        }
      }
    }
  };
}

/** 128 bytes of lower nibbles, 64 bytes of upper 2 bits, 16 signed bytes of scales, then d. */
const unpackQ6K: BlockFormat["unpack"] = (bytes, start, blocks, bias, { codes, codesAt, scales }) => {
  const half = halfTable();
  for (let block = 0; block < blocks; block++) {
    const at = start + 210 * block;
    const d = half[bytes[at + 208]! | (bytes[at + 209]! << 8)]!;
    for (let i = 0; i < 16; i++) scales[16 * block + i] = d * ((bytes[at + 192 + i]! << 24) >> 24);
    for (let side = 0; side < 2; side++) {
      const low = at + 64 * side;
      const upper = at + 128 + 32 * side;
      const to = codesAt + 256 * block + 128 * side;
      for (let j = 0; j < 32; j++) {
        const a = bytes[low + j]!;
        const b = bytes[low + 32 + j]!;
        const high = bytes[upper + j]!;
        codes[to + j] = ((a & 15) | ((high << 4) & 48)) + bias;
        codes[to + 32 + j] = ((b & 15) | ((high << 2) & 48)) + bias;
        codes[to + 64 + j] = ((a >>> 4) | (high & 48)) + bias;
        codes[to + 96 + j] = ((b >>> 4) | ((high >>> 2) & 48)) + bias;
      }
    }
  }
};

/** Every block format by name. */
export const BLOCK_FORMATS: Readonly<Record<BlockDtype, BlockFormat>> = {
  Q4_0: format(32, 18, { group: 32, zero: 8, top: 15, unpack: nibbles(false, false) }),
  Q4_1: format(32, 20, { group: 32, affine: true, top: 15, unpack: nibbles(true, false) }),
  Q5_0: format(32, 22, { group: 32, zero: 16, top: 31, unpack: nibbles(false, true) }),
  Q5_1: format(32, 24, { group: 32, affine: true, top: 31, unpack: nibbles(true, true) }),
  Q8_0: format(32, 34, { group: 32, zero: 128, top: 255, unpack: unpackQ8 }),
  Q2_K: format(256, 84, { group: 16, affine: true, top: 3, unpack: unpackQ2K }),
  Q3_K: format(256, 110, { group: 16, zero: 4, top: 7, unpack: unpackQ3K }),
  Q4_K: format(256, 144, { group: 32, affine: true, top: 15, unpack: nibblesK(false) }),
  Q5_K: format(256, 176, { group: 32, affine: true, top: 31, unpack: nibblesK(true) }),
  Q6_K: format(256, 210, { group: 16, zero: 32, top: 63, unpack: unpackQ6K }),
};

/** The block format called `dtype`, or undefined where elements lie one by one. */
export function blockFormat(dtype: CheckpointDtype): BlockFormat | undefined {
  return (BLOCK_FORMATS as Partial<Record<CheckpointDtype, BlockFormat>>)[dtype];
}

function format(
  blockElements: number,
  blockBytes: number,
  rest: Pick<BlockFormat, "group" | "top" | "unpack"> & Partial<Pick<BlockFormat, "zero" | "affine">>,
): BlockFormat {
  return { blockElements, blockBytes, zero: 0, affine: false, ...rest };
}
