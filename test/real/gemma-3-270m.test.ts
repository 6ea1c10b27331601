import { monitorEventLoopDelay } from "node:perf_hooks";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  AutoModelForCausalLM,
  AutoTokenizer,
  type CausalLM,
  type PreTrainedTokenizer,
  Tensor,
} from "../../src/index.ts";
import { type ReferencePrompt, readReference, realModel } from "./weights.ts";

const reference = readReference();
const file = await realModel();
const missing = file === undefined || reference === undefined;

/** Near ties: below this margin float32 rounding may decide (../shared/real/README.md). */
const CLEAR_MARGIN = 0.05;

function ids(values: readonly number[]): Tensor {
  return new Tensor("int64", BigInt64Array.from(values, BigInt), [1, values.length]);
}

/** Log-probability of every token after the first, chunk by chunk over one cache. */
async function tokenLogprobs(model: CausalLM, tokens: readonly number[]): Promise<number[]> {
  const result: number[] = [];
  let cache: Awaited<ReturnType<typeof model._call>>["past_key_values"];
  for (let start = 0; start < tokens.length; start += 256) {
    const chunk = tokens.slice(start, start + 256);
    const { logits, past_key_values } = await model({
      input_ids: ids(chunk),
      ...(cache === undefined ? {} : { past_key_values: cache }),
    });
    cache = past_key_values;
    const vocab = logits.dims[2]!;
    for (let i = 0; i < chunk.length && start + i + 1 < tokens.length; i++) {
      const scores = (logits.data as Float32Array).subarray(i * vocab, (i + 1) * vocab);
      let max = Number.NEGATIVE_INFINITY;
      for (const score of scores) max = Math.max(max, score);
      let sum = 0;
      for (const score of scores) sum += Math.exp(score - max);
      result.push(scores[tokens[start + i + 1]!]! - max - Math.log(sum));
    }
  }
  cache?.dispose();
  return result;
}

/** The first step whose token differs although the reference's margin is clear; undefined where all agree. */
function firstWrongStep(
  got: readonly number[],
  { ids: expected, margins }: ReferencePrompt["greedy"],
): number | undefined {
  for (const [step, id] of expected.entries()) {
    if (got[step] === id) continue;
    return margins[step]! > CLEAR_MARGIN ? step : undefined;
  }
  return undefined;
}

async function continuation(model: CausalLM, prompt: readonly number[], count: number): Promise<number[]> {
  const output = await model.generate({
    input_ids: ids(prompt),
    max_new_tokens: count,
    do_sample: false,
    eos_token_id: [],
  });
  return (output.tolist()[0] as bigint[]).slice(prompt.length).map(Number);
}

describe.skipIf(missing)("the real Gemma 3 270M in float32", () => {
  let model: CausalLM;
  let tokenizer: PreTrainedTokenizer;
  beforeAll(async () => {
    [model, tokenizer] = await Promise.all([
      AutoModelForCausalLM.from_pretrained(file!, { dtype: "fp32" }),
      AutoTokenizer.from_pretrained(file!),
    ]);
  });
  afterAll(() => model?.dispose());

  for (const prompt of reference?.prompts ?? []) {
    it(`${prompt.name}: ids, log-likelihood and greedy tokens equal HF's`, async () => {
      expect(tokenizer.encode(prompt.text)).toEqual(prompt.ids);
      const total = (await tokenLogprobs(model, prompt.ids)).reduce((sum, value) => sum + value, 0);
      expect(Math.abs(total / prompt.total_logprob - 1)).toBeLessThan(0.001);
      const got = await continuation(model, prompt.ids, prompt.greedy.ids.length);
      expect(firstWrongStep(got, prompt.greedy)).toBeUndefined();
    });
  }
});

describe.skipIf(missing)("the real Gemma 3 270M in its file's own precision", () => {
  let model: CausalLM;
  beforeAll(async () => {
    model = await AutoModelForCausalLM.from_pretrained(file!);
  });
  afterAll(() => model?.dispose());

  it("has the reference's perplexity within 1%", async () => {
    const logprobs = await tokenLogprobs(model, reference!.perplexity.ids);
    const perplexity = Math.exp(-logprobs.reduce((sum, value) => sum + value, 0) / logprobs.length);
    console.info(`perplexity of the reference text: ${perplexity.toFixed(4)} (HF, float32: 14.4648)`);
    expect(Math.abs(perplexity / 14.464784 - 1)).toBeLessThan(0.01);
  });

  it("leaves the event loop free while it generates", async () => {
    await continuation(model, [2, 818, 5279], 4);
    const delay = monitorEventLoopDelay({ resolution: 1 });
    let ticks = 0;
    const timer = setInterval(() => ticks++, 5);
    delay.enable();
    await continuation(model, reference!.prompts.find(({ name }) => name === "long-a")!.ids, 64);
    delay.disable();
    clearInterval(timer);
    console.info(
      `event loop delay: p99 ${(delay.percentile(99) / 1e6).toFixed(1)} ms, max ${(delay.max / 1e6).toFixed(1)} ms`,
    );
    // Two runs for the prompt and one for each token: a loop that they blocked would tick once between two of them.
    expect(ticks).toBeGreaterThan(2 * 66);
  });
});
