/** Pixels of 8 bits, row by row, the channels of a pixel side by side. */
export interface PixelGrid {
  readonly data: Uint8Array | Uint8ClampedArray;
  readonly width: number;
  readonly height: number;
  readonly channels: number;
}

/** A part of an image, in pixels. */
export interface Region {
  readonly left: number;
  readonly top: number;
  readonly width: number;
  readonly height: number;
}

/** Pillow's numbers of the filters here. */
export type ResampleFilter = 2 | 3;

interface Filter {
  /** Distance from which on a source pixel has no weight, in pixels of the coarser image. */
  readonly support: number;
  readonly weight: (distance: number) => number;
}

const FILTERS: Readonly<Record<ResampleFilter, Filter>> = {
  2: { support: 1, weight: (x) => Math.max(1 - Math.abs(x), 0) },
  3: { support: 2, weight: cubic },
};

/** Whether `value` is the number of a filter here. */
export function isFilter(value: unknown): value is ResampleFilter {
  return value === 2 || value === 3;
}

/** Keys' cubic convolution with a = -0.5, as both libraries take it when they shrink without aliasing. */
function cubic(x: number): number {
  const [a, distance] = [-0.5, Math.abs(x)];
  if (distance < 1) return ((a + 2) * distance - (a + 3)) * distance * distance + 1;
  return distance < 2 ? (((distance - 5) * distance + 8) * distance - 4) * a : 0;
}

/** Whose fixed-point arithmetic is repeated bit for bit: Pillow's `resize`, or torchvision's on uint8 tensors. */
export type ResampleStyle = "pil" | "torchvision";

/**
 * Pillow's weights have 32 - 8 - 2 bits behind the point: 8 for the pixel and 2 against overflow (Resample.c,
 * PRECISION_BITS).
 */
const PIL_PRECISION = 22;
/** Torch packs weights into int16, with as many bits as the largest allows (UpSampleKernel.cpp, aten/native/cpu). */
const INT16_LIMIT = 2 ** 15;

/** For each output position the first source pixel, their number, and `stride` integer weights of which those are used. */
interface Taps {
  readonly starts: Int32Array;
  readonly counts: Int32Array;
  readonly weights: Int32Array;
  readonly stride: number;
  readonly precision: number;
}

/**
 * Resize with antialiasing of a region of an image, as Pillow and torchvision do it: one axis after the other, each
 * with a filter as wide as the scale, rounded to 8 bits in between. Output: [height, width, channels].
 */
export function resizeImage(
  image: PixelGrid,
  region: Region,
  [height, width]: readonly [height: number, width: number],
  filter: ResampleFilter,
  style: ResampleStyle,
): Uint8Array {
  const { channels } = image;
  const columns = tapsOf(region.width, width, FILTERS[filter], style);
  const rows = tapsOf(region.height, height, FILTERS[filter], style);
  const source = cut(image, region);
  if (style === "pil" && rowsFirst(region, height, width)) {
    return resizeColumns(resizeRows(source, region.width * channels, rows), region.width, channels, columns);
  }
  return resizeRows(resizeColumns(source, region.width, channels, columns), width * channels, rows);
}

/** A region's own pixels; the image's memory where that is all of it. */
export function cut(image: PixelGrid, region: Region): Uint8Array {
  const { data, channels } = image;
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  if (region.width === image.width && region.height === image.height) return bytes;
  const out = new Uint8Array(region.width * region.height * channels);
  for (let y = 0; y < region.height; y++) {
    const start = ((region.top + y) * image.width + region.left) * channels;
    out.set(bytes.subarray(start, start + region.width * channels), y * region.width * channels);
  }
  return out;
}

/** Pillow 13 starts with the rows where they lose over twice as many as the columns; found by trying 1,500 sizes. */
function rowsFirst(region: Region, height: number, width: number): boolean {
  return region.height - height > 2 * Math.max(0, region.width - width);
}

function tapsOf(from: number, to: number, filter: Filter, style: ResampleStyle): Taps {
  const scale = from / to;
  const filterScale = Math.max(scale, 1);
  const support = filter.support * filterScale;
  const stride = Math.ceil(support) * 2 + 1;
  const starts = new Int32Array(to);
  const counts = new Int32Array(to);
  const exact = new Float64Array(to * stride);
  let largest = 0;
  for (let i = 0; i < to; i++) {
    const center = (i + 0.5) * scale;
    const start = Math.max(Math.trunc(center - support + 0.5), 0);
    const count = Math.min(Math.trunc(center + support + 0.5), from) - start;
    let total = 0;
    for (let j = 0; j < count; j++) {
      const weight = filter.weight((j + start - center + 0.5) * (1 / filterScale));
      exact[i * stride + j] = weight;
      total += weight;
    }
    for (let j = i * stride; j < i * stride + count; j++) {
      exact[j] = exact[j]! / total;
      largest = Math.max(largest, exact[j]!);
    }
    starts[i] = start;
    counts[i] = count;
  }
  const precision = style === "pil" ? PIL_PRECISION : int16Precision(largest);
  const weights = Int32Array.from(exact, (weight) =>
    Math.trunc(Math.sign(weight) * 0.5 + weight * 2 ** precision),
  );
  return { starts, counts, weights, stride, precision };
}

/** The most bits behind the point, 22 at most, with which the largest weight stays under 2^15. */
function int16Precision(largest: number): number {
  let precision = 0;
  while (precision < 22 && Math.trunc(0.5 + largest * 2 ** (precision + 1)) < INT16_LIMIT) precision++;
  return precision;
}

/** `data` is [rows, from, channels]; output: [rows, taps, channels]. */
function resizeColumns(data: Uint8Array, from: number, channels: number, taps: Taps): Uint8Array {
  const { starts, counts, weights, stride, precision } = taps;
  const to = starts.length;
  if (to === from) return data;
  const half = 2 ** (precision - 1);
  const rowLength = from * channels;
  const out = new Uint8Array((data.length / from) * to);
  let written = 0;
  for (let row = 0; row < data.length; row += rowLength) {
    for (let x = 0; x < to; x++) {
      const first = row + starts[x]! * channels;
      const count = counts[x]!;
      for (let c = 0; c < channels; c++) {
        let sum = half;
        for (let j = 0; j < count; j++) sum += data[first + j * channels + c]! * weights[x * stride + j]!;
        out[written++] = clamp(sum >> precision);
      }
    }
  }
  return out;
}

/** `data` is [rows, rowLength]; output: [taps, rowLength]. */
function resizeRows(data: Uint8Array, rowLength: number, taps: Taps): Uint8Array {
  const { starts, counts, weights, stride, precision } = taps;
  if (starts.length * rowLength === data.length) return data;
  const out = new Uint8Array(starts.length * rowLength);
  const sums = new Int32Array(rowLength);
  for (let y = 0; y < starts.length; y++) {
    sums.fill(2 ** (precision - 1));
    for (let j = 0; j < counts[y]!; j++) {
      const weight = weights[y * stride + j]!;
      const row = (starts[y]! + j) * rowLength;
      for (let x = 0; x < rowLength; x++) sums[x] = sums[x]! + data[row + x]! * weight;
    }
    for (let x = 0; x < rowLength; x++) out[y * rowLength + x] = clamp(sums[x]! >> precision);
  }
  return out;
}

function clamp(level: number): number {
  return level < 0 ? 0 : level > 255 ? 255 : level;
}
