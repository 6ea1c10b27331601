import { mkdtemp, readdir, rm, truncate } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { writeTinyModel } from "../../test/support/tiny-model.ts";
import { Random } from "../generation/sampling.ts";
import { type ScoredTokens, SplitHead } from "../generation/split-head.ts";
import { Tensor } from "../tensor.ts";
import { Gemma3ForCausalLM } from "./gemma3.ts";

/** Large enough for two passes. */
const CONFIG = {
  model_type: "gemma3_text",
  vocab_size: 70_000,
  hidden_size: 512,
  intermediate_size: 64,
  num_hidden_layers: 2,
  num_attention_heads: 2,
  num_key_value_heads: 1,
  head_dim: 32,
  sliding_window: 16,
  layer_types: ["sliding_attention", "full_attention"],
};
/** Rows from here on are zero, as padding of a vocabulary. */
const PADDING = 69_900;
const PROMPT = new Tensor("int64", [2, 17, 230, 41, 99, 305, 6, 77].map(BigInt), [1, 8]);

/** Random rows, some of them twice so that scores are equal, and padding. */
function table(): Float32Array {
  const { vocab_size, hidden_size } = CONFIG;
  const random = new Random(1);
  const values = new Float32Array(vocab_size * hidden_size);
  for (let i = 0; i < PADDING * hidden_size; i++)
    values[i] = (random.next() + random.next() + random.next() - 1.5) / 10;
  const half = 30_000 * hidden_size;
  values.copyWithin(half, 0, half / 2);
  return values;
}

describe.skipIf(process.platform === "win32")("two passes over the output layer", () => {
  let folder: string;
  let answers: (ScoredTokens | undefined)[];
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "lapidary-passes-"));
    vi.stubEnv("LAPIDARY_CACHE", join(folder, "cache"));
    await writeTinyModel(folder, CONFIG, { "model.embed_tokens.weight": table() });
    const { candidates } = SplitHead.prototype;
    vi.spyOn(SplitHead.prototype, "candidates").mockImplementation(async function (
      this: SplitHead,
      ...given
    ) {
      const answer = await candidates.apply(this, given);
      answers.push(answer);
      return answer;
    });
  }, 120_000);
  afterAll(async () => {
    vi.restoreAllMocks();
    vi.unstubAllEnvs();
    await rm(folder, { recursive: true });
  });

  async function generate(passes: "0" | "1", calls: readonly object[]): Promise<bigint[][]> {
    vi.stubEnv("LAPIDARY_TWO_PASS", passes);
    answers = [];
    const model = await Gemma3ForCausalLM.from_pretrained(folder, { dtype: "q8" });
    const rows: bigint[][] = [];
    for (const options of calls) {
      const { sequences } = await model.generate({
        input_ids: PROMPT,
        max_new_tokens: 24,
        eos_token_id: [],
        return_dict_in_generate: true,
        ...options,
      });
      rows.push(...(sequences.tolist() as bigint[][]));
    }
    await model.dispose();
    return rows;
  }

  const sampled = { do_sample: true, top_k: 20, top_p: 0.9, temperature: 1.5 };
  const CALLS = [
    { do_sample: false },
    { ...sampled, seed: 1 },
    { ...sampled, seed: 2, temperature: 0.3 },
    { do_sample: true, top_k: 0, min_p: 0.2, seed: 3 },
  ];

  it("choose the tokens that the whole layer gives, from the first start on", async () => {
    const whole = await generate("0", CALLS);
    expect(answers).toEqual([]);
    expect(await generate("1", CALLS)).toEqual(whole);
    // On other processors than those with AVX2, the check at the first use may say no.
    const used = answers.filter((answer) => answer !== undefined);
    if (used.length > 0) expect(used.length).toBeGreaterThan(answers.length / 4);
    // A damaged screen is made anew.
    const packs = join(folder, "cache", "packs");
    const screen = (await readdir(packs)).find((name) => name.endsWith(".screen1.safetensors"));
    await truncate(join(packs, screen!), 1000);
    expect(await generate("1", CALLS)).toEqual(whole);
  }, 240_000);

  it("leave alone what needs all logits", async () => {
    const calls = [
      { do_sample: false, output_logits: true },
      { do_sample: false, output_scores: true },
      { do_sample: false, repetition_penalty: 1.3 },
      { do_sample: true, top_k: 0, top_p: 0.8, seed: 1 },
      { num_beams: 2, do_sample: false },
      {
        do_sample: false,
        num_return_sequences: 1,
        logits_processor: [(_: unknown, logits: Tensor) => logits],
      },
    ];
    const rows = await generate("1", calls);
    expect(answers).toEqual([]);
    expect(rows).toEqual(await generate("0", calls));
  }, 240_000);

  it("work in several calls at once, and give the same number after a cancelled one", async () => {
    vi.stubEnv("LAPIDARY_TWO_PASS", "1");
    const model = await Gemma3ForCausalLM.from_pretrained(folder, { dtype: "q8" });
    const call = { input_ids: PROMPT, max_new_tokens: 12, eos_token_id: [], do_sample: false };
    const alone = await model.generate(call);
    const together = await Promise.all([model.generate(call), model.generate(call), model.generate(call)]);
    for (const rows of together) expect(rows.tolist()).toEqual(alone.tolist());
    const abort = new AbortController();
    let puts = 0;
    // The second call has the first new token.
    const streamer = { put: () => void (puts++ === 1 && abort.abort()), end() {}, fail() {} };
    await expect(model.generate({ ...call, streamer, signal: abort.signal })).rejects.toThrow("abort");
    expect((await model.generate(call)).tolist()).toEqual(alone.tolist());
    await model.dispose();
  }, 240_000);
});
