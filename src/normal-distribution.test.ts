import { describe, expect, it } from "vitest";
import { normalProbability, normalQuantile } from "./normal-distribution.ts";

describe("normalQuantile", () => {
  // Values of the standard normal distribution, as tables have them.
  it.each([
    [0.5, 0],
    [0.95, 1.6448536269514722],
    [0.975, 1.959963984540054],
    [0.999, 3.090232306167813],
    [0.3, -0.5244005127080407],
    [0.001, -3.090232306167813],
    [0.999999, 4.753424308817087],
  ])("of %f is %f", (p, quantile) => {
    expect(normalQuantile(p)).toBeCloseTo(quantile, 9);
    expect(normalProbability(quantile)).toBeCloseTo(p, 12);
  });
});

describe("normalProbability", () => {
  it("ends at 0 and 1", () => {
    expect([-Infinity, Infinity].map(normalProbability)).toEqual([0, 1]);
  });
});
