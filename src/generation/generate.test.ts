import { describe, expect, it } from "vitest";
import {
  type FakeCache,
  FakeDecoder,
  FakeTokenizer,
  hashTable,
  scriptTable,
} from "../../test/support/fake-decoder.ts";
import { InputError } from "../errors.ts";
import { Tensor } from "../tensor.ts";
import { type GenerateOptions, generate } from "./generate.ts";
import { GenerationConfig } from "./generation-config.ts";
import { LogitsProcessor, LogitsProcessorList } from "./logits-processors/base.ts";
import { RepetitionPenaltyLogitsProcessor } from "./logits-processors/repetition.ts";
import { InterruptableStoppingCriteria, MaxLengthCriteria, StoppingCriteria } from "./stopping.ts";
import { BaseStreamer, TextIteratorStreamer } from "./streamer.ts";

const VOCAB = 50;
const PROMPTS = [
  [3, 14, 15, 9, 26],
  [5, 35],
  [8, 9, 7],
];

/** What greedy decoding is, in five lines. */
function greedy(prompt: readonly number[], count: number, eos: readonly number[] = []): number[] {
  const ids = [...prompt];
  while (ids.length < prompt.length + count && !(ids.length > prompt.length && eos.includes(ids.at(-1)!))) {
    const logits = Array.from(hashTable(VOCAB)(ids));
    ids.push(logits.indexOf(Math.max(...logits)));
  }
  return ids;
}

async function run(
  options: GenerateOptions,
  decoder: FakeDecoder = new FakeDecoder(VOCAB),
): Promise<number[][]> {
  return rows((await generate(decoder, options)) as Tensor);
}

function rows(ids: Tensor): number[][] {
  return ids.tolist().map((row) => (row as bigint[]).map(Number));
}

