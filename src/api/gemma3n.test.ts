import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { openSafetensors } from "../checkpoints/safetensors.ts";
import { writeSafetensors } from "../checkpoints/write-safetensors.ts";
import { ConfigError } from "../errors.ts";
import { DynamicCache } from "../generation/cache.ts";
import { QuantizedCache } from "../generation/quantized-cache.ts";
import { Gemma3nTextConfig } from "../models/gemma3n/config.ts";
import { AutoModelForCausalLM } from "./auto.ts";
import type { CausalLM } from "./causal-lm.ts";
import { Gemma3nForCausalLM, Gemma3nTextModel } from "./gemma3n.ts";

const FIXTURES = resolve(import.meta.dirname, "../../test/fixtures");
const ODD = join(FIXTURES, "gemma3n/odd");
const ROWS = [
  [2, 40, 7, 33, 21, 60, 12, 9],
  [0, 0, 0, 2, 17, 8, 8, 30],
];
const MASK = ROWS.map((row, r) => row.map((_, i) => (r === 1 && i < 3 ? 0 : 1)));
const GREEDY = {
  input_ids: ROWS,
  attention_mask: MASK,
  max_new_tokens: 14,
  do_sample: false,
  eos_token_id: [],
};

let folder: string;
let model: Gemma3nForCausalLM;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "lapidary-gemma3n-"));
  vi.stubEnv("LAPIDARY_CACHE", join(folder, "cache"));
  model = await Gemma3nForCausalLM.from_pretrained(ODD);
});
afterAll(async () => {
  await model.dispose();
  vi.unstubAllEnvs();
  rmSync(folder, { recursive: true });
});

describe("outputs", () => {
  interface Recorded {
    readonly cases: Record<string, { inputs: { input_ids: number[][] }; logits: number[] }>;
  }
  const { cases } = JSON.parse(readFileSync(join(FIXTURES, "outputs-gemma3n-odd.json"), "utf8")) as Recorded;
  const { inputs, logits } = cases.vectors!;

  it("takes vectors alone as HF does, which then leaves the layers without the tokens' embeddings", async () => {
    const inputs_embeds = await model.get_input_embeddings()(inputs.input_ids);
    const output = await model({ inputs_embeds, use_cache: false });
    expectClose(output.logits.slice(null, -1).data as Float32Array, logits);
  });

  it("takes vectors and ids together", async () => {
    const inputs_embeds = await model.get_input_embeddings()(ROWS);
    const both = await model({ input_ids: ROWS, inputs_embeds, attention_mask: MASK });
    const ids = await model({ input_ids: ROWS, attention_mask: MASK });
    expectClose(both.logits.data as Float32Array, [...(ids.logits.data as Float32Array)]);
    const sequences = (await model.generate(GREEDY)).tolist();
    expect((await model.generate({ ...GREEDY, inputs_embeds })).tolist()).toEqual(sequences);
    await expect(model({ input_ids: [[2, 3]], inputs_embeds })).rejects.toThrow("do not fit the ids");
  });

  it("gives hidden states as streams, the last not normed", async () => {
    const { hidden_states } = await model({
      input_ids: ROWS,
      attention_mask: MASK,
      output_hidden_states: true,
    });
    expect(hidden_states!.map(({ dims }) => dims)).toEqual(new Array(6).fill([3, 2, 8, 18]));
    const inputs_embeds = await model.get_input_embeddings()([ROWS[0]!]);
    expect(hidden_states![0]!.at(0)!.at(0)!.tolist()).toEqual(inputs_embeds.at(0)!.tolist());
    const base = await model.model({ input_ids: [ROWS[0]!], output_hidden_states: true });
    const alone = await model.model({ input_ids: [ROWS[0]!] });
    expect(base.last_hidden_state.dims).toEqual([1, 8, 18]);
    expectClose(base.last_hidden_state.data as Float32Array, [
      ...(alone.last_hidden_state.data as Float32Array),
    ]);
    const asked = { return_dict_in_generate: true, output_hidden_states: true } as const;
    const steps = await model.generate({ ...GREEDY, max_new_tokens: 2, ...asked });
    expect(steps.hidden_states!.map((step) => step[0]!.dims)).toEqual([
      [3, 2, 8, 18],
      [3, 2, 1, 18],
    ]);
  });

  it("gives ids without a per-layer embedding that of id 0", async () => {
    const embedded = await model.model.get_per_layer_inputs([[0, 64, 71, 5]]);
    expect(embedded.dims).toEqual([1, 4, 5, 6]);
    const [zero, first, last, other] = embedded.at(0)!.tolist() as number[][][];
    expect([first, last]).toEqual([zero, zero]);
    expect(other).not.toEqual(zero);
  });
});

