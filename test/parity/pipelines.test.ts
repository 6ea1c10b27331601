import { existsSync, readFileSync } from "node:fs";
import { resolve } from "node:path";
import { describe, expect, it } from "vitest";
import { type ClassifiedLabel, pipeline, type Tensor, type TokenEntity } from "../../src/index.ts";

const GOLDEN = resolve(import.meta.dirname, "../../../shared/golden");
const FIXTURES = resolve(import.meta.dirname, "../fixtures");

interface TextSet {
  readonly inputs: (string | { text: string; text_pair?: string })[];
  readonly best: ClassifiedLabel[];
  readonly all: ClassifiedLabel[][];
  readonly sigmoid: ClassifiedLabel[][];
}

interface TokenSet {
  readonly inputs: string[];
  readonly none: TokenEntity[][];
  readonly average: { score: number }[][];
}

/** Made by tools/oracle/pipelines.py with transformers' pipelines. */
const { classification } = JSON.parse(readFileSync(`${FIXTURES}/pipelines.json`, "utf8")) as {
  classification: Record<string, unknown>;
};

/** Scores may differ in rounding, places by the emoji's two UTF-16 units, which Python counts as one. */
function near<T extends { score: number; start?: number; end?: number }>(
  results: readonly T[],
  text = "",
): T[] {
  const units = (points: number): number => Array.from(text).slice(0, points).join("").length;
  return results.map((result) => ({
    ...result,
    score: expect.closeTo(result.score, 4) as number,
    ...(result.start === undefined ? {} : { start: units(result.start) }),
    ...(result.end === undefined ? {} : { end: units(result.end) }),
  }));
}

describe.skipIf(!existsSync(GOLDEN))("pipelines on classifiers give HF's answers", () => {
  for (const folder of ["gemma1_classification/sequence", "gemma3_text_classification/model"]) {
    it(folder, async () => {
      const expected = classification[folder] as TextSet;
      const pipe = await pipeline("text-classification", `${GOLDEN}/${folder}`);
      expect(await pipe(expected.inputs)).toEqual(near(expected.best));
      expect(await pipe(expected.inputs, { top_k: null })).toEqual(expected.all.map((one) => near(one)));
      expect(await pipe(expected.inputs, { top_k: 2, function_to_apply: "sigmoid" })).toEqual(
        expected.sigmoid.map((one) => near(one)),
      );
      await pipe.dispose();
    });
  }

  it("gemma1_classification/token", async () => {
    const folder = "gemma1_classification/token";
    const { inputs, none, average } = classification[folder] as TokenSet;
    const pipe = await pipeline({ task: "ner", model: `${GOLDEN}/${folder}` });
    expect(await pipe(inputs)).toEqual(none.map((one, i) => near(one, inputs[i])));
    expect(await pipe(inputs, { aggregation_strategy: "average" })).toEqual(
      average.map((one, i) => near(one, inputs[i])),
    );
    await pipe.dispose();
  });
});

describe.skipIf(!existsSync(GOLDEN))("feature-extraction", () => {
  it("pools what the model gives, whatever the padding", async () => {
    const pipe = await pipeline("feature-extraction", `${GOLDEN}/gemma3_bidirectional/model`);
    const texts = ["Hello world", "What is the capital of France?"];
    const together = await pipe(texts);
    expect(together.dims).toHaveLength(3);
    for (const pooling of ["mean", "cls", "last_token"] as const) {
      const both = await pipe(texts, { pooling, normalize: true });
      const alone = await pipe(texts[0]!, { pooling, normalize: true });
      expect(both.dims).toEqual([2, together.dims[2]]);
      expect(difference(both.slice([0, 1]), alone)).toBeLessThan(1e-5);
      const length = Math.hypot(...(alone.data as Float32Array));
      expect(length).toBeCloseTo(1, 5);
    }
    await pipe.dispose();
  });
});

function difference(a: Tensor, b: Tensor): number {
  expect(a.dims).toEqual(b.dims);
  return Math.max(...Array.from(a.data as Float32Array, (value, i) => Math.abs(value - Number(b.data[i]))));
}