describe("greedy decoding", () => {
  it("feeds the prompt once, then token by token", async () => {
    const decoder = new FakeDecoder(VOCAB);
    const ids = await generate(decoder, {
      input_ids: new Tensor("int64", [3, 14, 15], [1, 3]),
      max_new_tokens: 4,
    });
    expect([ids.type, ids.dims]).toEqual(["int64", [1, 7]]);
    expect(rows(ids)).toEqual([greedy([3, 14, 15], 4)]);
    expect(decoder.steps.map((step) => step[0]!.length)).toEqual([3, 1, 1, 1]);
    expect(decoder.caches.every((cache) => cache.disposed)).toBe(true);
  });

  it.each([
    [
      "left",
      [
        [3, 14, 15, 9, 26],
        [0, 0, 0, 5, 35],
        [0, 0, 8, 9, 7],
      ],
    ],
    [
      "right",
      [
        [3, 14, 15, 9, 26],
        [5, 35, 0, 0, 0],
        [8, 9, 7, 0, 0],
      ],
    ],
  ])("gives rows padded at the %s what they get alone", async (side, input_ids) => {
    const attention_mask = input_ids.map((row) => row.map((id) => (id === 0 ? 0 : 1)));
    const decoder = new FakeDecoder(VOCAB);
    for (const given of [{ attention_mask }, { pad_token_id: 0, eos_token_id: [] }]) {
      const out = await run({ input_ids, ...given, max_new_tokens: 6 }, decoder);
      out.forEach((row, r) => {
        expect(row).toEqual([...input_ids[r]!, ...greedy(PROMPTS[r]!, 6).slice(PROMPTS[r]!.length)]);
      });
    }
    expect(decoder.steps[0]).toEqual(PROMPTS);
    expect(side).toBeTypeOf("string");
  });

  it("pads rows of different lengths itself, and takes one row without brackets", async () => {
    const out = await run({ input_ids: PROMPTS, pad_token_id: 49, max_new_tokens: 3 });
    expect(out[1]).toEqual([49, 49, 49, ...greedy([5, 35], 3)]);
    expect(await run({ input_ids: [3, 14], max_new_tokens: 3 })).toEqual([greedy([3, 14], 3)]);
    expect(await run({ input_ids: [[3n, 14n]], max_new_tokens: 3 })).toEqual([greedy([3, 14], 3)]);
    expect(await run({ bos_token_id: 2, max_new_tokens: 3 })).toEqual([greedy([2], 3)]);
  });

  it("leaves rows alone once they have ended", async () => {
    const eos_token_id = [greedy(PROMPTS[0]!, 3).at(-1)!, greedy(PROMPTS[1]!, 6).at(-1)!];
    const decoder = new FakeDecoder(VOCAB);
    const out = await run({ input_ids: PROMPTS, pad_token_id: 0, eos_token_id, max_new_tokens: 12 }, decoder);
    out.forEach((row, r) => {
      const own = greedy(PROMPTS[r]!, 12, eos_token_id).slice(PROMPTS[r]!.length);
      expect(row.slice(5)).toEqual([...own, ...new Array<number>(row.length - 5 - own.length).fill(0)]);
    });
    const ended = out.map((row) => row.slice(5).findIndex((id) => eos_token_id.includes(id)) + 1);
    expect(ended[0]).toBeLessThanOrEqual(3);
    decoder.steps.slice(1).forEach((step, s) => {
      step.forEach((row, r) => {
        expect(row.length, `step ${s + 1}, row ${r}`).toBe(ended[r]! > 0 && ended[r]! <= s + 1 ? 0 : 1);
      });
    });
  });

  it("is not stopped by anything with eos_token_id []", async () => {
    const generation_config = GenerationConfig.from_object({ eos_token_id: greedy([4], 2).at(-1) });
    const stopped = await generate(
      new FakeDecoder(VOCAB),
      { input_ids: [[4]], max_new_tokens: 9 },
      { generation_config },
    );
    const free = await generate(
      new FakeDecoder(VOCAB),
      { input_ids: [[4]], max_new_tokens: 9, eos_token_id: [] },
      { generation_config },
    );
    expect([(stopped as Tensor).dims[1], (free as Tensor).dims[1]]).toEqual([3, 10]);
  });

  it("computes prompts in chunks, and without a cache, with equal results", async () => {
    const expected = await run({ input_ids: PROMPTS, max_new_tokens: 4 });
    const decoder = new FakeDecoder(VOCAB);
    expect(await run({ input_ids: PROMPTS, max_new_tokens: 4, prefill_chunk_size: 2 }, decoder)).toEqual(
      expected,
    );
    expect(decoder.steps.slice(0, 3)).toEqual([
      [[3, 14], [], []],
      [[15, 9], [5], [8, 9]],
      [[26], [35], [7]],
    ]);
    expect(await run({ input_ids: PROMPTS, max_new_tokens: 4, use_cache: false })).toEqual(expected);
  });
});

describe("lengths", () => {
  it("defaults to 20 new tokens, within the model's positions", async () => {
    expect((await run({ input_ids: [[1, 2]] }))[0]).toHaveLength(22);
    const short = await generate(
      new FakeDecoder(VOCAB),
      { input_ids: [[1, 2]] },
      { max_position_embeddings: 10 },
    );
    expect((short as Tensor).dims).toEqual([1, 10]);
  });

  it("counts the prompt in max_length, not in max_new_tokens, which wins", async () => {
    expect((await run({ input_ids: [[1, 2]], max_length: 5 }))[0]).toHaveLength(5);
    const warn: string[] = [];
    const options = { input_ids: [[1, 2]], max_length: 50, max_new_tokens: 1 };
    const both = await generate(new FakeDecoder(VOCAB), options, { warn: (message) => warn.push(message) });
    expect((both as Tensor).dims).toEqual([1, 3]);
    expect(warn.join()).toMatch(/max_length/);
    await expect(run({ input_ids: [[1, 2, 3]], max_length: 3 })).rejects.toMatchObject({
      option: "max_length",
    });
  });
});

