/**
 * The scores of single rows of an 8-bit matrix, bit for bit as MatMulNBits' kernel computes them for one input
 * (block 32, accuracy_level 4, processors with AVX2 or AVX-VNNI). The order of its float32 sums was found by trial; it is
 * never trusted unseen: see ScreenedHead, which compares it with the engine's own numbers before it is used.
 */

export const BLOCK = 32;
/** Float32 numbers of a vector register, which the kernel sums up side by side. */
const LANES = 8;
const ZERO_POINT = 128;
/** Adding and subtracting 1.5 · 2^52 rounds a float64 to a whole number, halves to even ones. */
const ROUNDER = 1.5 * 2 ** 52;
const { fround } = Math;

/** An input as the kernel rounds it: 8 bits with a scale for each block. */
export interface RoundedInput {
  readonly codes: Int32Array;
  readonly scales: Float32Array;
  /** scale · Σ codes of each block. */
  readonly sums: Float32Array;
}

/** Memory for inputs of K elements, K a multiple of 32. */
export function allocateInput(K: number): RoundedInput {
  const blocks = K / BLOCK;
  return {
    codes: new Int32Array(K),
    scales: new Float32Array(blocks),
    sums: new Float32Array(blocks),
  };
}

/** Rounds `x` as the kernel does. */
export function roundInput(x: Float32Array, { codes, scales, sums }: RoundedInput): void {
  for (let block = 0; block < scales.length; block++) {
    const from = block * BLOCK;
    let largest = 0;
    for (let i = from; i < from + BLOCK; i++) largest = Math.max(largest, Math.abs(x[i]!));
    const inverse = largest === 0 ? 0 : fround(127 / largest);
    let sum = 0;
    for (let i = from; i < from + BLOCK; i++) {
      const code = fround(x[i]! * inverse) + ROUNDER - ROUNDER;
      codes[i] = code;
      sum += code;
    }
    scales[block] = largest / 127;
    sums[block] = scales[block]! * sum;
  }
}

/** What the rounded input stands for. */
export function inputValues({ codes, scales }: RoundedInput, out: Float64Array): void {
  for (let i = 0; i < codes.length; i++) out[i] = codes[i]! * scales[(i / BLOCK) | 0]!;
}

const lanes = new Float32Array(LANES);

/** Scores of `count` rows: codes [count, K] and scales [count, K / 32] as MatMulNBits has them. */
export function scoreRows(
  input: RoundedInput,
  codes: Uint8Array,
  scales: Float32Array,
  count: number,
  out: Float32Array,
): void {
  const blocks = input.scales.length;
  const pairs = blocks - (blocks % 2);
  for (let row = 0; row < count; row++) {
    lanes.fill(0);
    const first = row * blocks;
    for (let block = 0; block < pairs; block += 2) {
      const scale0 = fround(input.scales[block]! * scales[first + block]!);
      const scale1 = fround(input.scales[block + 1]! * scales[first + block + 1]!);
      addPair(input.codes, block * BLOCK, codes, (first + block) * BLOCK, scale0, scale1);
    }
    if (pairs < blocks) {
      const scale = fround(input.scales[pairs]! * scales[first + pairs]!);
      addSingle(input.codes, pairs * BLOCK, codes, (first + pairs) * BLOCK, scale);
    }
    let zero = 0;
    for (let block = 0; block < blocks; block++)
      zero = fround(input.sums[block]! * (-ZERO_POINT * scales[first + block]!) + zero);
    out[row] = fround(foldLanes(0) + foldLanes(4)) + zero;
  }
}

/** Two blocks at a time: of every four lanes two are the first block's, each a sum over 8 elements. */
function addPair(x: Int32Array, at: number, codes: Uint8Array, from: number, s0: number, s1: number): void {
  for (let part = 0; part < 4; part++) {
    const [i, k] = [at + 8 * part, from + 8 * part];
    const lane = part + (part & 2);
    lanes[lane] = dot8(x, i, codes, k) * s0 + lanes[lane]!;
    lanes[lane + 2] = dot8(x, i + BLOCK, codes, k + BLOCK) * s1 + lanes[lane + 2]!;
  }
}

/** The last block of an odd number: each lane a sum over 4 elements. */
function addSingle(x: Int32Array, at: number, codes: Uint8Array, from: number, scale: number): void {
  for (let lane = 0; lane < LANES; lane++) {
    let dot = 0;
    for (let i = 4 * lane; i < 4 * lane + 4; i++) dot += x[at + i]! * codes[from + i]!;
    lanes[lane] = dot * scale + lanes[lane]!;
  }
}

function dot8(x: Int32Array, i: number, codes: Uint8Array, k: number): number {
  return (
    (x[i]! * codes[k]! +
      x[i + 1]! * codes[k + 1]! +
      x[i + 2]! * codes[k + 2]! +
      x[i + 3]! * codes[k + 3]! +
      x[i + 4]! * codes[k + 4]! +
      x[i + 5]! * codes[k + 5]! +
      x[i + 6]! * codes[k + 6]! +
      x[i + 7]! * codes[k + 7]!) |
    0
  );
}

function foldLanes(at: number): number {
  return fround(fround(fround(lanes[at]! + lanes[at + 1]!) + lanes[at + 2]!) + lanes[at + 3]!);
}
