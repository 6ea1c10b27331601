import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { writeTinyModel } from "../../test/support/tiny-model.ts";
import { ConfigError, InputError } from "../errors.ts";
import { type SliceOption, type SliceOptions, sliceConfig } from "../models/gemma3n/slice.ts";
import { AutoModelForCausalLM } from "./auto.ts";
import type { CausalLM } from "./causal-lm.ts";
import { Gemma3nForCausalLM } from "./gemma3n.ts";
import type { PretrainedOptions } from "./options.ts";
import { writeSlice } from "./write-slice.ts";

const FIXTURES = resolve(import.meta.dirname, "../../test/fixtures");
const NESTED = join(FIXTURES, "gemma3n/nested");

/** What HF gives for checkpoints cut by tools/oracle/make_gemma3n.py. */
interface Recorded extends SliceOptions {
  readonly num_kv_shared_layers: number;
  /** Of the last two positions. */
  readonly logits: readonly (readonly number[])[];
}
const { input_ids, slices } = JSON.parse(readFileSync(join(FIXTURES, "gemma3n/slices.json"), "utf8")) as {
  input_ids: number[][];
  slices: Recorded[];
};

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "lapidary-slice-"));
  vi.stubEnv("LAPIDARY_CACHE", join(folder, "cache"));
});
afterAll(() => {
  vi.unstubAllEnvs();
  rmSync(folder, { recursive: true });
});

async function withModel<T>(
  path: string,
  options: PretrainedOptions,
  use: (model: CausalLM) => Promise<T>,
): Promise<T> {
  const model = await Gemma3nForCausalLM.from_pretrained(path, options);
  return use(model as unknown as CausalLM).finally(() => model.dispose());
}

function lastLogits(model: CausalLM): Promise<number[][]> {
  return model({ input_ids, logits_to_keep: 2 }).then(({ logits }) => logits.at(0)!.tolist() as number[][]);
}

function expectClose(got: readonly (readonly number[])[], expected: readonly (readonly number[])[]): void {
  const differences = expected.flatMap((row, r) => row.map((value, i) => Math.abs(got[r]![i]! - value)));
  expect(Math.max(...differences)).toBeLessThan(1e-4);
}