describe("past_key_values", () => {
  it("goes out and in: only what the cache lacks is computed", async () => {
    const decoder = new FakeDecoder(VOCAB);
    const options = { max_new_tokens: 4, return_dict_in_generate: true } as const;
    const first = await generate(decoder, { input_ids: [[3, 14, 15]], ...options });
    expect(first.past_key_values!.lengths).toEqual([6]);
    const input_ids = [[...rows(first.sequences)[0]!, 7, 8]];
    decoder.steps.length = 0;
    const past_key_values = first.past_key_values!;
    const second = await generate(decoder, { input_ids, past_key_values, ...options });
    expect(decoder.steps[0]).toEqual([input_ids[0]!.slice(6)]);
    expect(rows(second.sequences)).toEqual(await run({ input_ids, max_new_tokens: 4 }));
    expect(second.past_key_values).toBe(past_key_values);
    expect((past_key_values as FakeCache).disposed).toBe(false);
  });

  it("computes the last token again when the cache holds all of the prompt", async () => {
    const decoder = new FakeDecoder(VOCAB);
    const cache = decoder.createCache(1, 10);
    await decoder.step([[3, 14, 15]], cache);
    expect(
      await run({ input_ids: [[3, 14, 15]], past_key_values: cache, max_new_tokens: 3 }, decoder),
    ).toEqual([greedy([3, 14, 15], 3)]);
    expect(decoder.steps[1]).toEqual([[15]]);
  });

  it("takes the new tokens alone where the mask covers the whole", async () => {
    const decoder = new FakeDecoder(VOCAB);
    const cache = decoder.createCache(1, 10);
    await decoder.step([[3, 14]], cache);
    const options = {
      input_ids: [[15]],
      attention_mask: [[1, 1, 1]],
      past_key_values: cache,
      max_new_tokens: 3,
    };
    expect(await run(options, decoder)).toEqual([greedy([3, 14, 15], 3).slice(2)]);
  });

  it("is checked against the prompt", async () => {
    const decoder = new FakeDecoder(VOCAB);
    const cache = decoder.createCache(2, 10);
    const error = { option: "past_key_values" };
    await expect(run({ input_ids: [[1, 2]], past_key_values: cache }, decoder)).rejects.toMatchObject(error);
    await decoder.step([[1, 2], [3]], cache);
    await expect(run({ input_ids: [[1], [3]], past_key_values: cache }, decoder)).rejects.toMatchObject(
      error,
    );
  });
});

describe("sampling", () => {
  const options = { input_ids: [[1, 2, 3]], do_sample: true, top_k: 0, max_new_tokens: 8 };

  it("repeats with a seed and differs without", async () => {
    expect(await run({ ...options, seed: 7 })).toEqual(await run({ ...options, seed: 7 }));
    expect(await run({ ...options, seed: 7 })).not.toEqual(await run({ ...options, seed: 8 }));
    expect(await run(options)).not.toEqual(await run(options));
  });

  it("computes the prompt once for several sequences, which differ", async () => {
    const decoder = new FakeDecoder(VOCAB);
    const input_ids = [
      [1, 2, 3],
      [4, 5],
    ];
    const out = await run({ ...options, input_ids, num_return_sequences: 3, seed: 1 }, decoder);
    expect(decoder.steps[0]).toHaveLength(2);
    expect(decoder.steps[1]).toHaveLength(6);
    expect(out.map((row) => row.slice(0, 3).join())).toEqual([
      "1,2,3",
      "1,2,3",
      "1,2,3",
      "0,4,5",
      "0,4,5",
      "0,4,5",
    ]);
    expect(new Set(out.map((row) => row.join())).size).toBe(6);
    await expect(run({ input_ids, num_return_sequences: 2 })).rejects.toMatchObject({
      option: "num_return_sequences",
    });
  });

  it("gives a row the same text whatever stands beside it", async () => {
    const alone = await run({ ...options, seed: 5 });
    const beside = await run({
      ...options,
      input_ids: [
        [1, 2, 3],
        [9, 9, 9],
      ],
      seed: 5,
    });
    expect(beside[0]).toEqual(alone[0]);
  });

  it("follows the warpers: top_k 1 is greedy, scores show what is left", async () => {
    expect(await run({ ...options, top_k: 1 })).toEqual([greedy([1, 2, 3], 8)]);
    const output = await generate(new FakeDecoder(VOCAB), {
      ...options,
      temperature: 0.5,
      top_k: 5,
      min_p: 0.01,
      output_scores: true,
      output_logits: true,
      return_dict_in_generate: true,
    });
    for (const [step, scores] of output.scores!.entries()) {
      const kept = Array.from(scores.data as Float32Array).filter(
        (score) => score > Number.NEGATIVE_INFINITY,
      );
      expect(kept.length).toBeLessThanOrEqual(5);
      expect(Math.max(...kept)).toBe(
        Math.max(...Array.from(output.logits![step]!.data as Float32Array)) / 0.5,
      );
    }
  });
});

