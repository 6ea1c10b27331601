import { describe, expect, it } from "vitest";
import { buildProcessors } from "./build.ts";
import { GenerationConfig } from "./generation-config.ts";
import { Random } from "./sampling.ts";
import type { CandidateWish, ScoredTokens } from "./split-head.ts";
import { TokenChooser } from "./token-chooser.ts";

const VOCABULARY = 3000;

/** Scores in steps, so that many are equal; a stretch of them as padding of the vocabulary gets. */
function scores(seed: number, step: number): Float32Array {
  const random = new Random(seed);
  const row = Float32Array.from({ length: VOCABULARY }, () => {
    const bell = random.next() + random.next() + random.next() - 1.5;
    return step === 0 ? 8 * bell : Math.round((8 * bell) / step) * step;
  });
  return row.fill(0, VOCABULARY - 100);
}

/** The fewest tokens that a wish can be answered with, and some that it did not ask for. */
function answer(row: Float32Array, { count, below }: CandidateWish, seed: number): ScoredTokens {
  const random = new Random(seed);
  const floor = Float32Array.from(row).sort().at(-count)! - below;
  const ids = [...row.keys()].filter((id) => row[id]! >= floor || random.next() < 0.01);
  return { ids: Int32Array.from(ids), logits: Float32Array.from(ids, (id) => row[id]!) };
}

function chooser(options: object, seed: number): TokenChooser {
  const config = new GenerationConfig(options);
  const build = { promptLength: 1, maxLength: 9, eos: [1], prompts: [[2n]], copies: 1 };
  const processors = buildProcessors(config, build, undefined, []);
  const do_sample = config.do_sample === true;
  return new TokenChooser(processors, {
    rows: 1,
    vocab_size: VOCABULARY,
    do_sample,
    seed,
    output_scores: false,
  });
}

const SAMPLING = { do_sample: true };

describe("tokens chosen among candidates are those chosen among all", () => {
  it.each<[string, object]>([
    ["greedily", { do_sample: false }],
    ["with top_k", { ...SAMPLING, top_k: 5 }],
    ["with top_k, top_p and a temperature", { ...SAMPLING, top_k: 64, top_p: 0.9, temperature: 0.7 }],
    ["with top_k and min_p", { ...SAMPLING, top_k: 40, min_p: 0.1, temperature: 1.4 }],
    ["with top_k and typical_p", { ...SAMPLING, top_k: 30, typical_p: 0.8 }],
    ["with min_p alone", { ...SAMPLING, top_k: 0, min_p: 0.02, temperature: 0.6 }],
    ["with min_p and top_p", { ...SAMPLING, top_k: 0, min_p: 0.3, top_p: 1, temperature: 2 }],
  ])("%s", async (_, options) => {
    for (let seed = 0; seed < 40; seed++) {
      const row = scores(seed, [0, 0.25, 1][seed % 3]!);
      const among = chooser(options, seed);
      expect(among.wish).toBeDefined();
      const { tokens } = await chooser(options, seed).choose([[2n]], [row]);
      expect(among.chooseAmong(answer(row, among.wish!, seed))).toBe(tokens[0]);
    }
  });

  it.each<[string, object]>([
    ["top_p, which sums over all", { ...SAMPLING, top_k: 0, top_p: 0.9 }],
    ["no narrowing", { ...SAMPLING, top_k: 0 }],
    ["a large top_k", { ...SAMPLING, top_k: 1000 }],
    ["a penalty", { do_sample: false, repetition_penalty: 1.2 }],
    ["a bias", { do_sample: false, sequence_bias: [[[5], 2]] }],
    ["renormalised logits", { do_sample: false, renormalize_logits: true }],
  ])("are not asked for with %s", (_, options) => {
    expect(chooser(options, 1).wish).toBeUndefined();
  });
});
