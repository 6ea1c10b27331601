import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Tensor } from "../tensor.ts";
import { AutoModelForCausalLM } from "./auto.ts";
import type { CausalLM, CausalLMOutput } from "./causal-lm.ts";
import type { DecoderForwardInputs } from "./decoder-forward.ts";

/** What HF gives (tools/oracle/make_outputs.py) for inputs besides plain ids. */
interface Recorded {
  readonly inputs: Readonly<Record<string, number[][] | boolean>>;
  /** Of the last position, [batch, vocab_size]. */
  readonly logits: number[];
  readonly loss?: number;
  readonly attentions?: { readonly shape: number[]; readonly data: number[] }[];
}

const FIXTURES = resolve(import.meta.dirname, "../../test/fixtures");
const SETS = [
  ["outputs-gemma3.json", "golden-h12/gemma3_text/model"],
  ["outputs-gemma.json", "gemma-tiny"],
  ["outputs-gemma3n-odd.json", "gemma3n/odd"],
  ["outputs-gemma3n-unshared.json", "gemma3n/unshared"],
] as const;

describe.each(SETS)("%s", (file, checkpoint) => {
  const { cases } = JSON.parse(readFileSync(resolve(FIXTURES, file), "utf8")) as {
    cases: Record<string, Recorded>;
  };
  let model: CausalLM;
  beforeAll(async () => {
    model = await AutoModelForCausalLM.from_pretrained(resolve(FIXTURES, checkpoint));
  });
  afterAll(() => model.dispose());

  async function check(name: string, more: Partial<DecoderForwardInputs> = {}): Promise<CausalLMOutput> {
    const recorded = cases[name]!;
    const output = await model({ ...(recorded.inputs as DecoderForwardInputs), ...more });
    const last = output.logits.slice(null, -1);
    expectClose(last.data as Float32Array, recorded.logits);
    if (recorded.loss !== undefined) expect(output.loss!.item()).toBeCloseTo(recorded.loss, 4);
    for (const [i, { shape, data }] of (recorded.attentions ?? []).entries()) {
      const weights = output.attentions![i]!;
      expect(weights.dims).toEqual(shape);
      expectAttention(weights, data, shape);
    }
    return output;
  }

  it.each([
    "attentions",
    "attentions_left_padded",
    "holes",
    "positions",
    "packed",
    "packed_with_cache",
    "labels",
  ])("%s", async (name) => {
    await check(name);
  });

  it("hides tokens for good: in later steps, forks and saved caches too", async () => {
    const first = await check("holes");
    expect(first.past_key_values).toBeUndefined();
    const cached = await check("holes_cached");
    const past_key_values = cached.past_key_values!;
    const fork = past_key_values.fork();
    const step = await check("holes_step", { past_key_values });
    await check("holes_steps", { past_key_values: step.past_key_values! });
    fork.dispose();
  });

  it("gives attention over a cache", async () => {
    const { input_ids, attention_mask } = cases.attentions_left_padded!.inputs as Record<string, number[][]>;
    const { past_key_values } = await model({ input_ids: input_ids!, attention_mask: attention_mask! });
    await check("attentions_cached", { past_key_values: past_key_values! });
  });

  // Gemma 3n takes ids beside vectors and gives other hidden states: gemma3n.test.ts.
  const gemma3n = checkpoint.startsWith("gemma3n");
  it.skipIf(gemma3n)("takes vectors in place of ids", async () => {
    const { input_ids } = cases.vectors!.inputs as Record<string, number[][]>;
    const inputs_embeds = await model.get_input_embeddings()(input_ids!);
    const output = await model({ inputs_embeds, use_cache: false });
    expectClose(output.logits.slice(null, -1).data as Float32Array, cases.vectors!.logits);
    const padded = new Tensor("float32", new Float32Array(2 * 13 * inputs_embeds.dims[2]!), [
      2,
      13,
      inputs_embeds.dims[2]!,
    ]);
    for (const row of [0, 1])
      padded.data.set(inputs_embeds.at(row)!.data as never, (row * 13 + 2) * inputs_embeds.dims[2]!);
    const mask = [0, 1].map(() => Array.from({ length: 13 }, (_, i) => (i < 2 ? 0 : 1)));
    const left = await model({ inputs_embeds: padded, attention_mask: mask });
    expectClose(left.logits.slice(null, -1).data as Float32Array, cases.vectors!.logits);
    await expect(model({ inputs_embeds, input_ids: input_ids! })).rejects.toThrow("either input_ids or");
    await expect(model({ inputs_embeds: inputs_embeds.at(0)! })).rejects.toThrow("inputs_embeds: expected");
  });

  it.skipIf(gemma3n)("generates from vectors, with ids beside them or the new tokens alone", async () => {
    const { input_ids } = cases.vectors!.inputs as Record<string, number[][]>;
    const rows = [input_ids![0]!, input_ids![1]!.map((id, i) => (i < 3 ? 0 : id))];
    const mask = rows.map((row, r) => row.map((_, i) => (r === 1 && i < 3 ? 0 : 1)));
    const greedy = { attention_mask: mask, max_new_tokens: 6, eos_token_id: [], do_sample: false };
    const expected = await model.generate({ input_ids: rows, ...greedy });
    const inputs_embeds = await model.get_input_embeddings()(rows);
    const beside = await model.generate({ input_ids: rows, inputs_embeds, ...greedy });
    expect(beside.tolist()).toEqual(expected.tolist());
    const alone = await model.generate({ inputs_embeds, ...greedy });
    expect(alone.tolist()).toEqual(expected.slice(null, [rows[0]!.length, null]).tolist());
    const beams = { ...greedy, num_beams: 2 };
    expect((await model.generate({ inputs_embeds, ...beams })).tolist()).toEqual(
      (await model.generate({ input_ids: rows, ...beams })).slice(null, [rows[0]!.length, null]).tolist(),
    );
    const short = { inputs_embeds, input_ids: [[5]], max_new_tokens: 2 };
    await expect(model.generate(short)).rejects.toThrow("not as many as input_ids has tokens");
    await expect(model.generate({ inputs_embeds: inputs_embeds.at(0)! })).rejects.toThrow("expected float32");
    await expect(model.generate({ inputs_embeds, use_cache: false })).rejects.toThrow("together with");
  });

  it("gives the attention of every step of generate, as calls give it", async () => {
    const { input_ids, attention_mask } = cases.attentions_left_padded!.inputs as Record<string, number[][]>;
    const options = {
      input_ids: input_ids!,
      attention_mask: attention_mask!,
      max_new_tokens: 3,
      do_sample: false,
    };
    const asked = { eos_token_id: [], return_dict_in_generate: true, output_attentions: true } as const;
    const { attentions, sequences } = await model.generate({ ...options, ...asked });
    expect(sequences.tolist()).toEqual((await model.generate({ ...options, eos_token_id: [] })).tolist());
    expect(attentions).toHaveLength(3);
    const call = await model({
      input_ids: input_ids!,
      attention_mask: attention_mask!,
      output_attentions: true,
    });
    for (const [i, layer] of call.attentions!.entries()) {
      expect(attentions![0]![i]!.dims).toEqual(layer.dims);
      expectClose(attentions![0]![i]!.data as Float32Array, [...(layer.data as Float32Array)]);
      expect(attentions![1]![i]!.dims.slice(0, 3)).toEqual([2, layer.dims[1], 1]);
    }
  });

  it.skipIf(gemma3n)("gives the text model under the head", async () => {
    const { input_ids } = cases.vectors!.inputs as Record<string, number[][]>;
    const base = await model.model({ input_ids: input_ids!, output_hidden_states: true });
    const whole = await model({ input_ids: input_ids!, output_hidden_states: true });
    expect(base.last_hidden_state.tolist()).toEqual(base.hidden_states!.at(-1)!.tolist());
    expectClose(base.last_hidden_state.data as Float32Array, [
      ...(whole.hidden_states!.at(-1)!.data as Float32Array),
    ]);
    const alone = await model.model({ input_ids: input_ids! });
    expectClose(alone.last_hidden_state.data as Float32Array, [
      ...(base.last_hidden_state.data as Float32Array),
    ]);
  });
});

function expectClose(got: Float32Array, expected: readonly number[]): void {
  expect(got.length).toBe(expected.length);
  let worst = 0;
  for (const [i, value] of expected.entries()) worst = Math.max(worst, Math.abs(got[i]! - value));
  expect(worst).toBeLessThan(1e-4);
}

/** Where a query is padding HF's weights mean nothing: they are left out, being those of a row of zeros here. */
function expectAttention(weights: Tensor, data: readonly number[], shape: readonly number[]): void {
  const keys = shape.at(-1)!;
  for (let line = 0; line < data.length / keys; line++) {
    const got = (weights.data as Float32Array).subarray(line * keys, (line + 1) * keys);
    if (got.every((value) => value === 0)) continue;
    expectClose(got, data.slice(line * keys, (line + 1) * keys));
  }
}
