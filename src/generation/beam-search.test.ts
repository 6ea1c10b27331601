import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { FakeDecoder, hashTable } from "../../test/support/fake-decoder.ts";
import { InputError } from "../errors.ts";
import type { Tensor } from "../tensor.ts";
import { generate } from "./generate.ts";
import type { GenerationOptions } from "./generation-config.ts";
import { LogitsProcessor } from "./logits-processors/base.ts";

interface OracleCase {
  readonly table: number[][][];
  readonly input_ids: number[][];
  readonly options: GenerationOptions;
  readonly sequences: number[][];
  readonly sequences_scores: number[];
}

/** Made by tools/oracle/beam_search.py. */
const fixture = new URL("../../test/fixtures/beam-search.json", import.meta.url);
const CASES = JSON.parse(readFileSync(fixture, "utf8")) as OracleCase[];

describe("beam search", () => {
  it.each(CASES.map((test, number) => [number, test] as const))(
    "follows HF's rules: case %i",
    async (_, test) => {
      const table = (history: readonly number[]): number[] =>
        test.table[history.length % test.table.length]![history.at(-1)!]!;
      const decoder = new FakeDecoder(7, table);
      const output = await generate(decoder, {
        input_ids: test.input_ids,
        attention_mask: test.input_ids.map((row) => row.map(() => 1)),
        ...test.options,
        return_dict_in_generate: true,
      });
      expect(rows(output.sequences)).toEqual(test.sequences);
      const scores = output.sequences_scores!.data as Float32Array;
      test.sequences_scores.forEach((score, i) => {
        expect(scores[i]).toBeCloseTo(score, 4);
      });
    },
  );

  it("finds the best of all sequences when it is wide enough", async () => {
    for (const seed of [1, 2, 3]) {
      const decoder = new FakeDecoder(4, hashTable(4, seed));
      const table = hashTable(4, seed);
      const options = { num_beams: 64, max_new_tokens: 3, eos_token_id: [], length_penalty: 0 } as const;
      const output = await generate(decoder, {
        input_ids: [[1, 2]],
        ...options,
        return_dict_in_generate: true,
      });
      let best = { score: Number.NEGATIVE_INFINITY, ids: [] as number[] };
      for (let n = 0; n < 64; n++) {
        const ids = [n >> 4, (n >> 2) & 3, n & 3];
        const score = ids.reduce((sum, id, i) => {
          const logits = Array.from(table([1, 2, ...ids.slice(0, i)]));
          return sum + logits[id]! - Math.log(logits.reduce((total, x) => total + Math.exp(x), 0));
        }, 0);
        if (score > best.score) best = { score, ids };
      }
      expect(rows(output.sequences)[0]).toEqual([1, 2, ...best.ids]);
      expect((output.sequences_scores!.data as Float32Array)[0]).toBeCloseTo(best.score, 4);
    }
  });

  it("gives each row of a padded batch what it gives it alone, and computes prompts once", async () => {
    const prompts = [
      [3, 1, 4, 1, 5],
      [2, 6],
      [5, 3, 5],
    ];
    const options = { num_beams: 3, max_new_tokens: 5, eos_token_id: [7], pad_token_id: 0 };
    const alone = await Promise.all(
      prompts.map((row) => generate(new FakeDecoder(9), { input_ids: [row], ...options })),
    );
    const decoder = new FakeDecoder(9);
    const together = await generate(decoder, { input_ids: prompts, ...options });
    expect(decoder.steps[0]).toEqual(prompts);
    rows(together).forEach((row, r) => {
      const own = rows(alone[r]!)[0]!.slice(prompts[r]!.length);
      expect(row.slice(5, 5 + own.length)).toEqual(own);
    });
  });

  it("is the same without a cache, with processors, and reports where tokens come from", async () => {
    const options = {
      input_ids: [[1, 2, 3]],
      num_beams: 4,
      num_return_sequences: 2,
      max_new_tokens: 6,
      eos_token_id: 7,
      repetition_penalty: 1.5,
      output_scores: true,
      return_dict_in_generate: true,
    } as const;
    const cached = await generate(new FakeDecoder(9), options);
    const uncached = await generate(new FakeDecoder(9), { ...options, use_cache: false });
    expect(rows(cached.sequences)).toEqual(rows(uncached.sequences));
    expect(uncached.past_key_values).toBeUndefined();
    expect(cached.past_key_values!.batch).toBe(4);
    // The scores of the tokens, found through beam_indices, add up to the sequence's.
    const [row] = rows(cached.sequences);
    const from = rows(cached.beam_indices!)[0]!.filter((index) => index >= 0);
    const sum = from.reduce(
      (total, index, step) =>
        total + (cached.scores![step]!.at(index)!.data as Float32Array)[row![3 + step]!]!,
      0,
    );
    expect((cached.sequences_scores!.data as Float32Array)[0]).toBeCloseTo(sum / from.length, 4);
  });

  it("samples beams repeatably", async () => {
    const run = async (seed: number): Promise<number[][]> =>
      rows(
        await generate(new FakeDecoder(40), {
          input_ids: [[1, 2]],
          num_beams: 3,
          num_return_sequences: 3,
          do_sample: true,
          temperature: 2,
          top_k: 20,
          max_new_tokens: 6,
          seed,
        }),
      );
    expect(await run(1)).toEqual(await run(1));
    expect(await run(1)).not.toEqual(await run(2));
  });

  it("keeps to what a processor leaves, even if that is a single token", async () => {
    class Only extends LogitsProcessor {
      override _call(_ids: bigint[][], logits: Tensor): Tensor {
        for (const row of logits) {
          const kept = (row.data as Float32Array)[5]!;
          row.data.fill(Number.NEGATIVE_INFINITY as never);
          row.data[5] = kept;
        }
        return logits;
      }
    }
    const options = { input_ids: [[1]], num_beams: 2, max_new_tokens: 3, logits_processor: [new Only()] };
    expect(rows(await generate(new FakeDecoder(8), options))).toEqual([[1, 5, 5, 5]]);
  });

  it("refuses a streamer and more sequences than beams", async () => {
    const decoder = new FakeDecoder(9);
    const streamer = { put: () => undefined, end: () => undefined, fail: () => undefined };
    await expect(generate(decoder, { input_ids: [[1]], num_beams: 2, streamer })).rejects.toThrow(InputError);
    await expect(
      generate(decoder, { input_ids: [[1]], num_beams: 2, num_return_sequences: 3 }),
    ).rejects.toMatchObject({ option: "num_return_sequences" });
  });
});

function rows(ids: Tensor): number[][] {
  return ids.tolist().map((row) => (row as (number | bigint)[]).map(Number));
}
