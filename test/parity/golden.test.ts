import { existsSync } from "node:fs";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { PublicApi } from "../../tools/parity/api.ts";
import { CaseRunner } from "../../tools/parity/run.ts";
import { readCase } from "../../tools/parity/test-set.ts";

/**
 * The parity sets through the public API. The small ones under test/fixtures are part of the repository; those
 * beside it are used where they exist. A case joins the list when all of its tests can be made: here not-yet fails.
 */
const ROOT = path.join(import.meta.dirname, "../..");
const CASES: readonly string[] = [
  "test/fixtures/golden-h12/gemma3_text",
  "test/fixtures/golden-h16/gemma3_text",
  "test/fixtures/golden-h20/gemma3_text",
  "test/fixtures/multimodal/gemma3_mm",
  "../shared/golden/gemma1",
  "../shared/golden/gemma1_classification",
  "../shared/golden/gemma3_text",
  "../shared/golden/gemma3_text_classification",
  "../shared/golden/gemma3_mm",
  "../shared/golden/gemma3_mm_classification",
  "../shared/golden/gemma3_bidirectional",
  "../shared/golden/gemma3n_text",
  "../shared/golden/gemma3n_mm",
  "../shared/golden/tokenizer",
  "../shared/golden/logits_processors",
  "../shared/golden-odd-sizes/gemma1",
  "../shared/golden/quantization",
  "../shared/golden/attention_masks",
  "../shared/golden-odd-sizes/gemma3_text",
  "../shared/golden-odd-sizes/gemma3n_text",
  "../shared/golden-odd-sizes/gemma3_text_classification",
  "../shared/golden-odd-sizes/gemma3_bidirectional",
];

/** The released tokenizer, for tests that name no checkpoint. */
const tokenizer = process.env.LAPIDARY_TEST_TOKENIZER;

const index = path.join(ROOT, "src/index.ts");

for (const name of CASES) {
  const folder = path.join(ROOT, name);
  const why = !existsSync(folder) ? "is not here" : !existsSync(index) ? "waits for src/index.ts" : undefined;
  if (why !== undefined) {
    it.skip(`${name} ${why}`, () => undefined);
    continue;
  }
  const source = await readCase(folder);
  const options = { dtype: "fp32", ...(tokenizer === undefined ? {} : { tokenizer }) };
  // The tests of a case are known before the package is loaded.
  const variants = new CaseRunner({}, source, options).variants();
  describe(name, () => {
    let runner: CaseRunner;
    beforeAll(async () => {
      runner = new CaseRunner((await import(index)) as PublicApi, source, options);
    });
    afterAll(() => runner.dispose());
    for (const variant of variants) {
      it(variant.label, async (context) => {
        const { test } = variant;
        if (test.checkpoint === null && test.class.endsWith("Tokenizer") && tokenizer === undefined) {
          context.skip("needs the released tokenizer's folder in LAPIDARY_TEST_TOKENIZER");
        }
        const { status, detail } = await runner.run(variant);
        expect(`${status}: ${detail}`).toMatch(/^pass: /);
      });
    }
  });
}
