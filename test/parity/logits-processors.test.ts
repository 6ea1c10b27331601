import { existsSync } from "node:fs";
import path from "node:path";
import { describe, expect, it } from "vitest";
import * as generation from "../../src/generation/public.ts";
import { Tensor } from "../../src/tensor.ts";
import type { PublicApi } from "../../tools/parity/api.ts";
import { compareNumbers } from "../../tools/parity/compare.ts";
import { CaseRunner } from "../../tools/parity/run.ts";
import { type ParityTest, readCase, storedTensor } from "../../tools/parity/test-set.ts";

/**
 * Every processor class against HF's scores: by the parity runner, which gives arguments by position as Transformers.js
 * does, and here with one options object under HF's names, ids as an int64 tensor.
 */
const FOLDER = path.join(import.meta.dirname, "../../../shared/golden/logits_processors");
const source = existsSync(FOLDER) ? await readCase(FOLDER) : undefined;
const api = { ...generation, Tensor } as unknown as PublicApi;
const runner = source && new CaseRunner(api, source, { dtype: "fp32" });

describe.skipIf(source === undefined)("logits_processors", () => {
  it("has the tests that this file was written for", () => {
    expect(source!.tests.length).toBeGreaterThanOrEqual(39);
  });

  for (const variant of runner?.variants() ?? []) {
    it(`${variant.label}, by position`, async () => {
      const { status, detail } = await runner!.run(variant);
      expect(`${status}: ${detail}`).toMatch(/^pass: /);
    });
  }

  for (const test of source?.tests ?? []) {
    const build = withOptions(test);
    if (build === undefined) continue;
    it(`${test.name}, by name`, () => {
      const ids = storedTensor(source!, test.inputs.input_ids!);
      const given = storedTensor(source!, test.inputs.scores!);
      const scores = new Tensor("float32", Float32Array.from(given.data), given.shape);
      const result = build()(new Tensor("int64", Array.from(ids.data), ids.shape), scores);
      const got = { shape: result.dims, data: result.data };
      const expected = storedTensor(source!, test.expected.scores!);
      expect(compareNumbers("scores", got, expected, test.tolerance)).toMatchObject({ passed: true });
    });
  }
});

/** Makes the processor of a test from one options object; undefined for tests of other things. */
function withOptions(test: ParityTest): (() => generation.LogitsProcessor) | undefined {
  if (test.call !== "logits_processor" || test.class === "LogitsProcessorList") return undefined;
  const { allowed_by_batch_row: table, ...plain } = test.arguments;
  const allowed = (row: number): number[] => (table as number[][])[row]!;
  const options = table === undefined ? plain : { ...plain, prefix_allowed_tokens_fn: allowed };
  const classes = generation as unknown as Record<
    string,
    new (
      options: object,
    ) => generation.LogitsProcessor
  >;
  return () => new classes[test.class]!(options);
}
