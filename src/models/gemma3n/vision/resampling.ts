/** Changes of a map's size as matrices over its pixels, with torch's arithmetic. */
import type { Value } from "../../../graph/graph.ts";
import { matmul } from "../../../graph/ops/math.ts";
import { gather, reshape } from "../../../graph/ops/shape.ts";

type Size = readonly [height: number, width: number];

/** What one output position takes of the input's: index and share. */
type Taps = readonly (readonly [index: number, share: number])[];

/** Enlarges a map [1, h, w, channels] by repeating pixels (torch's `nearest`). */
export function enlargeNearest(x: Value, [height, width]: Size): Value {
  const [, h, w, channels] = x.shape as [1, number, number, number];
  if (h === height && w === width) return x;
  const rows = nearest(h, height);
  const columns = nearest(w, width);
  const indices = rows.flatMap((row) => columns.map((column) => row * w + column));
  const name = `nearest_${h}x${w}_${height}x${width}`;
  const bytes = new Uint8Array(BigInt64Array.from(indices, BigInt).buffer);
  const index = x.graph.initializer(name, "int64", [indices.length], bytes);
  return reshape(gather(reshape(x, [h * w, channels]), index), [1, height, width, channels]);
}

/**
 * Brings a map [1, h, w, channels] to another size: by the means of equal blocks where its sides are multiples of the
 * new ones, else bilinearly without antialiasing.
 */
export function resizeMap(x: Value, [height, width]: Size): Value {
  const [, h, w, channels] = x.shape as [1, number, number, number];
  if (h === height && w === width) return x;
  const axis = h % height === 0 && w % width === 0 ? blockMeans : bilinear;
  const [rows, columns] = [axis(h, height), axis(w, width)];
  const matrix = new Float32Array(height * width * h * w);
  let start = 0;
  for (const row of rows) {
    for (const column of columns) {
      for (const [i, a] of row) for (const [j, b] of column) matrix[start + i * w + j]! += Math.fround(a * b);
      start += h * w;
    }
  }
  const name = `resize_${h}x${w}_${height}x${width}`;
  const weights = x.graph.initializer(
    name,
    "float32",
    [height * width, h * w],
    new Uint8Array(matrix.buffer),
  );
  return reshape(matmul(weights, reshape(x, [h * w, channels])), [1, height, width, channels]);
}

function nearest(size: number, newSize: number): number[] {
  const step = Math.fround(size / newSize);
  return Array.from({ length: newSize }, (_, i) => Math.min(size - 1, Math.floor(Math.fround(i * step))));
}

function blockMeans(size: number, newSize: number): Taps[] {
  const block = size / newSize;
  return Array.from({ length: newSize }, (_, i) =>
    Array.from({ length: block }, (_, j) => [i * block + j, 1 / block] as const),
  );
}

function bilinear(size: number, newSize: number): Taps[] {
  const step = Math.fround(size / newSize);
  return Array.from({ length: newSize }, (_, i) => {
    const position = Math.max(0, Math.fround(Math.fround(step * (i + 0.5)) - 0.5));
    const first = Math.min(size - 1, Math.floor(position));
    const share = Math.fround(position - first);
    return [
      [first, 1 - share],
      [Math.min(size - 1, first + 1), share],
    ];
  });
}
