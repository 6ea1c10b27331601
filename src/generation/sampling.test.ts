import { describe, expect, it } from "vitest";
import { Candidates } from "./logits-processors/candidates.ts";
import { argmax, logSoftmaxInPlace, logSumExp, softmax } from "./math.ts";
import { drawToken, Random } from "./sampling.ts";

describe("Random", () => {
  it("is fixed by seed and stream, and uniform", () => {
    const draw = (seed: number | bigint, stream = 0): number[] => {
      const random = new Random(seed, stream);
      return Array.from({ length: 20 }, () => random.next());
    };
    expect(draw(1)).toEqual(draw(1n));
    const others = [draw(1), draw(2), draw(1, 1), draw(1n << 40n), draw(0)].map((list) => list.join());
    expect(new Set(others).size).toBe(5);
    const random = new Random(3);
    const counts = new Array<number>(10).fill(0);
    for (let i = 0; i < 100_000; i++) counts[Math.floor(random.next() * 10)]!++;
    for (const count of counts) expect(Math.abs(count - 10_000)).toBeLessThan(400);
  });

  it("does not change between versions: a seed is a promise", () => {
    const random = new Random(42, 1);
    expect([random.next(), random.next(), random.next()]).toMatchInlineSnapshot(`
      [
        0.5887842935600143,
        0.03451835773533973,
        0.2928739416184587,
      ]
    `);
  });
});

describe("drawToken", () => {
  it("draws with the probabilities of the logits, whole rows and few candidates alike", () => {
    const logits = Float32Array.from([0, 1, 2, Number.NEGATIVE_INFINITY, -1]);
    for (const narrow of [false, true]) {
      const random = new Random(9);
      const counts = new Array<number>(5).fill(0);
      for (let i = 0; i < 50_000; i++) {
        const candidates = new Candidates(logits);
        if (narrow) candidates.keepFrom(0);
        counts[drawToken(candidates, random)]!++;
      }
      const expected = softmax(narrow ? logits.map((x) => (x < 0 ? Number.NEGATIVE_INFINITY : x)) : logits);
      counts.forEach((count, id) => {
        expect(Math.abs(count / 50_000 - expected[id]!)).toBeLessThan(0.01);
      });
    }
  });
});

describe("arithmetic over rows", () => {
  it("finds the first of the largest", () => {
    for (const values of [
      [1, 5, 5, 2, 0, 0, 0, 0, 5],
      [-3, -1, -1, -2],
      [0, 0],
      [-0, 0, -1],
      [Number.NEGATIVE_INFINITY, -7],
      new Array<number>(40).fill(-1).concat(3, 3),
    ]) {
      const row = Float32Array.from(values);
      expect(argmax(row), values.join()).toBe(values.indexOf(Math.max(...values)));
    }
    expect(argmax(Float32Array.from([1, Number.NaN, 2]))).toBe(1);
    expect(argmax(new Float32Array(3).fill(Number.NEGATIVE_INFINITY))).toBe(0);
  });

  it("agrees with plain formulas", () => {
    const random = new Random(1);
    const row = Float32Array.from({ length: 1001 }, () => random.next() * 60 - 30);
    row[7] = Number.NEGATIVE_INFINITY;
    const expected = Math.log(row.reduce((sum, x) => sum + Math.exp(x), 0));
    expect(logSumExp(row)).toBeCloseTo(expected, 7);
    expect(softmax(row).reduce((sum, p) => sum + p, 0)).toBeCloseTo(1, 6);
    const first = row[0]!;
    logSoftmaxInPlace(row);
    expect(row[0]).toBeCloseTo(first - expected, 4);
    expect(row[7]).toBe(Number.NEGATIVE_INFINITY);
  });
});