describe("outputs", () => {
  it("has scores, logits and hidden states of every step, also of rows that have ended", async () => {
    const input_ids = [
      [3, 14, 15],
      [5, 35],
    ];
    const eos_token_id = greedy([5, 35], 1).at(-1)!;
    const output = await generate(new FakeDecoder(VOCAB), {
      input_ids,
      max_new_tokens: 3,
      pad_token_id: 0,
      eos_token_id,
      suppress_tokens: [4],
      output_scores: true,
      output_logits: true,
      output_hidden_states: true,
      return_dict_in_generate: true,
    });
    expect(Object.keys(output).sort()).toEqual([
      "hidden_states",
      "logits",
      "past_key_values",
      "scores",
      "sequences",
    ]);
    expect(rows(output.sequences)[1]!.slice(3)).toEqual([eos_token_id, 0, 0]);
    expect(output[0]!.tolist()).toEqual(output.sequences.at(0)!.tolist());
    expect(output.logits!.map((step) => step.dims)).toEqual(new Array(3).fill([2, VOCAB]));
    const logits = output.logits![2]!.at(1)!.data as Float32Array;
    expect(logits).toEqual(Float32Array.from(hashTable(VOCAB)([5, 35, eos_token_id, 0])));
    expect((output.scores![2]!.at(1)!.data as Float32Array)[4]).toBe(Number.NEGATIVE_INFINITY);
    expect(output.hidden_states!.map((step) => step.map((layer) => layer.dims))).toEqual([
      [
        [2, 3, 2],
        [2, 3, 2],
      ],
      [
        [2, 1, 2],
        [2, 1, 2],
      ],
      [
        [2, 1, 2],
        [2, 1, 2],
      ],
    ]);
    expect(output.hidden_states![0]![0]!.tolist()[1]).toEqual([
      [0, 0],
      [5, 1],
      [35, 2],
    ]);
  });

  it("returns no cache that does not exist", async () => {
    const options = {
      input_ids: [[1]],
      max_new_tokens: 2,
      use_cache: false,
      return_dict_in_generate: true,
    } as const;
    const output = await generate(new FakeDecoder(VOCAB), options);
    expect(Object.keys(output)).toEqual(["sequences"]);
  });
});

