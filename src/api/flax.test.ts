import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { ggufBytes, write } from "../../test/checkpoints/files.ts";
import { tinyGemma } from "../../test/checkpoints/tiny-gemma-gguf.ts";
import { Tensor } from "../tensor.ts";
import { AutoModelForCausalLM } from "./auto.ts";
import { FlaxGemmaForCausalLM, FlaxGemmaModel } from "./gemma.ts";

/** What Flax itself made of a checkpoint that it saved: tools/oracle/make_flax.py. */
interface Expected {
  readonly input_ids: readonly (readonly number[])[];
  readonly logits: readonly number[];
  readonly last_hidden_state: readonly number[];
  readonly sequences: readonly (readonly number[])[];
}

const folderOf = (name: string): string => resolve(import.meta.dirname, "../../test/fixtures", name);

async function expectedOf(name: string): Promise<Expected> {
  return JSON.parse(await readFile(join(folderOf(name), "expected.json"), "utf8")) as Expected;
}

function ids(rows: Expected["input_ids"]): Tensor {
  return new Tensor("int64", rows.flat().map(BigInt), [rows.length, rows[0]!.length]);
}

function worst(got: Tensor, expected: readonly number[]): number {
  expect(got.size).toBe(expected.length);
  return Math.max(...expected.map((value, i) => Math.abs(Number(got.data[i]) - value)));
}

describe("checkpoints of Flax", () => {
  let cache: string;
  beforeAll(async () => {
    cache = await mkdtemp(join(tmpdir(), "lapidary-flax-"));
    vi.stubEnv("LAPIDARY_CACHE", cache);
  });
  afterAll(async () => {
    vi.unstubAllEnvs();
    await rm(cache, { recursive: true });
  });

  it.each(["flax-gemma", "flax-gemma-sharded"])("%s gives Flax's logits and tokens", async (name) => {
    const expected = await expectedOf(name);
    const model = await FlaxGemmaForCausalLM.from_pretrained(folderOf(name));
    const { logits } = await model({ input_ids: ids(expected.input_ids) });
    expect(logits.dims).toEqual([2, 7, 64]);
    expect(worst(logits, expected.logits)).toBeLessThan(2e-5);
    const options = { max_new_tokens: 8, do_sample: false };
    const sequences = await model.generate({ inputs: ids(expected.input_ids), ...options });
    expect(sequences.tolist().map((row) => (row as bigint[]).map(Number))).toEqual(expected.sequences);
    await model.dispose();
  });

  it("is the same model as a GGUF file", async () => {
    const expected = await expectedOf("flax-gemma");
    const path = write(join(cache, "model.gguf"), ggufBytes(await tinyGemma()));
    const model = await AutoModelForCausalLM.from_pretrained(path);
    expect(model.config.model_type).toBe("gemma");
    const { logits } = await model({ input_ids: ids(expected.input_ids) });
    expect(worst(logits, expected.logits)).toBeLessThan(2e-5);
    await model.dispose();
  });

  it("of a model without a head, with chunked arrays", async () => {
    const expected = await expectedOf("flax-gemma-base");
    const model = await FlaxGemmaModel.from_pretrained(folderOf("flax-gemma-base"));
    const { last_hidden_state } = await model({ input_ids: ids(expected.input_ids) });
    expect(worst(last_hidden_state, expected.last_hidden_state)).toBeLessThan(2e-5);
    await model.dispose();
  });
});
