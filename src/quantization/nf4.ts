/**
 * bitsandbytes' 4-bit formats, NF4 and FP4, bit for bit as its CPU code makes them:
 *
 *     data    uint8   [ceil(elements / 2)]            two codes a byte, the first in the high nibble
 *     absmax  float32 [ceil(elements / block_size)]   largest magnitude of a block
 *     value = VALUES[code] · absmax
 *
 * Blocks run over the flattened row-major matrix. "Double quantisation" stores absmax in 8 bits as well.
 */
import { CheckpointError } from "../errors.ts";

export type Bnb4Type = "nf4" | "fp4";

/** What the codes stand for, in fractions of absmax: bitsandbytes.functional.get_4bit_type. */
export const BNB4_VALUES: Readonly<Record<Bnb4Type, Float32Array>> = {
  // Quantiles of the normal distribution ("QLoRA: Efficient Finetuning of Quantized LLMs", 2023).
  nf4: Float32Array.of(
    -1.0,
    -0.6961928009986877,
    -0.5250730514526367,
    -0.39491748809814453,
    -0.28444138169288635,
    -0.18477343022823334,
    -0.09105003625154495,
    0.0,
    0.07958029955625534,
    0.16093020141124725,
    0.24611230194568634,
    0.33791524171829224,
    0.44070982933044434,
    0.5626170039176941,
    0.7229568362236023,
    1.0,
  ),
  // A sign, two exponent bits and one of fraction.
  fp4: Float32Array.from(
    [0, 0.0625, 8, 12, 4, 6, 2, 3, -0, -0.0625, -8, -12, -4, -6, -2, -3],
    (value) => value / 12,
  ),
};

/** Blocks of absmax in double quantisation. */
export const NESTED_BLOCK = 256;

/** Elements of a block are scaled by 1 / absmax, which stays finite for blocks of zeros. */
const SMALLEST_ABSMAX = Math.fround(1e-38);

/** Codes in the order of their values, and the float32 midpoints between neighbours. */
interface CodeSearch {
  readonly order: Uint8Array;
  readonly bounds: Float32Array;
}

const SEARCH: Readonly<Record<Bnb4Type, CodeSearch>> = {
  nf4: codeSearch(BNB4_VALUES.nf4),
  fp4: codeSearch(BNB4_VALUES.fp4),
};

function codeSearch(values: Float32Array): CodeSearch {
  const order = Uint8Array.from([...values.keys()].sort((a, b) => values[a]! - values[b]!));
  const bounds = Float32Array.from(
    { length: 15 },
    (_, i) => Math.fround(values[order[i]!]! + values[order[i + 1]!]!) / 2,
  );
  return { order, bounds };
}

/** Quantises `values`, whose first element begins a block; only the last block may be short. */
export function quantizeBnb4(
  values: Float32Array,
  type: Bnb4Type,
  block_size: number,
  data: Uint8Array,
  absmax: Float32Array,
): void {
  requireLength("data", data.length, Math.ceil(values.length / 2));
  requireLength("absmax", absmax.length, Math.ceil(values.length / block_size));
  const { order, bounds } = SEARCH[type];
  const scaled = new Float32Array(block_size + 1);
  for (let block = 0; block < absmax.length; block++) {
    const from = block * block_size;
    const count = Math.min(block_size, values.length - from);
    absmax[block] = scaleBlock(values, from, count, block_size, scaled);
    // An odd number of elements is filled up with the code of 0.
    scaled[count] = 0;
    for (let i = 0; i < count; i += 2) {
      const first = order[rank(scaled[i]!, bounds)]!;
      data[(from + i) >> 1] = (first << 4) | order[rank(scaled[i + 1]!, bounds)]!;
    }
  }
}

/** Writes a block divided by its largest magnitude to `scaled`, and returns that. */
function scaleBlock(
  values: Float32Array,
  from: number,
  count: number,
  block_size: number,
  scaled: Float32Array,
): number {
  let largest = 0;
  for (let i = 0; i < count; i++) largest = Math.max(largest, Math.abs(values[from + i]!));
  if (!(largest < Number.POSITIVE_INFINITY))
    throw new CheckpointError(
      `a block of weights from element ${from} on holds ${largest}: cannot be quantised`,
    );
  const divisor = Math.max(largest, SMALLEST_ABSMAX);
  if (count < block_size) {
    // bitsandbytes divides a short last block and multiplies the others by the reciprocal, which rounds otherwise.
    for (let i = 0; i < count; i++) scaled[i] = values[from + i]! / divisor;
    return divisor;
  }
  const inverse = Math.fround(1 / divisor);
  for (let i = 0; i < count; i++) scaled[i] = values[from + i]! * inverse;
  return largest;
}

/** How many of the 15 bounds lie below `value`. */
function rank(value: number, bounds: Float32Array): number {
  let below = value > bounds[7]! ? 8 : 0;
  if (value > bounds[below + 3]!) below += 4;
  if (value > bounds[below + 1]!) below += 2;
  return value > bounds[below]! ? below + 1 : below;
}

/**
 * Writes the float32 values of codes to `out`; `data` begins with the byte of its first element and `absmax` with the
 * first block, at whose border the elements begin.
 */