describe("processors and criteria of the caller", () => {
  it("applies processors, instances and functions, on ids with padding", async () => {
    const seen: bigint[][][] = [];
    class Force extends LogitsProcessor {
      override _call(input_ids: bigint[][], logits: Tensor): Tensor {
        seen.push(input_ids.map((row) => [...row]));
        for (const row of logits) (row.data as Float32Array)[input_ids[0]!.length] = 100;
        return logits;
      }
    }
    const options = { input_ids: [[3, 14], [5]], pad_token_id: 0, max_new_tokens: 3 };
    const list = new LogitsProcessorList();
    list.push(new Force());
    expect(await run({ ...options, logits_processor: list })).toEqual([
      [3, 14, 2, 3, 4],
      [0, 5, 2, 3, 4],
    ]);
    expect(seen[1]).toEqual([
      [3n, 14n, 2n],
      [0n, 5n, 2n],
    ]);
    const first = (_: unknown, logits: Tensor): Tensor =>
      new Tensor(
        "float32",
        Float32Array.from(logits.data as Float32Array, (_, i) => (i % VOCAB === 1 ? 1 : 0)),
        logits.dims,
      );
    expect((await run({ ...options, logits_processor: [first] }))[0]).toEqual([3, 14, 1, 1, 1]);
  });

  it("takes a processor of the caller instead of one of the same class", async () => {
    const own = new RepetitionPenaltyLogitsProcessor(1);
    const options = { input_ids: [[3, 14]], max_new_tokens: 8, repetition_penalty: 0.001 };
    expect(await run({ ...options, logits_processor: own })).toEqual([greedy([3, 14], 8)]);
    expect(await run(options)).not.toEqual([greedy([3, 14], 8)]);
  });

  it("says which processor returns nonsense", async () => {
    const nothing = (() => undefined) as never;
    await expect(run({ input_ids: [[1]], logits_processor: nothing })).rejects.toMatchObject({
      option: "logits_processor",
    });
    await expect(run({ input_ids: [[1]], logits_processor: [3 as never] })).rejects.toThrow(InputError);
  });

  it("stops by criteria: classes, functions, lists, a stop button", async () => {
    class Four extends StoppingCriteria {
      override _call(input_ids: bigint[][]): boolean[] {
        return input_ids.map((row) => row.length >= 4);
      }
    }
    const input_ids = [[1, 2]];
    expect((await run({ input_ids, stopping_criteria: new Four() }))[0]).toHaveLength(4);
    expect((await run({ input_ids, stopping_criteria: [new MaxLengthCriteria(6)] }))[0]).toHaveLength(6);
    expect(
      (await run({ input_ids, stopping_criteria: (ids) => (ids as bigint[][])[0]!.length > 8 }))[0],
    ).toHaveLength(9);
    const button = new InterruptableStoppingCriteria();
    const decoder = new FakeDecoder(VOCAB);
    decoder.onStep = (count) => count === 3 && button.interrupt();
    expect((await run({ input_ids, stopping_criteria: [button] }, decoder))[0]).toHaveLength(5);
    button.reset();
    expect(button.interrupted).toBe(false);
  });

  it("constrains prefixes by prompt, also with several sequences each", async () => {
    const calls: number[] = [];
    const options = {
      input_ids: [
        [1, 2],
        [3, 4],
      ],
      do_sample: true,
      num_return_sequences: 2,
      max_new_tokens: 2,
      prefix_allowed_tokens_fn: (batch_id: number, ids: bigint[]) => {
        calls.push(batch_id);
        return [batch_id * 10 + ids.length];
      },
    };
    expect(await run(options)).toEqual([
      [1, 2, 2, 3],
      [1, 2, 2, 3],
      [3, 4, 12, 13],
      [3, 4, 12, 13],
    ]);
    expect(calls.slice(0, 4)).toEqual([0, 0, 1, 1]);
  });
});

describe("stop_strings", () => {
  const tokenizer = new FakeTokenizer(["<bos>", "foo", "ba", "r!", " baz"]);
  const script = [257, 258, 259, 260, 260];
  const decoder = (): FakeDecoder =>
    new FakeDecoder(
      300,
      scriptTable(300, (history) => script[history.length - 1] ?? 260),
    );

  it("ends at the token that completes one, and needs a tokenizer", async () => {
    const input_ids = [[256]];
    expect(await run({ input_ids, stop_strings: "obar", tokenizer }, decoder())).toEqual([
      [256, 257, 258, 259],
    ]);
    expect(await run({ input_ids, stop_strings: ["zz", "z b"], tokenizer }, decoder())).toEqual([
      [256, ...script],
    ]);
    await expect(run({ input_ids, stop_strings: "x" }, decoder())).rejects.toMatchObject({
      option: "stop_strings",
    });
    const own = await generate(decoder(), { input_ids, stop_strings: "foo" }, { tokenizer });
    expect(rows(own as Tensor)).toEqual([[256, 257]]);
  });

  it("counts only matches that the last token takes part in, and those that begin in the prompt", async () => {
    const options = { tokenizer, max_new_tokens: 2 };
    expect(await run({ input_ids: [[256, 257]], stop_strings: "foo", ...options }, decoder())).toEqual([
      [256, 257, 258, 259],
    ]);
    expect(await run({ input_ids: [[256, 257]], stop_strings: "oba", ...options }, decoder())).toEqual([
      [256, 257, 258],
    ]);
  });
});

