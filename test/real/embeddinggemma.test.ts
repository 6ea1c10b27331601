import { existsSync, readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { FeatureExtractionPipeline, pipeline, SentenceTransformer, type Tensor } from "../../src/index.ts";
import { readStoredTensors } from "../../tools/parity/safetensors.ts";
import { REFERENCE } from "./weights.ts";

interface ReferenceText {
  readonly kind: "query" | "document";
  readonly prompt: string;
  readonly text: string;
  readonly ids: readonly number[];
  readonly embedding: readonly number[];
}

/** Folder of EmbeddingGemma 300M, the sentence-transformers layout. */
const folder = process.env["LAPIDARY_TEST_EMBEDDING"] ?? "";
const file = `${REFERENCE}/embeddinggemma.json`;
const missing = folder === "" || !existsSync(file);

const hidden = missing
  ? undefined
  : await readStoredTensors(`${REFERENCE}/embeddinggemma-hidden.safetensors`);

function cosine(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let [product, left, right] = [0, 0, 0];
  for (let i = 0; i < b.length; i++) {
    product += a[i]! * b[i]!;
    left += a[i]! ** 2;
    right += b[i]! ** 2;
  }
  return product / Math.sqrt(left * right);
}

function numbers(tensor: Tensor): Float32Array {
  return tensor.data as Float32Array;
}

describe.skipIf(missing)("the real EmbeddingGemma (LAPIDARY_TEST_EMBEDDING)", () => {
  const { texts, cosine: cosines } = missing
    ? { texts: [], cosine: [] }
    : (JSON.parse(readFileSync(file, "utf8")) as { texts: ReferenceText[]; cosine: number[][] });
  const recorded = (name: string): Float32Array => hidden!.get(name)!.data as Float32Array;
  let model: SentenceTransformer;
  beforeAll(async () => {
    model = await SentenceTransformer.from_pretrained(folder);
  });
  afterAll(() => model?.dispose());

  it("reads texts as HF does", () => {
    for (const { prompt, text, ids } of texts) expect(model.tokenizer.encode(prompt + text)).toEqual(ids);
  });

  it("gives HF's vectors, alone and together", async () => {
    for (const { kind, text, embedding } of texts) {
      const vector = await (kind === "query" ? model.encode_query(text) : model.encode_document(text));
      expect(cosine(numbers(vector), embedding)).toBeGreaterThan(0.999999);
    }
    const all = await model.encode(texts.map(({ prompt, text }) => prompt + text));
    const scores = model.similarity(all, all).tolist() as number[][];
    for (const [i, row] of cosines.entries())
      for (const [j, score] of row.entries()) expect(scores[i]![j]).toBeCloseTo(score, 5);
  });

  it("gives HF's hidden states, and its vectors after every step", async () => {
    const { model: encoder, tokenizer } = model;
    const features = new FeatureExtractionPipeline({
      task: "feature-extraction",
      model: encoder,
      tokenizer,
    });
    const steps = new SentenceTransformer({
      ...model,
      modules: model.modules.slice(0, -1),
      do_lower_case: false,
    });
    for (const i of [0, 4]) {
      const { prompt, text } = texts[i]!;
      const states = await features(prompt + text);
      expect(cosine(numbers(states), recorded(`${i}/last_hidden_state`))).toBeGreaterThan(0.999999);
      const pooled = await features(prompt + text, { pooling: "mean" });
      expect(cosine(numbers(pooled), recorded(`${i}/pooled`))).toBeGreaterThan(0.999999);
      const projected = await steps.encode(prompt + text);
      expect(cosine(numbers(projected), recorded(`${i}/projected`))).toBeGreaterThan(0.999999);
    }
  });

  it("stays near HF's vectors in 8 bits, which do not depend on the batch", async () => {
    const small = await SentenceTransformer.from_pretrained(folder, { dtype: "q8" });
    const all = await small.encode(texts.map(({ prompt, text }) => prompt + text));
    for (const [i, { prompt, text, embedding }] of texts.entries()) {
      const alone = numbers(await small.encode(prompt + text));
      expect(cosine(numbers(all.at(i)!), alone)).toBeGreaterThan(0.99999);
      expect(cosine(alone, embedding)).toBeGreaterThan(0.998);
    }
    await small.dispose();
  });

  it("ranks an answer before other texts", async () => {
    const pipe = await pipeline("sentence-similarity", folder);
    const scores = await pipe("How do I bake bread?", [
      "Mix flour, water, salt and yeast, let it rise and put it into the oven.",
      "The train to Hamburg leaves at noon.",
    ]);
    expect(scores[0]).toBeGreaterThan(scores[1]! + 0.2);
    await pipe.dispose();
  });
});
