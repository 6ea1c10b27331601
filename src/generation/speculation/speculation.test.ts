import { describe, expect, it } from "vitest";
import {
  type FakeCache,
  FakeDecoder,
  FakeTokenizer,
  hashTable,
  scriptTable,
  type Table,
} from "../../../test/support/fake-decoder.ts";
import type { Tensor } from "../../tensor.ts";
import { type GenerateOptions, generate } from "../generate.ts";
import { GenerationConfig } from "../generation-config.ts";
import { LogitsProcessor } from "../logits-processors/base.ts";
import type { GenerateOutput } from "../output.ts";
import { Random } from "../sampling.ts";
import { StoppingCriteria } from "../stopping.ts";
import { BaseStreamer } from "../streamer.ts";

const VOCAB = 40;

/** A model that looks back only two tokens, so that its text runs in circles and guesses are often right. */
function forgetful(seed: number): Table {
  const table = hashTable(VOCAB, seed);
  return (history) => table(history.slice(-2));
}

/** Repeats what stands `period` tokens before, except that now and then it does not. */
function copying(period: number, seed: number): Table {
  const table = hashTable(VOCAB, seed);
  return (history) => {
    const logits = Array.from(table(history));
    const copied = history.at(-period);
    if (copied !== undefined && logits[0]! > -2.5) logits[copied]! += 8;
    return logits;
  };
}

class Log extends BaseStreamer {
  readonly events: string[] = [];
  override put(value: bigint[][]): void {
    this.events.push(value.map((row) => row.join(" ")).join("/"));
  }
  override end(): void {
    this.events.push("end");
  }
}

/** Penalises by how often it was called: any call more or less changes the text. */
class Counting extends LogitsProcessor {
  readonly seen: string[] = [];
  override _call(input_ids: bigint[][], logits: Tensor): Tensor {
    this.seen.push(input_ids[0]!.join(" "));
    (logits.data as Float32Array)[this.seen.length % VOCAB]! += 3;
    return logits;
  }
}

class Watching extends StoppingCriteria {
  readonly seen: string[] = [];
  override _call(input_ids: bigint[][]): boolean[] {
    this.seen.push(input_ids[0]!.join(" "));
    return [false];
  }
}

/** All that comes out of a call, and what it took. */
async function outcome(
  table: Table,
  options: GenerateOptions,
): Promise<{ result: Record<string, unknown>; runs: number; decoder: FakeDecoder }> {
  const decoder = new FakeDecoder(VOCAB, table);
  const streamer = new Log();
  const [processor, criterion] = [new Counting(), new Watching()];
  const output = (await generate(decoder, {
    return_dict_in_generate: true,
    output_scores: true,
    output_logits: true,
    output_hidden_states: true,
    eos_token_id: [],
    logits_processor: processor,
    stopping_criteria: criterion,
    streamer,
    ...options,
  })) as GenerateOutput;
  const cache = output.past_key_values as FakeCache;
  const list = (tensors: readonly Tensor[]): unknown =>
    tensors.map((tensor) => [tensor.dims, Array.from(tensor.data as Float32Array)]);
  return {
    result: {
      ids: Array.from(output.sequences.data as BigInt64Array, Number),
      scores: list(output.scores!),
      logits: list(output.logits!),
      hidden_states: output.hidden_states!.map(list),
      cache: cache.history,
      events: streamer.events,
      processor: processor.seen,
      criterion: criterion.seen,
    },
    runs: decoder.steps.length,
    decoder,
  };
}

