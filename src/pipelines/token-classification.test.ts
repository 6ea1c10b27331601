import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { AutoTokenizer } from "../api/tokenizers.ts";
import { callable } from "../callable.ts";
import type { PreTrainedTokenizer } from "../processing/tokenizer.ts";
import { Tensor } from "../tensor.ts";
import type { AggregationStrategy } from "./entities.ts";
import type { ClassificationModel } from "./labels.ts";
import { pipeline } from "./pipeline.ts";
import { TokenClassificationPipeline } from "./token-classification.ts";

interface Entity {
  readonly start: number;
  readonly end: number;
  readonly score: number;
}

interface Case {
  readonly text: string;
  readonly logits: number[][];
  readonly results: Record<AggregationStrategy | "ignore", Entity[]>;
}

const FIXTURES = resolve(import.meta.dirname, "../../test/fixtures");
/** Made by tools/oracle/pipelines.py with transformers' own pipeline. */
const { labels, cases } = (
  JSON.parse(readFileSync(`${FIXTURES}/pipelines.json`, "utf8")) as {
    aggregation: { labels: string[]; cases: Case[] };
  }
).aggregation;

/** A model that gives the recorded logits of the texts that it is asked about. */
function fakeModel(recorded: readonly Case[]): ClassificationModel {
  return callable({
    config: { id2label: Object.fromEntries(labels.entries()) },
    dispose: async () => {},
    async _call({ input_ids }: { input_ids: Tensor }): Promise<{ logits: Tensor }> {
      const [batch, length] = input_ids.dims as [number, number];
      const data = recorded.flatMap(({ logits }) =>
        Array.from({ length }, (_, i) => logits[i] ?? labels.map(() => Number.NaN)).flat(),
      );
      return { logits: new Tensor("float32", data, [batch, length, labels.length]) };
    },
  });
}

/** Python counts code points, JavaScript UTF-16 units. */
function inUnits(text: string, entities: readonly Entity[]): Entity[] {
  const units = (points: number): number => Array.from(text).slice(0, points).join("").length;
  return entities.map((entity) => ({
    ...entity,
    start: units(entity.start),
    end: units(entity.end),
    score: expect.closeTo(entity.score, 5) as number,
  }));
}

describe("token-classification", () => {
  let tokenizer: PreTrainedTokenizer;
  beforeAll(async () => {
    tokenizer = await AutoTokenizer.from_pretrained(`${FIXTURES}/tokenizer`);
  });
  const make = (recorded: readonly Case[]): TokenClassificationPipeline =>
    new TokenClassificationPipeline({ task: "token-classification", model: fakeModel(recorded), tokenizer });

  for (const strategy of ["none", "simple", "first", "average", "max"] as const) {
    it(`gives HF's entities with aggregation "${strategy}"`, async () => {
      for (const one of cases) {
        const got = await make([one])(one.text, { aggregation_strategy: strategy as "simple" });
        expect(got).toEqual(inUnits(one.text, one.results[strategy]));
      }
    });
  }

  it("leaves out labels that are to be ignored", async () => {
    for (const one of cases) {
      const got = await make([one])(one.text, { ignore_labels: ["I-X", "B-X"] });
      expect(got).toEqual(inUnits(one.text, one.results.ignore));
    }
  });

  it("takes texts of several lengths at once", async () => {
    const got = await make(cases)(cases.map(({ text }) => text));
    expect(got).toEqual(cases.map(({ text, results }) => inUnits(text, results.none)));
    expect(await make([])([])).toEqual([]);
  });

  it("finds what it names in the text", async () => {
    const { text } = cases[1]!;
    const got = await make([cases[1]!])(text, { ignore_labels: [], aggregation_strategy: "simple" });
    expect(got.map(({ start, end }) => text.slice(start, end)).join("")).toContain("🙂");
  });

  it("wraps a loaded model, and refuses unknown strategies", async () => {
    const pipe = await pipeline("ner", fakeModel(cases), { tokenizer });
    expect(pipe.task).toBe("token-classification");
    await expect(pipe("x", { aggregation_strategy: "mean" as never })).rejects.toThrow(
      /none, simple, first, average, max/,
    );
    await expect(pipeline("ner", fakeModel(cases))).rejects.toThrow(/needs its tokenizer/);
  });
});
