import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Cache, DynamicCache } from "../generation/cache.ts";
import { QuantizedCache } from "../generation/quantized-cache.ts";
import { StaticCache } from "../generation/static-cache.ts";
import { Tensor } from "../tensor.ts";
import { AutoModelForCausalLM } from "./auto.ts";
import type { CausalLM } from "./causal-lm.ts";

/** A window of 5 positions, heads of 12 that the kernel has as 16. */
const TINY = resolve(import.meta.dirname, "../../test/fixtures/golden-h12/gemma3_text/model");
const PROMPT = [2, 17, 230, 41, 99, 305, 6, 77, 18, 250, 31, 12, 401, 8, 56];
const SHORT = [2, 88, 14, 300];
const greedy = { max_new_tokens: 12, eos_token_id: [], do_sample: false } as const;

let model: CausalLM;
let folder: string;

beforeAll(async () => {
  model = await AutoModelForCausalLM.from_pretrained(TINY);
  folder = await mkdtemp(join(tmpdir(), "lapidary-caches-"));
});

afterAll(async () => {
  await model.dispose();
  await rm(folder, { recursive: true });
});

/** Tokens that follow each row when everything is computed anew. */
async function anew(...rows: number[][]): Promise<unknown[]> {
  const result = [];
  for (const row of rows) result.push((await model.generate({ input_ids: [row], ...greedy })).tolist()[0]);
  return result;
}

/** A cache of the rows, padded on the left where they differ in length. */
async function filled(...rows: number[][]): Promise<Cache> {
  const { ids, mask } = padded(rows);
  return (await model({ input_ids: ids, attention_mask: mask })).past_key_values!;
}

function padded(rows: readonly number[][]): { ids: number[][]; mask: number[][] } {
  const length = Math.max(...rows.map((row) => row.length));
  const zeros = (row: number[]): number[] => new Array<number>(length - row.length).fill(0);
  return {
    ids: rows.map((row) => [...zeros(row), ...row]),
    mask: rows.map((row) => [...zeros(row), ...row.map(() => 1)]),
  };
}

/** What each of the rows continues with, given a cache of their beginnings. */
async function continued(past_key_values: Cache, ...rows: number[][]): Promise<unknown[]> {
  const { ids, mask } = padded(rows);
  const sequences = await model.generate({
    input_ids: ids,
    attention_mask: mask,
    past_key_values,
    ...greedy,
  });
  const longest = ids[0]!.length;
  return sequences.tolist().map((row, r) => (row as unknown[]).slice(longest - rows[r]!.length));
}

function worst(a: Tensor, b: Tensor): number {
  expect(a.dims).toEqual(b.dims);
  const [got, expected] = [a.data as Float32Array, b.data as Float32Array];
  return Math.max(...got.map((value, i) => Math.abs(value - expected[i]!)));
}