describe("streamers, signals and mistakes", () => {
  class Log extends BaseStreamer {
    readonly events: string[] = [];
    override put(value: bigint[][]): void {
      this.events.push(value.map((row) => row.join(" ")).join("/"));
    }
    override end(): void {
      this.events.push("end");
    }
  }

  it("streams the prompt, then each step", async () => {
    const streamer = new Log();
    const out = await run({ input_ids: [[1, 2], [3]], pad_token_id: 0, max_new_tokens: 2, streamer });
    expect(streamer.events).toEqual([
      "1 2/0 3",
      `${out[0]![2]}/${out[1]![2]}`,
      `${out[0]![3]}/${out[1]![3]}`,
      "end",
    ]);
  });

  it("rejects with the signal's reason, before and while it runs, and cleans up", async () => {
    const reason = new Error("enough");
    await expect(run({ input_ids: [[1]], signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    const abort = new AbortController();
    const decoder = new FakeDecoder(VOCAB);
    decoder.onStep = (count) => count === 3 && abort.abort(reason);
    const streamer = new Log();
    await expect(run({ input_ids: [[1]], signal: abort.signal, streamer }, decoder)).rejects.toBe(reason);
    expect(decoder.caches.map((cache) => cache.disposed)).toEqual([true]);
    expect(streamer.events.at(-1)).toBe("end");
  });

  it("tells readers of a streamer when options are wrong", async () => {
    const streamer = new TextIteratorStreamer(new FakeTokenizer([]));
    const failed = expect(run({ input_ids: [[1]], top_p: 2, streamer })).rejects.toThrow(InputError);
    await expect(streamer[Symbol.asyncIterator]().next()).rejects.toThrow(/top_p/);
    await failed;
  });

  it("names the nearest option, and those that are not supported yet", async () => {
    await expect(run({ input_ids: [[1]], max_new_token: 3 } as GenerateOptions)).rejects.toThrow(
      /"max_new_tokens"/,
    );
    await expect(run({ input_ids: [[1]], assistant_tokenizer: {} } as GenerateOptions)).rejects.toThrow(
      /supported yet/,
    );
  });

  it("remarks on options without effect", async () => {
    const warn: string[] = [];
    const context = { warn: (message: string) => void warn.push(message) };
    const options = {
      input_ids: [[1]],
      max_new_tokens: 1,
      top_p: 0.5,
      length_penalty: 2,
      output_scores: true,
    };
    await generate(new FakeDecoder(VOCAB), options, context);
    expect(warn).toHaveLength(3);
    warn.length = 0;
    await generate(
      new FakeDecoder(VOCAB),
      { input_ids: [[1]], max_new_tokens: 1, temperature: 1, top_k: 50 },
      context,
    );
    expect(warn).toEqual([]);
  });

  it.each([
    ["input_ids", { input_ids: [[1, VOCAB]] }],
    ["input_ids", { input_ids: [[-1]] }],
    ["input_ids", { input_ids: [] }],
    ["input_ids", { input_ids: [[1.5]] }],
    ["input_ids", { input_ids: "text" as never }],
    ["input_ids", {}],
    ["attention_mask", { input_ids: [[1, 2, 3]], attention_mask: [[1, 0, 1]] }],
    ["attention_mask", { input_ids: [[1, 2]], attention_mask: [[1, 1, 1]] }],
    ["attention_mask", { input_ids: [[1, 2]], attention_mask: [[0, 0]] }],
    ["streamer", { input_ids: [[1]], streamer: {} as never }],
  ] as [string, GenerateOptions][])("refuses a wrong %s: %j", async (option, options) => {
    await expect(run({ max_new_tokens: 1, ...options })).rejects.toMatchObject({
      name: "InputError",
      option,
    });
  });

  it("does not choose from nothing", async () => {
    const suppress_tokens = Array.from({ length: VOCAB }, (_, id) => id);
    for (const do_sample of [false, true]) {
      await expect(run({ input_ids: [[1]], suppress_tokens, do_sample })).rejects.toThrow(/rule out/);
    }
    const broken = new FakeDecoder(4, () => [0, Number.NaN, 0, 0]);
    await expect(run({ input_ids: [[1]] }, broken)).rejects.toThrow(/NaN/);
    await expect(run({ input_ids: [[1]], do_sample: true, top_k: 0 }, broken)).rejects.toThrow(/NaN/);
    expect(
      (await run({ input_ids: [[1]], remove_invalid_values: true, max_new_tokens: 1 }, broken))[0],
    ).toEqual([1, 0]);
  });
});