describe("slices", () => {
  it.each(slices)(
    "load with HF's numbers: without $skip_layers",
    async ({ logits, num_kv_shared_layers, ...slice }) => {
      const { skip_layers, intermediate_size } = slice;
      await withModel(
        NESTED,
        { slice: { skip_layers: skip_layers!, intermediate_size: intermediate_size! } },
        async (model) => {
          expectClose(await lastLogits(model), logits);
          expect(model.config).toMatchObject({ intermediate_size, num_kv_shared_layers });
          // The table is not cut, and stays in its file.
          expect(model.memory().on_disk).toEqual({ float32: 64 * 6 * 6 * 4 });
        },
      );
    },
  );

  it.each(slices)(
    "are written with HF's numbers: without $skip_layers",
    async ({ logits, num_kv_shared_layers: _, ...slice }) => {
      const out = join(folder, "written");
      const { skip_layers, intermediate_size } = slice;
      const written = await writeSlice(
        NESTED,
        out,
        { skip_layers: skip_layers!, intermediate_size: intermediate_size! },
        { shardBytes: 20_000 },
      );
      expect(written.files).toBeGreaterThan(1);
      expect(existsSync(join(out, "model.safetensors.index.json"))).toBe(true);
      // HF takes no whole number for a float.
      const config = readFileSync(join(out, "config.json"), "utf8");
      expect(config).toMatch(/"final_logit_softcapping": \d+\.\d/);
      expect(config).toMatch(/"activation_sparsity_pattern": \[\s*\d+\.\d/);
      await withModel(out, {}, async (model) => {
        expectClose(await lastLogits(model), logits);
        const kept = 6 - skip_layers!.length;
        expect(model.memory().on_disk).toEqual({ float32: 64 * 6 * kept * 4 });
      });
      rmSync(out, { recursive: true });
      expect(readdirSync(folder).filter((name) => name.endsWith(".tmp"))).toEqual([]);
    },
  );

  it("of different sizes don't share packs, quantised or not", async () => {
    const shapes: SliceOptions[] = [{ intermediate_size: 32 }, { skip_layers: [3] }, { skip_layers: [4] }];
    for (const dtype of ["fp32", "q8"] as const) {
      const results = [];
      for (const slice of [...shapes, ...shapes])
        results.push(await withModel(NESTED, { dtype, slice }, lastLogits));
      expect(results.slice(3)).toEqual(results.slice(0, 3));
      expect(results[1]).not.toEqual(results[2]);
    }
  });

  it("copy what lies beside the weights", async () => {
    const source = join(folder, "source");
    cpSync(NESTED, source, { recursive: true });
    writeFileSync(join(source, "tokenizer.json"), "{}");
    const out = join(folder, "beside");
    await writeSlice(source, out, { intermediate_size: 24 });
    expect(readdirSync(out).sort()).toEqual(["config.json", "model.safetensors", "tokenizer.json"]);
    await expect(writeSlice(source, out, { intermediate_size: 24 })).rejects.toThrow("exists already");
    await expect(writeSlice(source, join(folder, "x"), { intermediate_size: 49 })).rejects.toThrow(
      "48 units",
    );
    expect(existsSync(join(folder, "x"))).toBe(false);
  });

  it('"E2B" is cut out of the 35 layers of E4B', async () => {
    const path = join(folder, "e4b");
    await writeTinyModel(path, {
      model_type: "gemma3n_text",
      vocab_size: 32,
      vocab_size_per_layer_input: 32,
      hidden_size: 8,
      hidden_size_per_layer_input: 4,
      intermediate_size: 12,
      laurel_rank: 2,
      num_attention_heads: 2,
      num_key_value_heads: 1,
      head_dim: 4,
    });
    const whole = await AutoModelForCausalLM.from_pretrained(path, { slice: "E2B" });
    expect(whole.config).toMatchObject({
      num_hidden_layers: 30,
      num_kv_shared_layers: 10,
      intermediate_size: new Array(30).fill(6),
    });
    const logits = (await whole({ input_ids: [[2, 5, 9]] })).logits.tolist();
    await whole.dispose();
    await writeSlice(path, join(folder, "e2b"), "E2B");
    const written = await AutoModelForCausalLM.from_pretrained(join(folder, "e2b"));
    expect((await written({ input_ids: [[2, 5, 9]] })).logits.tolist()).toEqual(logits);
    await written.dispose();
  });
});

describe("impossible slices", () => {
  const config = JSON.parse(readFileSync(join(NESTED, "config.json"), "utf8")) as Record<string, unknown>;
  it.each<[unknown, string]>([
    [{ skip_layers: [6] }, "there is no layer 6, only 0 to 5"],
    [{ skip_layers: [2] }, "layer 2 must stay, for layer 5 reads its keys and values"],
    [{ skip_layers: [0, 1, 2, 3, 4, 5] }, "no layer is left"],
    [{ intermediate_size: [24, 24] }, "a number for each of 6 layers that stay, got 2"],
    [{ intermediate_size: 49 }, "layer 0 has 48 units, 49 can't be kept"],
    [{ intermediate_size: 0 }, "0 can't be kept"],
    ["E2B", "cut out of E4B's 35 layers; this model has 6"],
  ])("%o: %s", (slice, message) => {
    const make = (): unknown => sliceConfig(config, slice as SliceOption);
    expect(make).toThrow(ConfigError);
    expect(make).toThrow(message);
  });

  it("names what it does not know", () => {
    expect(() => sliceConfig(config, { skip_layer: [1] } as SliceOption)).toThrow(InputError);
    expect(() => sliceConfig(config, "E3B" as SliceOption)).toThrow('expected "E2B" or');
    expect(() => sliceConfig({ model_type: "gemma3_text" }, "E2B")).toThrow("has no smaller one inside");
  });
});