describe("caches", () => {
  it.each(["odd", "unshared"])("of every kind, or none, give the same tokens (%s)", async (name) => {
    const other = await Gemma3nForCausalLM.from_pretrained(join(FIXTURES, "gemma3n", name));
    const dynamic = (await other.generate(GREEDY)).tolist();
    expect((await other.generate({ ...GREEDY, cache_implementation: "static" })).tolist()).toEqual(dynamic);
    expect((await other.generate({ ...GREEDY, use_cache: false })).tolist()).toEqual(dynamic);
    expect((await other.generate({ ...GREEDY, prefill_chunk_size: 3 })).tolist()).toEqual(dynamic);
    const right = ROWS[1]!.slice(3).concat(0, 0, 0);
    const mask = right.map((_, i) => (i < 5 ? 1 : 0));
    const turned = await other.generate({ ...GREEDY, input_ids: [right], attention_mask: [mask] });
    expect(turned.slice(0, [8, null]).tolist()).toEqual((dynamic as unknown[][])[1]!.slice(8));
    await other.dispose();
  });

  it("hold the layers that have keys of their own, and no more", async () => {
    const { past_key_values } = await model({ input_ids: ROWS, attention_mask: MASK });
    expect(past_key_values!.layers.map(({ kind }) => kind)).toEqual([
      "full_attention",
      "sliding_attention",
      "full_attention",
    ]);
    const perPosition = 3 * 2 * 4 * 16;
    expect(past_key_values!.byteLength).toBe(2 * 8 * perPosition);
    expect(model.memory().cache_bytes_per_token).toBe(2 * 2 * 4 * 16);
  });

  it("go on token by token, after a crop, as a fork, as tensors, and from a file", async () => {
    const [row] = ROWS as [number[]];
    const whole = (await model({ input_ids: [row] })).logits.slice(0, -1).data as Float32Array;
    const cache = new DynamicCache();
    for (const id of row.slice(0, -1)) await model({ input_ids: [[id]], past_key_values: cache });
    await model({ input_ids: [[50, 51, 52]], past_key_values: cache });
    cache.crop(row.length - 1);
    const file = join(folder, "cache.safetensors");
    await cache.save(file);
    for (const past_key_values of [
      cache.fork(),
      cache.to_legacy_cache(),
      await DynamicCache.load(file),
      cache,
    ]) {
      const { logits } = await model({ input_ids: [row.slice(-1)], past_key_values });
      expectClose(logits.data as Float32Array, [...whole]);
    }
  });

  it("in 8 bits come near", async () => {
    const [row] = ROWS as [number[]];
    const whole = (await model({ input_ids: [row] })).logits.slice(0, -1).data as Float32Array;
    const past_key_values = new QuantizedCache({ residual_length: 4 });
    await model({ input_ids: [row.slice(0, -1)], past_key_values });
    const { logits } = await model({ input_ids: [row.slice(-1)], past_key_values });
    expect(correlation(logits.data as Float32Array, whole)).toBeGreaterThan(0.99);
  });

  it("serve guesses and beams", async () => {
    const one = { ...GREEDY, input_ids: [ROWS[0]!], attention_mask: [MASK[0]!] };
    const plain = (await model.generate(one)).tolist();
    expect((await model.generate({ ...one, prompt_lookup_num_tokens: 3 })).tolist()).toEqual(plain);
    const beams = { ...one, num_beams: 3 };
    expect((await model.generate({ ...beams, use_cache: false })).tolist()).toEqual(
      (await model.generate(beams)).tolist(),
    );
    const q8 = await Gemma3nForCausalLM.from_pretrained(ODD, { dtype: "q8" });
    // Quantised layers check guesses token by token within a run.
    expect((await q8.generate({ ...one, prompt_lookup_num_tokens: 3 })).tolist()).toEqual(
      (await q8.generate(one)).tolist(),
    );
    await q8.dispose();
  });
});

