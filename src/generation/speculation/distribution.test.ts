import { describe, expect, it } from "vitest";
import { Candidates } from "../logits-processors/candidates.ts";
import { Random } from "../sampling.ts";
import { Distribution } from "./distribution.ts";

/** With `keep`, only so many of the likeliest tokens are left. */
function distribution(probabilities: readonly number[], keep = probabilities.length): Distribution {
  const candidates = new Candidates(Float32Array.from(probabilities, (p) => Math.log(p)));
  candidates.keepLargest(keep);
  return new Distribution(candidates);
}

/** Draws by the probabilities that a distribution says it has. */
function draw(from: Distribution, size: number, random: Random): number {
  let rest = random.next();
  for (let token = 0; token < size - 1; token++) {
    rest -= from.of(token);
    if (rest < 0) return token;
  }
  return size - 1;
}

describe("Distribution", () => {
  it("says how probable a token is, also of a few of many", () => {
    const few = distribution([0.4, 0.05, 0.3, 0.05, 0.2], 3);
    const expected = [4 / 9, 0, 3 / 9, 0, 2 / 9, 0];
    for (const [token, p] of expected.entries()) expect(few.of(token)).toBeCloseTo(p, 6);
    expect(distribution([0.25, 0.75]).of(1)).toBeCloseTo(0.75, 6);
  });

  it.each([
    ["a draft that is nearly right", [0.5, 0.2, 0.2, 0.1], [0.4, 0.3, 0.2, 0.1], 4],
    ["a draft that is quite wrong", [0.05, 0.05, 0.1, 0.8], [0.7, 0.1, 0.1, 0.1], 4],
    ["a draft of tokens that can't be", [0.5, 0.3, 0.15, 0.05], [0.1, 0.1, 0.4, 0.4], 2],
    ["the same probabilities", [0.1, 0.2, 0.3, 0.4], [0.1, 0.2, 0.3, 0.4], 3],
  ])("settles guesses of %s so that its own probabilities come out", (_, own, drafts, keep) => {
    const [target, draft] = [distribution(own, keep), distribution(drafts)];
    const [random, drafting] = [new Random(1, 0), new Random(1, 1)];
    const N = 40_000;
    const counts = own.map(() => 0);
    for (let n = 0; n < N; n++) counts[target.settle(draw(draft, own.length, drafting), draft, random)]!++;
    for (const [token, count] of counts.entries()) {
      const p = target.of(token);
      expect(Math.abs(count - N * p)).toBeLessThanOrEqual(4 * Math.sqrt(N * p * (1 - p)));
    }
  });

  it("keeps as many guesses as the two distributions have in common", () => {
    const [target, draft] = [distribution([0.5, 0.2, 0.2, 0.1]), distribution([0.4, 0.3, 0.2, 0.1])];
    const [random, drafting] = [new Random(2, 0), new Random(2, 1)];
    let kept = 0;
    for (let n = 0; n < 20_000; n++) {
      const guess = draw(draft, 4, drafting);
      if (target.settle(guess, draft, random) === guess) kept++;
    }
    // The sum of the smaller of each two probabilities.
    expect(kept / 20_000).toBeCloseTo(0.9, 2);
  });
});