/** Prompts and options as a seed draws them. */
function randomCase(seed: number): { table: Table; options: GenerateOptions; lookup: GenerateOptions } {
  const random = new Random(seed);
  const below = (n: number): number => Math.floor(random.next() * n);
  const prompt = Array.from({ length: 1 + below(30) }, () => below(VOCAB));
  const table = below(2) === 0 ? forgetful(seed) : copying(1 + below(9), seed);
  const tokenizer = new FakeTokenizer([]);
  const extras: GenerateOptions[] = [
    {},
    { repetition_penalty: 1.3 },
    { no_repeat_ngram_size: 3 },
    { min_new_tokens: 9, eos_token_id: [below(VOCAB), below(VOCAB), below(VOCAB), below(VOCAB)] },
    { eos_token_id: [below(VOCAB), below(VOCAB)], pad_token_id: 0 },
    { max_new_tokens: 1 + below(5) },
    { tokenizer, stop_strings: [String.fromCharCode(below(VOCAB)) + String.fromCharCode(below(VOCAB))] },
    { exponential_decay_length_penalty: [4, 1.2], eos_token_id: [below(VOCAB)] },
    { do_sample: true, seed, temperature: 0.6, top_k: 5 },
    { do_sample: true, seed, top_k: 0, top_p: 0.8, repetition_penalty: 1.1 },
    { input_ids: [[0, 0, ...prompt]], attention_mask: [[0, 0, ...prompt.map(() => 1)]] },
    { input_ids: [[...prompt, 0, 0]], attention_mask: [[...prompt.map(() => 1), 0, 0]] },
    { prefill_chunk_size: 1 + below(4) },
    { cache_implementation: "static" },
  ];
  return {
    table,
    options: { input_ids: [prompt], max_new_tokens: 30 + below(30), ...extras[seed % extras.length] },
    lookup: { prompt_lookup_num_tokens: 1 + below(12), max_matching_ngram_size: 1 + below(4) },
  };
}