export function dequantizeBnb4(
  data: Uint8Array,
  absmax: Float32Array,
  type: Bnb4Type,
  block_size: number,
  out: Float32Array,
): void {
  requireLength("data", data.length, Math.ceil(out.length / 2));
  requireLength("absmax", absmax.length, Math.ceil(out.length / block_size));
  const values = BNB4_VALUES[type];
  for (let block = 0; block < absmax.length; block++) {
    const scale = absmax[block]!;
    const end = Math.min(out.length, (block + 1) * block_size);
    for (let i = block * block_size; i < end; i++) {
      const byte = data[i >> 1]!;
      out[i] = values[(i & 1) === 0 ? byte >> 4 : byte & 15]! * scale;
    }
  }
}

/** absmax in 8 bits: value = map[code] · absmax[block of 256] + offset. */
export interface NestedAbsmax {
  readonly codes: Uint8Array;
  readonly absmax: Float32Array;
  /** The mean of what was quantised. */
  readonly offset: number;
}

/** Quantises the absmax values of one matrix. */
export function nestAbsmax(values: Float32Array): NestedAbsmax {
  let sum = 0;
  for (const value of values) sum += value;
  const offset = Math.fround(sum / Math.max(1, values.length));
  const codes = new Uint8Array(values.length);
  const absmax = new Float32Array(Math.ceil(values.length / NESTED_BLOCK));
  const lookup = dynamicLookup();
  for (let block = 0; block < absmax.length; block++) {
    const from = block * NESTED_BLOCK;
    const end = Math.min(values.length, from + NESTED_BLOCK);
    let largest = 0;
    for (let i = from; i < end; i++) largest = Math.max(largest, Math.abs(Math.fround(values[i]! - offset)));
    absmax[block] = largest;
    if (largest === 0) continue;
    const inverse = Math.fround(1 / largest);
    for (let i = from; i < end; i++) codes[i] = lookup[place(Math.fround(values[i]! - offset) * inverse)]!;
  }
  return { codes, absmax, offset };
}

/** Index among 65,536 equal steps from -1 to 1, rounded in float32 where the library rounds. */
function place(value: number): number {
  const clamped = Math.min(1, Math.max(-1, Math.fround(value)));
  return Math.trunc(Math.fround(Math.fround(Math.fround(clamped + 1) * 32767.5) + 0.5));
}

/** The float32 values of nested absmax. `map` is the checkpoint's, or the one that bitsandbytes uses. */
export function unnestAbsmax(
  { codes, absmax, offset }: NestedAbsmax,
  map: Float32Array = dynamicMap(),
  block_size: number = NESTED_BLOCK,
): Float32Array {
  requireLength("nested absmax", absmax.length, Math.ceil(codes.length / block_size));
  const values = new Float32Array(codes.length);
  for (let i = 0; i < codes.length; i++) {
    values[i] = Math.fround(map[codes[i]!]! * absmax[Math.floor(i / block_size)]!) + offset;
  }
  return values;
}

let map: Float32Array | undefined;
let lookupTable: Uint8Array | undefined;

/**
 * The 256 values of "dynamic" 8-bit codes, ascending: seven decades, each with twice the steps of the one below
 * ("8-Bit Approximations for Parallelism in Deep Learning", 2015; bitsandbytes' create_dynamic_map).
 */
export function dynamicMap(): Float32Array {
  if (map !== undefined) return map;
  const values = [0, 1];
  for (let decade = 0; decade < 7; decade++) {
    const steps = 2 ** decade;
    const border = (i: number): number => linspace(0.1, 1, steps + 1, i);
    for (let i = 0; i < steps; i++) {
      const mean = Math.fround(Math.fround(border(i) + border(i + 1)) / 2);
      const value = Math.fround(Math.fround(10 ** (decade - 6)) * mean);
      values.push(value, -value);
    }
  }
  map = Float32Array.from(values).sort();
  return map;
}

/** Element i of torch.linspace in float32, which counts from the nearer end and rounds once. */
function linspace(start: number, end: number, count: number, i: number): number {
  const [first, last] = [Math.fround(start), Math.fround(end)];
  const step = Math.fround(Math.fround(last - first) / (count - 1));
  return i < Math.floor(count / 2)
    ? Math.fround(first + step * i)
    : Math.fround(last - step * (count - 1 - i));
}

/** bitsandbytes rounds to 16 bits before it looks for the nearest value of the map. */
function dynamicLookup(): Uint8Array {
  if (lookupTable !== undefined) return lookupTable;
  const values = dynamicMap();
  lookupTable = new Uint8Array(65536);
  let code = 0;
  for (let i = 0; i < lookupTable.length; i++) {
    const value = i / 32767.5 - 1;
    while (code < 255 && value >= (values[code]! + values[code + 1]!) / 2) code++;
    lookupTable[i] = code;
  }
  return lookupTable;
}

function requireLength(name: string, found: number, expected: number): void {
  if (found === expected) return;
  throw new CheckpointError(`4-bit blocks: expected ${expected} elements of ${name}, got ${found}`);
}
