import { describe, expect, it } from "vitest";
import { allocateInput, inputValues, roundInput } from "../generation/exact-rows.ts";
import { Random } from "../generation/sampling.ts";
import { dequantizeRows, quantizeRows } from "./matmul-nbits.ts";
import {
  boundFactor,
  refinedCount,
  SCREEN_LAYOUT,
  SCREENED_LAYOUT,
  screenRows,
  screenWidth,
} from "./screen.ts";

const N = 300;

function normal(random: Random): number {
  return Math.sqrt(-2 * Math.log(1 - random.next())) * Math.cos(2 * Math.PI * random.next());
}

/** An 8-bit layer with rows of very different sizes, a few of them zero, and its screen. */
function layer(K: number, seed: number) {
  const random = new Random(seed);
  const values = new Float32Array(N * K);
  for (let row = 0; row < N; row++) {
    const size = row % 50 === 7 ? 0 : 10 ** (2 * random.next() - 2);
    for (let i = 0; i < K; i++) values[row * K + i] = size * normal(random);
  }
  const codes = new Uint8Array(N * K);
  const scales = new Float32Array((N * K) / 32);
  quantizeRows(values, N, K, SCREENED_LAYOUT, codes, scales);
  dequantizeRows(codes, scales, N, K, SCREENED_LAYOUT, values);
  const refined = Int32Array.from({ length: refinedCount(K) }, (_, i) => (i * 7) % K).sort();
  const width = screenWidth(K, refined);
  const screen = {
    codes: new Uint8Array((N * width) / 2),
    scales: new Float32Array((N * width) / 32),
    bounds: new Float32Array(N),
  };
  screenRows(codes, scales, N, K, refined, screen);
  const screened = new Float32Array(N * width);
  dequantizeRows(screen.codes, screen.scales, N, width, SCREEN_LAYOUT, screened);
  return { values, screened, bounds: screen.bounds, refined };
}

function rounded(x: Float32Array): Float64Array {
  const input = allocateInput(x.length);
  roundInput(x, input);
  const out = new Float64Array(x.length);
  inputValues(input, out);
  return out;
}

function dot(matrix: Float32Array, row: number, x: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < x.length; i++) sum += matrix[row * x.length + i]! * x[i]!;
  return sum;
}

describe.each([32, 96, 640])("a screen of rows of %i elements", (K) => {
  it("bounds the error of every score, for even and for lopsided inputs", () => {
    const { values, screened, bounds, refined } = layer(K, K);
    const random = new Random(K + 1);
    let tightest = 0;
    for (let trial = 0; trial < 60; trial++) {
      const x = Float32Array.from({ length: K }, () => normal(random) * 10 ** (random.next() - 1));
      // As in the model: what is refined is large.
      if (trial % 2 === 1) for (const column of refined) x[column]! *= 30;
      const input = rounded(x);
      const fine = rounded(Float32Array.from(refined, (column) => x[column]!));
      const factor = boundFactor(input, fine, refined);
      const both = Float64Array.from([...input, ...fine]);
      for (let row = 0; row < N; row++) {
        const error = Math.abs(dot(values, row, input) - dot(screened, row, both));
        expect(error).toBeLessThanOrEqual(factor * bounds[row]!);
        if (bounds[row]! > 0) tightest = Math.max(tightest, error / (factor * bounds[row]!));
      }
    }
    // A bound that is never nearly reached would rule out nothing.
    expect(tightest).toBeGreaterThan(0.1);
  });

  it("is nearly the layer itself in the refined columns", () => {
    const { values, screened, refined } = layer(K, 3);
    const width = K + refined.length;
    const [coarse, fine] = [0, 1].map((pass) => {
      let error = 0;
      for (let row = 0; row < N; row++) {
        for (const [j, column] of refined.entries()) {
          const rest = pass === 0 ? 0 : screened[row * width + K + j]!;
          error += (values[row * K + column]! - screened[row * width + column]! - rest) ** 2;
        }
      }
      return Math.sqrt(error);
    });
    expect(fine!).toBeLessThan(0.2 * coarse!);
  });
});