describe("prompt lookup", () => {
  it("changes nothing but the number of runs", async () => {
    let [plainRuns, runs] = [0, 0];
    for (let seed = 0; seed < 70; seed++) {
      const { table, options, lookup } = randomCase(seed);
      const plain = await outcome(table, options);
      const guessed = await outcome(table, { ...options, ...lookup });
      expect(guessed.result, `seed ${seed}`).toEqual(plain.result);
      plainRuns += plain.runs;
      runs += guessed.runs;
    }
    expect(runs).toBeLessThan(0.9 * plainRuns);
  });

  const input_ids = [[7, 8, 9, 10, 11, 12, 13, 14, 7]];
  const circle = scriptTable(VOCAB, (history) => (history.at(-1)! < 14 ? history.at(-1)! + 1 : 7));

  it("looks up what followed, and goes no further than the text may", async () => {
    const { decoder } = await outcome(circle, {
      input_ids,
      max_new_tokens: 14,
      prompt_lookup_num_tokens: 5,
      logits_processor: null,
    });
    expect(decoder.steps.map(([row]) => row)).toEqual([
      input_ids[0],
      [8, 9, 10, 11, 12, 13],
      [14, 7, 8, 9, 10, 11],
      // 13 of 14 tokens are there: the last needs no guess.
      [12],
    ]);
  });

  it("does plain steps where nothing is found", async () => {
    const counting = scriptTable(VOCAB, (history) => history.length);
    const { decoder } = await outcome(counting, {
      input_ids: [[30, 31]],
      max_new_tokens: 20,
      prompt_lookup_num_tokens: 8,
      logits_processor: null,
    });
    expect(decoder.steps.map(([row]) => row!.length)).toEqual([2, ...new Array<number>(19).fill(1)]);
  });

  it("guesses less after wrong guesses, more after right ones", async () => {
    const prompt = [1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8];
    // Each time 1 to 8 are gone through, 9 comes behind 2 once: what was looked up is wrong from there.
    const table = scriptTable(VOCAB, (history) => {
      if (history.length === 18) return 9;
      if (history.at(-1) === 9) return 1;
      return history.at(-1)! < 8 ? history.at(-1)! + 1 : 1;
    });
    const { decoder } = await outcome(table, {
      input_ids: [prompt],
      max_new_tokens: 24,
      prompt_lookup_num_tokens: 7,
      logits_processor: null,
    });
    const lengths = decoder.steps.slice(1).map(([row]) => row!.length - 1);
    // 1 of 7 right; nothing stood behind 9; then twice as many each time.
    expect(lengths.slice(0, 5)).toEqual([7, 0, 2, 4, 7]);
  });

  it("prefers the place whose context is alike the furthest", async () => {
    const prompt = [5, 1, 2, 20, 6, 1, 2, 21, 7, 1, 2, 22, 6, 1];
    const { decoder } = await outcome(
      scriptTable(VOCAB, (history) => (history.at(-1) === 1 ? 2 : 21)),
      { input_ids: [prompt], max_new_tokens: 4, prompt_lookup_num_tokens: 1, logits_processor: null },
    );
    expect(decoder.steps[1]).toEqual([[2, 21]]);
  });

  it("does not guess behind an end token", async () => {
    const { decoder } = await outcome(circle, {
      input_ids,
      max_new_tokens: 30,
      eos_token_id: 11,
      prompt_lookup_num_tokens: 10,
      logits_processor: null,
    });
    expect(decoder.steps.map(([row]) => row)).toEqual([input_ids[0], [8, 9, 10, 11]]);
  });

  it("takes a cache in, with the whole sequence or the rest of it, and hands it out", async () => {
    for (const continues of [false, true]) {
      const results = [];
      for (const lookup of [{}, { prompt_lookup_num_tokens: 4 }]) {
        const decoder = new FakeDecoder(VOCAB, forgetful(5));
        const first = (await generate(decoder, {
          input_ids: [[3, 14, 15]],
          max_new_tokens: 20,
          return_dict_in_generate: true,
          ...lookup,
        })) as GenerateOutput;
        const ids = Array.from(first.sequences.data as BigInt64Array, Number);
        expect((first.past_key_values as FakeCache).history).toEqual([ids.slice(0, -1)]);
        const second = (await generate(decoder, {
          input_ids: [continues ? [ids.at(-1)!, 3] : [...ids, 3]],
          ...(continues && { attention_mask: [new Array<number>(ids.length + 1).fill(1)] }),
          past_key_values: first.past_key_values!,
          max_new_tokens: 20,
          ...lookup,
        })) as Tensor;
        results.push([
          ids,
          Array.from(second.data as BigInt64Array),
          (first.past_key_values as FakeCache).history,
        ]);
      }
      expect(results[1]).toEqual(results[0]);
    }
  });

  it("leaves no guess in the caller's cache when something fails, and passes the signal on", async () => {
    const decoder = new FakeDecoder(VOCAB, circle);
    const cache = decoder.createCache(1, 0);
    const failing = (ids: unknown, logits: Tensor): Tensor => {
      if ((ids as bigint[][])[0]!.length === 12) throw new Error("no more");
      return logits;
    };
    const options = { input_ids, past_key_values: cache, prompt_lookup_num_tokens: 5, max_new_tokens: 20 };
    await expect(generate(decoder, { ...options, logits_processor: failing as never })).rejects.toThrow(
      "no more",
    );
    expect(cache.history).toEqual([[...input_ids[0]!, 8, 9]]);
    const abort = new AbortController();
    decoder.onStep = () => abort.abort(new Error("enough"));
    await expect(
      generate(decoder, { ...options, past_key_values: null, signal: abort.signal }),
    ).rejects.toThrow("enough");
  });
});