describe("caches", () => {
  it("are filled at the first use, by a call or by generate", async () => {
    const cache = new DynamicCache();
    expect([cache.is_initialized, cache.get_seq_length(), cache.batch]).toEqual([false, 0, 0]);
    expect(await continued(cache, PROMPT)).toEqual(await anew(PROMPT));
    expect([cache.is_initialized, cache.get_seq_length(), cache.batch]).toEqual([
      true,
      PROMPT.length + 11,
      1,
    ]);
    const called = new DynamicCache({ config: model.config });
    const { past_key_values } = await model({ input_ids: [PROMPT], past_key_values: called });
    expect(past_key_values).toBe(called);
    expect(
      called.layers.map(({ is_sliding, sliding_window, kv_heads, head_dim }) => [
        is_sliding,
        sliding_window,
        kv_heads,
        head_dim,
      ]),
    ).toContainEqual([true, 5, expect.any(Number), 12]);
    called.reset();
    expect(await continued(called, SHORT)).toEqual(await anew(SHORT));
  });

  it("fork for many continuations of one prefix", async () => {
    const prefix = await filled(PROMPT);
    const held = prefix.byteLength;
    const endings = [[5, 6], [9], [400, 7, 3]].map((ending) => [...PROMPT, ...ending]);
    expect(await continued(prefix.fork(3), ...endings)).toEqual(await anew(...endings));
    expect(await continued(prefix.clone(), endings[0]!)).toEqual(await anew(endings[0]!));
    expect([prefix.lengths, prefix.byteLength]).toEqual([[PROMPT.length], held]);
    expect(await continued(prefix, endings[1]!)).toEqual(await anew(endings[1]!));
  });

  it("serve beams, as they are or with the copies that HF wants", async () => {
    const beams = { input_ids: [[...PROMPT, 9]], num_beams: 3, num_return_sequences: 2, ...greedy };
    const expected = (await model.generate(beams)).tolist();
    const cache = await filled(PROMPT);
    const copies = cache.clone();
    copies.batch_repeat_interleave(3);
    for (const past_key_values of [cache, copies])
      expect((await model.generate({ ...beams, past_key_values })).tolist()).toEqual(expected);
  });

  it("crop to a length, from the end, or each row", async () => {
    const cache = await filled(PROMPT, PROMPT);
    cache.crop(-6);
    cache.crop(0);
    cache.crop(100);
    expect(cache.lengths).toEqual([9, 9]);
    cache.crop([7, 2]);
    const rows = [
      [...PROMPT.slice(0, 7), 5],
      [...PROMPT.slice(0, 2), 5],
    ];
    expect(await continued(cache, ...rows)).toEqual(await anew(...rows));
    expect(() => cache.crop([1])).toThrow("one for each of 2 rows");
    expect(() => cache.crop(1.5)).toThrow("crop must be an integer");
  });

  it("select, repeat and reorder rows under HF's names", async () => {
    const cache = await filled(PROMPT, SHORT);
    cache.reorder_cache(new Tensor("int64", [1n, 0n], [2]));
    expect(cache.lengths).toEqual([SHORT.length, PROMPT.length]);
    cache.batch_repeat_interleave(2);
    cache.batch_select_indices([0, 3]);
    expect(() => cache.batch_select_indices([2])).toThrow("no row 2 in a cache of 2 rows");
    const rows = [
      [...SHORT, 9],
      [...PROMPT, 9],
    ];
    expect(await continued(cache, ...rows)).toEqual(await anew(...rows));
  });

  it("give their keys and values as tensors, and take them back", async () => {
    const cache = await filled(PROMPT, SHORT);
    const tuple = cache.to_legacy_cache();
    const lengths = cache.layers.map(({ is_sliding }) => (is_sliding ? 4 : PROMPT.length));
    expect(tuple.map(([key]) => key.dims)).toEqual(
      cache.layers.map(({ kv_heads }, i) => [2, kv_heads, lengths[i], 12]),
    );
    const full = lengths.indexOf(PROMPT.length);
    const padding = PROMPT.length - SHORT.length;
    const numbers = cache.at(full)![0].slice(1, null, [0, padding]).data as Float32Array;
    expect(numbers.every((value) => value === 0)).toBe(true);
    const alone = (await filled(SHORT)).at(full)![1];
    expect(worst(cache.at(full)![1].slice([1, 2], null, [padding, null]), alone)).toBeLessThan(1e-5);
    expect(cache.at(-1)![0].dims).toEqual(tuple.at(-1)![0].dims);
    expect(cache.at(99)).toBeUndefined();

    const rows = [
      [...PROMPT, 9],
      [...SHORT, 9],
    ];
    const expected = await anew(...rows);
    const { ids, mask } = padded(rows);
    const entries = Object.fromEntries(
      tuple.flatMap(([key, value], i) => [
        [`past_key_values.${i}.key`, key],
        [`past_key_values.${i}.value`, value],
      ]),
    );
    for (const past_key_values of [
      tuple,
      entries,
      DynamicCache.from_legacy_cache(tuple),
      new DynamicCache(entries),
    ]) {
      const result = await model.generate({
        input_ids: ids,
        attention_mask: mask,
        past_key_values,
        ...greedy,
      });
      expect(result.slice(1, [padding, null]).tolist()).toEqual(expected[1]);
      expect(result.slice(0).tolist()).toEqual(expected[0]);
    }
    const step = await model({ input_ids: [[9], [9]], attention_mask: mask, past_key_values: tuple });
    expect(step.past_key_values!.lengths).toEqual(rows.map((tokens) => tokens.length));
    const whole = await model({ input_ids: [rows[1]!], logits_to_keep: 1 });
    expect(worst(step.logits.slice([1, 2]), whole.logits)).toBeLessThan(2e-5);
  });

  it("hold what transformers' caches hold", async () => {
    const cache = await filled(PROMPT);
    const numbers = (layer: number, part: 0 | 1): number[] => {
      const { data } = cache.at(layer)![part].slice(0, 1, -2);
      return [0, 5, 6, 11].map((i) => Math.round(Number(data[i]) * 1e4) / 1e4);
    };
    // transformers 5.18, past_key_values.layers[i].keys[0, 1, -2] and .values.
    expect(numbers(0, 0)).toEqual([0.3561, -0.6516, -0.8719, 0.8073]);
    expect(numbers(0, 1)).toEqual([0.5739, 1.0962, 2.3605, 0.3208]);
    expect(numbers(5, 0)).toEqual([-0.5287, 1.6797, 3.3599, -0.163]);
    expect(numbers(5, 1)).toEqual([0.7746, -0.93, -1.8649, 1.0078]);
  });

  it("refuse tensors that are no cache, or not this model's", async () => {
    const tuple = (await filled(PROMPT)).to_legacy_cache();
    const call = (past_key_values: unknown): Promise<unknown> =>
      model({ input_ids: [[5]], past_key_values: past_key_values as Cache });
    await expect(call(tuple.slice(1))).rejects.toThrow("past_key_values is of another model: it has");
    await expect(call([])).rejects.toThrow("has no layers");
    await expect(call("cache")).rejects.toThrow("past_key_values must be a cache");
    await expect(call(tuple.map(([key, value]) => [key, value.slice(null, null, [0, 1])]))).rejects.toThrow(
      "layer 0 must be",
    );
    await expect(call({ "past_key_values.0.keys": tuple[0]![0] })).rejects.toThrow(
      "DynamicCache must be entries",
    );
    const cut = tuple.map(([key, value]) => [key, value].map((part) => part.slice(null, null, [-3, null])));
    await expect(call(cut)).resolves.toBeDefined();
    const short = tuple.map(([key, value]) =>
      key.dims[2] === 4 ? [key, value].map((part) => part.slice(null, null, [-3, null])) : [key, value],
    );
    await expect(call(short)).rejects.toThrow(
      "has the last 3 of row 0's 15 positions, the model's sliding_attention needs 4",
    );
    const heads = tuple.map((pair) => pair.map((part) => part.slice(null, null, null, [0, 8])));
    await expect(call(heads)).rejects.toThrow("heads of 8");
    await expect(
      model({ input_ids: [[5]], attention_mask: [[1, 1, 1]], past_key_values: tuple }),
    ).rejects.toThrow("attention_mask has 2 columns for the 15 positions");
  });

  it("are saved and loaded, rollback and all", async () => {
    const path = join(folder, "cache.safetensors");
    const cache = await filled(PROMPT, SHORT);
    await cache.save(path);
    expect(await readdir(folder)).toEqual(["cache.safetensors"]);
    const loaded = await DynamicCache.load(path);
    expect(loaded.lengths).toEqual(cache.lengths);
    for (const [i, pair] of [...cache].entries()) expect(loaded.at(i)).toEqual(pair);
    const rows = [
      [...PROMPT.slice(0, -3), 9],
      [...SHORT.slice(0, -3), 9],
    ];
    loaded.crop(-3);
    expect(await continued(loaded, ...rows)).toEqual(await anew(...rows));
    const again = await DynamicCache.load(path);
    await expect(new DynamicCache().save(path)).rejects.toThrow("empty cache");
    const other = await AutoModelForCausalLM.from_pretrained(TINY.replace("h12", "h16"));
    await expect(other({ input_ids: [[5], [5]], past_key_values: again })).rejects.toThrow(
      /is of another model: layer 0 is/,
    );
    await other.dispose();
  });

  it("of a fixed size refuse what goes beyond it", async () => {
    const cache = new StaticCache({
      max_cache_len: PROMPT.length + 2,
      max_batch_size: 2,
      config: model.config,
    });
    const { past_key_values } = await model({ input_ids: [PROMPT], past_key_values: cache });
    expect(past_key_values).toBe(cache);
    const { byteLength } = cache;
    expect([cache.max_cache_len, cache.get_max_cache_shape(), cache.get_max_length(0)]).toEqual([17, 5, 5]);
    expect(() => cache.fork(3)).toThrow("max_batch_size = 2");
    const fork = cache.fork(2);
    expect(fork).toBeInstanceOf(StaticCache);
    await expect(model({ input_ids: [[5, 6, 7]], past_key_values: cache })).rejects.toThrow(
      "holds at most max_cache_len = 17 positions, row 0 needs 18",
    );
    await model({ input_ids: [[5, 6]], past_key_values: cache });
    expect([cache.get_seq_length(), cache.byteLength]).toEqual([17, byteLength]);
    expect(new StaticCache(model.config, 9).max_cache_len).toBe(9);
    expect(new StaticCache(model.config, { max_cache_len: 8 }).max_cache_len).toBe(8);
    expect(() => new StaticCache({ max_cache_length: 8 } as never)).toThrow('did you mean "max_cache_len"');
    const made = await model.generate({
      input_ids: [SHORT],
      cache_implementation: "static",
      return_dict_in_generate: true,
      ...greedy,
    });
    expect(made.past_key_values).toBeInstanceOf(StaticCache);
    expect(made.past_key_values!.max_cache_len).toBe(SHORT.length + 11);
    expect(made.sequences.tolist()).toEqual(await anew(SHORT));
  });

  it("belong to one model, and know when they are disposed", async () => {
    const cache = await filled(PROMPT);
    const other = await AutoModelForCausalLM.from_pretrained(TINY);
    await expect(other({ input_ids: [[5]], past_key_values: cache.fork() })).rejects.toThrow(
      "filled by another model",
    );
    await other.dispose();
    await expect(
      model.generate({ input_ids: [PROMPT], past_key_values: cache, cache_implementation: "static" }),
    ).rejects.toMatchObject({ option: "cache_implementation" });
    cache.dispose();
    expect(() => cache.fork()).toThrow("was disposed");
    await expect(model({ input_ids: [[5]], past_key_values: cache })).rejects.toThrow("was disposed");
  });

  it("go on after the last position given", async () => {
    const positions = PROMPT.map((_, i) => (i < 6 ? 3 + i : 20 + 2 * i));
    const attention_mask = [PROMPT.map(() => 1)];
    const next = [9, 5];
    const whole = await model({
      input_ids: [[...PROMPT, ...next]],
      attention_mask: [[...PROMPT, ...next].map(() => 1)],
      position_ids: [[...positions, 49, 50]],
      logits_to_keep: 1,
    });
    const given = { input_ids: [PROMPT], attention_mask, position_ids: [positions] };
    const { logits: jumped, past_key_values } = await model(given);
    const row = jumped.slice(0, -1).data;
    // transformers 5.18.
    for (const [id, expected] of [
      [0, 1.0618],
      [1, -0.527],
      [100, -0.7733],
      [439, -1.112],
    ] as const)
      expect(row[id]).toBeCloseTo(expected, 3);
    expect(past_key_values!.nextPositions).toEqual([49]);
    await model({ input_ids: [[9]], past_key_values: past_key_values! });
    const path = join(folder, "positions.safetensors");
    await past_key_values!.save(path);
    for (const cache of [past_key_values!, past_key_values!.fork(), await DynamicCache.load(path)]) {
      const { logits } = await model({ input_ids: [[5]], past_key_values: cache });
      expect(worst(logits, whole.logits)).toBeLessThan(2e-5);
    }
  });

  it("keep each row's positions apart", async () => {
    const [first, second] = [PROMPT.slice(0, 6), PROMPT.slice(3, 9)];
    const positions = [
      [0, 1, 2, 3, 4, 5],
      [7, 8, 20, 21, 22, 23],
    ];
    const both = await model({ input_ids: [first, second], position_ids: positions });
    const alone = await model({ input_ids: [second], position_ids: [[0, 1, 13, 14, 15, 16]] });
    expect(worst(both.logits.slice([1, 2]), alone.logits)).toBeLessThan(2e-5);
    const plain = await model({ input_ids: [second] });
    expect(worst(plain.logits, alone.logits)).toBeGreaterThan(0.01);
    expect(both.past_key_values!.nextPositions).toEqual([6, 24]);
    const tokens = await model({ input_ids: [[5], [5]], position_ids: [[3], [9]] });
    expect(tokens.past_key_values!.nextPositions).toEqual([4, 10]);
  });

  it("in 8 bits give nearly the same in a quarter of the memory, in copies and through generate too", async () => {
    const prompt = Array.from({ length: 200 }, (_, i) => 3 + ((i * 37) % 400));
    const cache = new QuantizedCache();
    await model({ input_ids: [prompt], past_key_values: cache });
    const exact = await filled(prompt);
    const size = cache.byteLength;
    for (let id = 5; id < 17; id++) {
      const got = await model({ input_ids: [[id]], past_key_values: cache });
      const expected = await model({ input_ids: [[id]], past_key_values: exact });
      const error = worst(got.logits, expected.logits);
      expect(error).toBeLessThan(0.4);
      expect(error).toBeGreaterThan(0);
    }
    expect(cache.byteLength).toBeLessThan(size / 3);
    const weights = { input_ids: [[9]], output_attentions: true };
    const masked = await model({ ...weights, past_key_values: cache.fork() });
    const expected = await model({ ...weights, past_key_values: exact.fork() });
    expect(worst(masked.logits, expected.logits)).toBeLessThan(0.4);
    const fork = cache.fork(2);
    expect(fork.byteLength * 4).toBe(exact.fork(2).byteLength);
    cache.crop(-3);
    fork.crop(-3);
    const alone = await model({ input_ids: [[9]], past_key_values: cache });
    const both = await model({ input_ids: [[7], [9]], past_key_values: fork });
    expect(worst(both.logits.slice([1, 2]), alone.logits)).toBeLessThan(2e-5);
    const made = await model.generate({
      input_ids: [PROMPT],
      cache_implementation: "quantized",
      cache_config: { nbits: 8, residual_length: 4 },
      return_dict_in_generate: true,
      ...greedy,
    });
    expect(made.past_key_values).toMatchObject({ nbits: 8, residual_length: 4 });
    await expect(
      model.generate({ input_ids: [PROMPT], cache_implementation: "quantized", cache_config: { nbits: 4 } }),
    ).rejects.toThrow("kept in 8 bits, not in 4");
  });

  it("take back guesses at any time in layers with a window", async () => {
    const long = Array.from({ length: 700 }, (_, i) => 3 + ((i * 37) % 400));
    const cache = await filled(long);
    await model({ input_ids: [[5, 6, 7]], past_key_values: cache });
    cache.crop(long.length - 61);
    const row = [...long.slice(0, -61), 9];
    expect(await continued(cache, row)).toEqual(await anew(row));
  });
});
