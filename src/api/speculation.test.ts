import { resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { GenerateOptions } from "../generation/generate.ts";
import { Random } from "../generation/sampling.ts";
import type { Tensor } from "../tensor.ts";
import { AutoModelForCausalLM } from "./auto.ts";
import type { CausalLM } from "./causal-lm.ts";

/** Tiny models with windows of a few positions and random weights; heads of 12, of 16 and of 20. */
const folder = (heads: number): string =>
  resolve(import.meta.dirname, `../../test/fixtures/golden-h${heads}/gemma3_text/model`);

describe("guesses with a real cache", () => {
  let models: CausalLM[];
  beforeAll(async () => {
    models = await Promise.all(
      [12, 16, 20].map((heads) => AutoModelForCausalLM.from_pretrained(folder(heads))),
    );
  });
  afterAll(() => Promise.all(models.map((model) => model.dispose())));

  function prompts(count: number): number[][] {
    const random = new Random(7);
    return Array.from({ length: count }, () =>
      Array.from({ length: 1 + Math.floor(random.next() * 40) }, () => 3 + Math.floor(random.next() * 400)),
    );
  }

  async function ids(model: CausalLM, options: GenerateOptions): Promise<bigint[]> {
    const call = { do_sample: false, eos_token_id: [], ...options };
    return ((await model.generate(call)) as Tensor).tolist()[0] as bigint[];
  }

  it("of the text itself give what greedy decoding gives, far beyond the window", async () => {
    for (const [n, prompt] of prompts(9).entries()) {
      const model = models[n % 3]!;
      const options = {
        input_ids: [prompt],
        max_new_tokens: n < 2 ? 250 : 40,
        ...(n % 4 === 1 && { repetition_penalty: 1.2 }),
      };
      const lookup = { prompt_lookup_num_tokens: [3, 10, 64][n % 3]!, max_matching_ngram_size: 1 + (n % 3) };
      expect(await ids(model, { ...options, ...lookup }), `prompt ${n}`).toEqual(await ids(model, options));
    }
  });

  it.each([
    ["the model itself", 0],
    ["another model", 1],
  ])("of %s do too", async (_, other) => {
    for (const [n, prompt] of prompts(6).entries()) {
      const model = models[0]!;
      const options = { input_ids: [prompt], max_new_tokens: 60 };
      const guessed = await ids(model, {
        ...options,
        assistant_model: other === 0 ? model : sameVocabulary(models, other),
        num_assistant_tokens: 1 + 4 * n,
        assistant_confidence_threshold: 0,
      });
      expect(guessed, `prompt ${n}`).toEqual(await ids(model, options));
    }
  });

  it("give quantised weights the very numbers of runs of one token", async () => {
    const model = await AutoModelForCausalLM.from_pretrained(folder(16), { dtype: "q8" });
    const row = prompts(3).flat();
    const { decoder } = model;
    const alone = decoder.createCache(1, 8);
    const together = decoder.createCache(1, 8);
    await decoder.step([row.slice(0, 9)], alone);
    await decoder.step([row.slice(0, 9)], together);
    // Runs of all sizes, and guesses that are taken back, past the window and where its buffer is moved.
    for (let at = 9; at < 600; ) {
      const count = 2 + (at % 18);
      const tokens = Array.from({ length: count }, (_, i) => row[(at + i) % row.length]!);
      const { logits } = await decoder.step([tokens], together, { logits: "all", stepwise: true });
      const kept = Math.max(1, count - (at % 4));
      for (let i = 0; i < kept; i++) {
        const single = await decoder.step([[tokens[i]!]], alone);
        const size = single.logits.length;
        expect(logits.subarray(i * size, (i + 1) * size), `token ${at + i}`).toEqual(single.logits);
      }
      if (kept < count) together.crop(kept - count);
      at += kept;
    }
    await model.dispose();
  });

  it("leave a cache that goes on as after greedy decoding", async () => {
    const [prompt] = prompts(1) as [number[]];
    const model = models[0]!;
    const texts: { text: bigint[]; logits: number[] }[] = [];
    for (const lookup of [{}, { prompt_lookup_num_tokens: 20, max_matching_ngram_size: 1 }]) {
      const options = { do_sample: false, eos_token_id: [], max_new_tokens: 50, ...lookup };
      const first = await model.generate({ input_ids: [prompt], return_dict_in_generate: true, ...options });
      const cache = first.past_key_values!;
      const text = first.sequences.tolist()[0] as bigint[];
      expect(cache.lengths).toEqual([text.length - 1]);
      const next = await model({ input_ids: [[Number(text.at(-1)), 5, 9]], past_key_values: cache });
      texts.push({ text, logits: Array.from(next.logits.data as Float32Array) });
      cache.dispose();
    }
    expect(texts[1]!.text).toEqual(texts[0]!.text);
    const differences = texts[1]!.logits.map((value, i) => Math.abs(value - texts[0]!.logits[i]!));
    expect(Math.max(...differences)).toBeLessThan(2e-5);
  });
});

function sameVocabulary(models: readonly CausalLM[], index: number): CausalLM {
  expect(models[index]!.decoder.vocab_size).toBe(models[0]!.decoder.vocab_size);
  return models[index]!;
}