describe("an assistant", () => {
  const plainOptions = { input_ids: [[3, 14, 15]], max_new_tokens: 40, logits_processor: null };

  it("changes nothing but the number of runs, whatever it guesses", async () => {
    for (let seed = 0; seed < 42; seed++) {
      const { table, options } = randomCase(seed);
      const greedy = { ...options, do_sample: false, top_p: null, top_k: null, temperature: null };
      const plain = await outcome(table, greedy);
      const others = [table, forgetful(seed), hashTable(VOCAB, seed + 1)];
      const assistant = new FakeDecoder(VOCAB, others[seed % 3]);
      const guessed = await outcome(table, {
        ...greedy,
        assistant_model: { decoder: assistant },
        num_assistant_tokens: 1 + (seed % 7),
        assistant_confidence_threshold: seed % 2 === 0 ? 0 : 0.3,
        num_assistant_tokens_schedule: seed % 5 === 0 ? "heuristic_transient" : "constant",
      });
      expect(guessed.result, `seed ${seed}`).toEqual(plain.result);
      expect(assistant.caches.every((cache) => cache.disposed)).toBe(true);
      // Wrong guesses left its cache; those of the last draft may still be there.
      const held = assistant.caches[0]?.history[0]?.slice(0, -(1 + (seed % 7))) ?? [];
      const settled = (guessed.result.cache as number[][])[0]!;
      expect(held).toEqual(settled.slice(0, held.length));
    }
  });

  it("that is the model itself is always right", async () => {
    const table = hashTable(VOCAB);
    const assistant = new FakeDecoder(VOCAB, table);
    const { decoder } = await outcome(table, {
      ...plainOptions,
      assistant_model: { decoder: assistant },
      num_assistant_tokens: 12,
      assistant_confidence_threshold: 0,
    });
    expect(decoder.steps.map(([row]) => row!.length)).toEqual([3, 13, 13, 13]);
    // Each token but the last of a draft is computed once; that and the model's own come together.
    expect(assistant.steps.flat(2).length).toBeLessThanOrEqual(3 + 40);
  });

  it("honours its own configuration, which the call overrules", async () => {
    const table = hashTable(VOCAB);
    const lengths = async (config: object, options: GenerateOptions = {}): Promise<number[]> => {
      const generation_config = new GenerationConfig({ assistant_confidence_threshold: 0, ...config });
      const assistant_model = { decoder: new FakeDecoder(VOCAB, table), generation_config };
      const { decoder } = await outcome(table, { ...plainOptions, assistant_model, ...options });
      lastConfig = generation_config;
      return decoder.steps.slice(1).map(([row]) => row!.length - 1);
    };
    let lastConfig = new GenerationConfig();
    expect(await lengths({})).toEqual([20, 17]);
    expect((await lengths({ num_assistant_tokens: 5 })).slice(0, 6)).toEqual([5, 5, 5, 5, 5, 5]);
    expect((await lengths({ num_assistant_tokens: 5 }, { num_assistant_tokens: 8 }))[0]).toBe(8);
    const heuristic = { num_assistant_tokens: 3, num_assistant_tokens_schedule: "heuristic" };
    expect((await lengths(heuristic)).slice(0, 4)).toEqual([3, 5, 7, 9]);
    expect(lastConfig.num_assistant_tokens).toBeGreaterThanOrEqual(11);
    await lengths({ ...heuristic, num_assistant_tokens_schedule: "heuristic_transient" });
    expect(lastConfig.num_assistant_tokens).toBe(3);
    // Logits within [-4, 4) never make a token so sure.
    expect(Math.max(...(await lengths({ assistant_confidence_threshold: 1 })))).toBe(1);
  });

  it("guesses less when it was wrong, where the schedule says so", async () => {
    const table = hashTable(VOCAB);
    const assistant_model = {
      decoder: new FakeDecoder(
        VOCAB,
        scriptTable(VOCAB, () => 0),
      ),
    };
    const { decoder } = await outcome(table, {
      ...plainOptions,
      assistant_model,
      num_assistant_tokens: 4,
      num_assistant_tokens_schedule: "heuristic_transient",
    });
    expect(decoder.steps.slice(1, 6).map(([row]) => row!.length - 1)).toEqual([4, 3, 2, 1, 1]);
  });

  it("never has more guesses out than a cache can take back", async () => {
    const table = hashTable(VOCAB);
    const options = {
      assistant_model: { decoder: new FakeDecoder(VOCAB, table) },
      num_assistant_tokens: 500,
    };
    const { decoder } = await outcome(table, {
      ...plainOptions,
      max_new_tokens: 300,
      assistant_confidence_threshold: 0,
      ...options,
    });
    expect(Math.max(...decoder.steps.map(([row]) => row!.length))).toBe(65);
  });

  it("draws with the probabilities of plain sampling", async () => {
    const vocab = 5;
    const [target, other] = [hashTable(vocab, 1), hashTable(vocab, 2)];
    const softer = (history: readonly number[]) => Array.from(target(history), (x) => 0.3 * x);
    // Exact probabilities of all texts of three tokens.
    const warp = { temperature: 1.5, top_k: 4 };
    const exact = new Map<string, number>();
    const walk = (text: number[], probability: number): void => {
      if (text.length === 3) return void exact.set(text.join(), probability);
      const logits = Array.from(target([0, ...text]), (x) => x / warp.temperature);
      const least = [...logits].sort((a, b) => b - a)[warp.top_k - 1]!;
      const weights = logits.map((x) => (x >= least ? Math.exp(x) : 0));
      const total = weights.reduce((a, b) => a + b);
      weights.forEach((weight, token) => {
        if (weight > 0) walk([...text, token], (probability * weight) / total);
      });
    };
    walk([], 1);
    const N = 1000;
    for (const table of [softer, other]) {
      const counts = new Map<string, number>();
      const decoder = new FakeDecoder(vocab, target);
      for (let seed = 0; seed < N; seed++) {
        const ids = (await generate(decoder, {
          input_ids: [[0]],
          max_new_tokens: 4,
          eos_token_id: [],
          do_sample: true,
          seed,
          ...warp,
          assistant_model: { decoder: new FakeDecoder(vocab, table) },
          num_assistant_tokens: 3,
          assistant_confidence_threshold: 0.2,
        })) as Tensor;
        const text = Array.from(ids.data as BigInt64Array, Number)
          .slice(1, 4)
          .join();
        counts.set(text, (counts.get(text) ?? 0) + 1);
      }
      let chiSquare = 0;
      for (const [text, p] of exact) chiSquare += ((counts.get(text) ?? 0) - N * p) ** 2 / (N * p);
      expect([...counts.keys()].every((text) => exact.has(text))).toBe(true);
      // 64 texts: the mean is 63, its standard deviation 11.2; the seeds are fixed.
      expect(chiSquare).toBeLessThan(63 + 4 * 11.2);
    }
  });
});

