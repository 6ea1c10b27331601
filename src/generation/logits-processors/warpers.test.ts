import { describe, expect, it } from "vitest";
import { InputError } from "../../errors.ts";
import { Tensor } from "../../tensor.ts";
import { Random } from "../sampling.ts";
import { LogitsProcessor, LogitsProcessorList, LogitsWarper } from "./base.ts";
import { LogitNormalization, TypicalLogitsWarper } from "./entropy-warpers.ts";
import { kthLargest } from "./selection.ts";
import { MinPLogitsWarper, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper } from "./warpers.ts";

/** A row like a model's: a bell with a few tokens above. */
function row(width: number, seed: number, spread = 3, step = 0): Float32Array {
  const random = new Random(seed);
  return Float32Array.from({ length: width }, () => {
    const bell = random.next() + random.next() + random.next() + random.next() - 2;
    const value = bell * spread * 2 + (random.next() < 0.001 ? 8 : 0);
    return step === 0 ? value : Math.round(value / step) * step;
  });
}

function apply(processor: LogitsProcessor, scores: Float32Array): Float32Array {
  return processor([[0n]], new Tensor("float32", scores.slice(), [1, scores.length])).data as Float32Array;
}

function keptOf(scores: Float32Array): number[] {
  return [...scores.keys()].filter((i) => scores[i]! > Number.NEGATIVE_INFINITY);
}

/** What HF's sort and cumulative sum keep for top-p, in doubles. */
function topP(scores: Float32Array, p: number): number[] {
  const order = [...scores.keys()].sort((a, b) => scores[b]! - scores[a]! || b - a);
  const max = scores[order[0]!]!;
  const weights = order.map((i) => Math.exp(scores[i]! - max));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  let before = 0;
  const kept = order.filter((_, n) => {
    const keep = before < p * total;
    before += weights[n]!;
    return keep;
  });
  return kept.sort((a, b) => a - b);
}

describe("selection without sorting", () => {
  it.each([
    [0.95, 50_000, 3, 0],
    [0.5, 50_000, 1, 0],
    [0.999, 20_000, 10, 0],
    [0.3, 300, 3, 0],
    [0.9, 5000, 0.001, 0],
    [0.9, 1000, 2, 0.5],
    [0.7, 1000, 0.1, 1],
  ])("top_p %f of %i tokens keeps what a full sort keeps", (p, width, spread, step) => {
    for (let seed = 0; seed < 5; seed++) {
      const scores = row(width, seed, spread, step);
      const got = keptOf(apply(new TopPLogitsWarper(p), scores));
      const expected = topP(scores, p);
      // At the very edge float32 weights may fall on either side.
      expect(Math.abs(got.length - expected.length)).toBeLessThanOrEqual(1);
      const both = new Set(expected);
      expect(got.filter((id) => !both.has(id)).length).toBeLessThanOrEqual(1);
    }
  });

  it("finds the k-th largest, with ties and ruled-out entries", () => {
    for (const k of [1, 2, 64, 1024, 1025, 5000, 9999, 10_000, 10_001]) {
      const scores = row(10_000, k, 2, k % 2 === 0 ? 0.25 : 0);
      scores.fill(Number.NEGATIVE_INFINITY, 0, 100);
      const sorted = scores.slice().sort().reverse();
      expect(kthLargest(scores, scores.length, k), `k ${k}`).toBe(sorted[k - 1] ?? Number.NEGATIVE_INFINITY);
    }
  });

  it("keeps ties at the edge of top_k, and top_k tokens in all otherwise", () => {
    const scores = Float32Array.from([1, 3, 3, 2, 3, 0]);
    expect(keptOf(apply(new TopKLogitsWarper(2), scores))).toEqual([1, 2, 4]);
    expect(keptOf(apply(new TopKLogitsWarper(2000), row(20_000, 1))).length).toBe(2000);
  });
});

describe("chains", () => {
  it("works on what an earlier processor has left", () => {
    const scores = row(1000, 4);
    const banned = [...scores.keys()].sort((a, b) => scores[b]! - scores[a]!).slice(0, 10);
    for (const id of banned) scores[id] = Number.NEGATIVE_INFINITY;
    const chain = new LogitsProcessorList([
      new TemperatureLogitsWarper(0.7),
      new TopKLogitsWarper(50),
      new TopPLogitsWarper(0.9),
      new MinPLogitsWarper(0.01),
      new TypicalLogitsWarper(0.95),
      new LogitNormalization(),
    ]);
    const out = chain([[0n]], new Tensor("float32", scores, [1, 1000])).data as Float32Array;
    const kept = keptOf(out);
    expect(kept.length).toBeGreaterThan(0);
    expect(kept.length).toBeLessThanOrEqual(50);
    expect(kept.some((id) => banned.includes(id))).toBe(false);
    expect(kept.reduce((sum, id) => sum + Math.exp(out[id]!), 0)).toBeCloseTo(1, 5);
  });

  it("fills with filter_value", () => {
    const scores = Float32Array.from([1, 3, 2]);
    expect([...apply(new TopKLogitsWarper(1, { filter_value: -100 }), scores)]).toEqual([-100, 3, -100]);
  });

  it("is open to extension", () => {
    class Invert extends LogitsProcessor {
      override _call(_input_ids: bigint[][], logits: Tensor): Tensor {
        return new Tensor(
          "float32",
          (logits.data as Float32Array).map((x) => -x),
          logits.dims,
        );
      }
    }
    const list = new LogitsProcessorList();
    list.push(new Invert());
    list.extend([new TopKLogitsWarper(1)]);
    expect(list.length).toBe(2);
    expect([...list].every((item) => item instanceof LogitsProcessor)).toBe(true);
    expect(new TopKLogitsWarper(1)).toBeInstanceOf(LogitsWarper);
    const out = list([[1n]], new Tensor("float32", [3, 1, 2], [1, 3])).data;
    expect([...out]).toEqual([Number.NEGATIVE_INFINITY, -1, Number.NEGATIVE_INFINITY]);
    class Empty extends LogitsProcessor {}
    expect(() => new Empty()([[1n]], new Tensor("float32", [1], [1, 1]))).toThrow(
      /Empty does not define _call/,
    );
  });
});

describe("arguments", () => {
  it("come by position, with options behind, or all by name", () => {
    for (const warper of [
      new TopKLogitsWarper(1, { min_tokens_to_keep: 3 }),
      new TopKLogitsWarper({ top_k: 1, min_tokens_to_keep: 3 }),
    ]) {
      expect(warper.top_k).toBe(3);
    }
    expect(() => new TopKLogitsWarper({ top_k: 1, min_token_to_keep: 3 } as never)).toThrow(
      /min_tokens_to_keep/,
    );
  });

  it("are checked", () => {
    for (const wrong of [
      () => new TemperatureLogitsWarper(0),
      () => new TopKLogitsWarper(0),
      () => new TopPLogitsWarper(1.5),
      () => new MinPLogitsWarper(-1),
      () => new TypicalLogitsWarper(1),
      () => new TopPLogitsWarper(0.5, { min_tokens_to_keep: 0 }),
      () => new TopKLogitsWarper(2)([[1n]], new Tensor("int32", [1, 2], [1, 2])),
    ]) {
      expect(wrong).toThrow(InputError);
    }
  });
});