describe("weights", () => {
  /** The checkpoint in bfloat16 as a multimodal one has it, beside a tensor of another part. */
  async function writeMultimodal(): Promise<string> {
    const path = mkdtempSync(join(folder, "multimodal-"));
    const checkpoint = await openSafetensors(join(ODD, "model.safetensors"));
    const tensors = await Promise.all(
      [...checkpoint.tensors.values()].map(async (slice) => {
        const bytes = await checkpoint.read(slice);
        const halves = Buffer.concat(
          Array.from({ length: bytes.length / 4 }, (_, i) => bytes.subarray(4 * i + 2, 4 * i + 4)),
        );
        const name = slice.name.replace(/^model\./, "model.language_model.");
        return { name, dtype: "BF16" as const, shape: slice.shape, data: [halves] };
      }),
    );
    await checkpoint.close();
    const other = {
      name: "model.embed_vision.x",
      dtype: "F32" as const,
      shape: [1],
      data: [new Uint8Array(4)],
    };
    await writeSafetensors(join(path, "model.safetensors"), [...tensors, other]);
    const text_config = JSON.parse(readFileSync(join(ODD, "config.json"), "utf8")) as object;
    writeFileSync(join(path, "config.json"), JSON.stringify({ model_type: "gemma3n", text_config }));
    return path;
  }

  it("of a model with images and sounds are read for text alone; the table stays in its file", async () => {
    const path = await writeMultimodal();
    const whole = (await model({ input_ids: ROWS, attention_mask: MASK })).logits.data as Float32Array;
    const table = { bfloat16: 64 * 5 * 6 * 2 };
    for (const dtype of ["fp32", "auto", "q8", "q4", "bf16"] as const) {
      const text: CausalLM = await AutoModelForCausalLM.from_pretrained(path, { dtype });
      expect(text).toBeInstanceOf(Gemma3nForCausalLM);
      expect(text.memory().on_disk).toEqual(table);
      const { logits } = await text({ input_ids: ROWS, attention_mask: MASK });
      const least = dtype === "q4" ? 0.85 : 0.98;
      expect(correlation(logits.data as Float32Array, whole)).toBeGreaterThan(least);
      await text.dispose();
    }
    const base = await Gemma3nTextModel.from_pretrained(path);
    expect((await base({ input_ids: ROWS })).last_hidden_state.dims).toEqual([2, 8, 18]);
    await base.dispose();
  });

  it("in float32 stay where they are", () => {
    expect(model.memory().on_disk).toEqual({ float32: 64 * 5 * 6 * 4 });
  });
});

describe("Gemma3nTextConfig", () => {
  const layers = { num_hidden_layers: 3, num_kv_shared_layers: 1 };

  it("has HF's defaults", () => {
    const config = new Gemma3nTextConfig();
    expect(config.intermediate_size).toEqual(new Array(35).fill(16_384));
    expect(config.activation_sparsity_pattern.filter((share) => share === 0.95)).toHaveLength(10);
    expect(config.layer_types.filter((kind) => kind === "full_attention")).toHaveLength(7);
    expect(config.rope_parameters.sliding_attention.rope_theta).toBe(10_000);
    expect(config).toMatchObject({ num_kv_shared_layers: 15, final_logit_softcapping: 30, laurel_rank: 64 });
  });

  it("takes one number for all layers, and the older spelling of ropes", () => {
    const kinds = ["full_attention", "full_attention", "full_attention"];
    const config = new Gemma3nTextConfig({
      ...layers,
      layer_types: kinds,
      intermediate_size: 7,
      activation_sparsity_pattern: 0.5,
      rope_theta: 5e5,
      rope_local_base_freq: 2e4,
    });
    expect(config.intermediate_size).toEqual([7, 7, 7]);
    expect(config.activation_sparsity_pattern).toEqual([0.5, 0.5, 0.5]);
    expect(config.rope_parameters.full_attention.rope_theta).toBe(5e5);
    expect(config.rope_parameters.sliding_attention.rope_theta).toBe(2e4);
    expect(config.unknown_keys).toEqual([]);
  });

  it.each([
    [{ intermediate_size: [1, 2] }, "a value for each of 3 layers, got 2"],
    [{ intermediate_size: [1, 2, -3] }, "expected positive integers, got -3"],
    [{ activation_sparsity_pattern: 1 }, "from 0 to below 1, got 1"],
    [{ num_kv_shared_layers: 3 }, "leave none with keys of its own"],
    [
      { layer_types: ["sliding_attention", "sliding_attention", "full_attention"] },
      "layer 2 is the first with full_attention",
    ],
    [{ altup_active_idx: 4 }, "none of 4 streams"],
  ])("refuses %o", (wrong, message) => {
    const make = (): unknown => new Gemma3nTextConfig({ ...layers, ...wrong });
    expect(make).toThrow(ConfigError);
    expect(make).toThrow(message);
  });
});

function expectClose(got: Float32Array, expected: readonly number[]): void {
  expect(got.length).toBe(expected.length);
  let worst = 0;
  for (const [i, value] of expected.entries()) worst = Math.max(worst, Math.abs(got[i]! - value));
  expect(worst).toBeLessThan(1e-3);
}

function correlation(a: Float32Array, b: Float32Array): number {
  const [tensorA, tensorB] = [a, b].map((values) => {
    const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
    return values.map((value) => value - mean);
  }) as [Float32Array, Float32Array];
  const dot = (x: Float32Array, y: Float32Array): number =>
    x.reduce((sum, value, i) => sum + value * y[i]!, 0);
  return dot(tensorA, tensorB) / Math.sqrt(dot(tensorA, tensorA) * dot(tensorB, tensorB));
}