describe("what can't be done", () => {
  const assistant_model = { decoder: new FakeDecoder(VOCAB) };
  const refused: [string, GenerateOptions, RegExp][] = [
    ["input_ids", { input_ids: [[1], [2]], prompt_lookup_num_tokens: 3 }, /one row of input_ids, got 2/],
    ["num_beams", { num_beams: 2, assistant_model }, /assistant_model needs greedy/],
    ["num_return_sequences", { do_sample: true, num_return_sequences: 2, assistant_model }, /got 2/],
    ["use_cache", { use_cache: false, prompt_lookup_num_tokens: 3 }, /a cache/],
    ["assistant_model", { assistant_model: {} as never }, /loaded model/],
    [
      "assistant_model",
      { assistant_model: { decoder: new FakeDecoder(VOCAB + 1) } },
      /vocabulary of 41 tokens, the model one of 40/,
    ],
    ["assistant_tokenizer", { assistant_tokenizer: {} } as GenerateOptions, /isn't supported yet/],
  ];
  it.each(refused)("%s: %#", async (option, options, message) => {
    const error = await generate(new FakeDecoder(VOCAB), { input_ids: [[1]], ...options }).catch(
      (e: unknown) => e,
    );
    expect(error).toMatchObject({ name: "InputError", option, message: expect.stringMatching(message) });
  });

  it("remarks on options without effect", async () => {
    const remarks = async (options: GenerateOptions): Promise<string[]> => {
      const said: string[] = [];
      const call = { input_ids: [[1]], max_new_tokens: 1, ...options };
      await generate(new FakeDecoder(VOCAB), call, { warn: (message) => said.push(message) });
      return said;
    };
    expect(await remarks({ num_assistant_tokens: 3 })).toEqual([
      "num_assistant_tokens: no effect without assistant_model",
    ]);
    expect(await remarks({ max_matching_ngram_size: 3 })).toEqual([
      "max_matching_ngram_size: no effect without prompt_lookup_num_tokens",
    ]);
    expect(await remarks({ assistant_model, prompt_lookup_num_tokens: 3 })).toEqual([
      "assistant_model: no effect beside prompt_lookup_num_tokens",
    ]);
    expect(await remarks({ assistant_model, num_assistant_tokens: 3 })).toEqual([]);
  });
});
