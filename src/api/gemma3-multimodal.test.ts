import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { renamed } from "../checkpoints/model-prefix.ts";
import { openCheckpoint } from "../checkpoints/open.ts";
import { writeSafetensors } from "../checkpoints/write-safetensors.ts";
import { Tensor } from "../tensor.ts";
import { AutoModelForCausalLM, AutoModelForImageTextToText } from "./auto.ts";
import type { ModelGenerateOptions } from "./causal-lm.ts";
import { Gemma3ForCausalLM } from "./gemma3.ts";
import { Gemma3ForConditionalGeneration, Gemma3Model } from "./gemma3-multimodal.ts";

/** A window of 7 positions, 4 vectors an image, heads of 12 that the kernel has as 16. */
const TINY = resolve(import.meta.dirname, "../../test/fixtures/multimodal/gemma3_mm/model");
const SIDE = 48;
const IMAGE_TOKEN = 432;
const IMAGE = [430, IMAGE_TOKEN, IMAGE_TOKEN, IMAGE_TOKEN, IMAGE_TOKEN, 431];
const BEFORE = [2, 17, 230, 41, 99, 305];
const AFTER = [77, 18, 250, 31];
const LATER = [12, 401, 8, 56, 210];
const greedy = { max_new_tokens: 10, eos_token_id: [], do_sample: false } as const;

let model: Gemma3ForConditionalGeneration;
let folder: string;

beforeAll(async () => {
  model = await Gemma3ForConditionalGeneration.from_pretrained(TINY);
  folder = await mkdtemp(join(tmpdir(), "lapidary-images-"));
});

afterAll(async () => {
  await model.dispose();
  await rm(folder, { recursive: true });
});

/** Pixels that look random, always the same ones. */
function pixels(...seeds: number[]): Tensor {
  const size = 3 * SIDE * SIDE;
  const data = new Float32Array(seeds.length * size);
  for (const [i, seed] of seeds.entries())
    for (let p = 0; p < size; p++)
      data[i * size + p] = Math.sin((p + 1) * (seed + 0.37)) + Math.cos(p * seed);
  return new Tensor("float32", data, [seeds.length, 3, SIDE, SIDE]);
}

/** Text and types for ids in which every image token belongs to an image. */
function typed(ids: number[]): { input_ids: number[][]; token_type_ids: number[][] } {
  return { input_ids: [ids], token_type_ids: [ids.map((id) => (id === IMAGE_TOKEN ? 1 : 0))] };
}

function numbers(tensor: Tensor): Float32Array {
  return tensor.data as Float32Array;
}

function expectClose(actual: Float32Array, expected: Float32Array, tolerance = 2e-5): void {
  expect(actual.length).toBe(expected.length);
  let worst = 0;
  for (const [i, value] of expected.entries()) worst = Math.max(worst, Math.abs(value - actual[i]!));
  expect(worst).toBeLessThan(tolerance);
}

async function ids(options: ModelGenerateOptions): Promise<number[][]> {
  const sequences = (await model.generate({ ...greedy, ...options })) as Tensor;
  return (sequences.tolist() as bigint[][]).map((row) => row.map(Number));
}

describe("Gemma3ForConditionalGeneration", () => {
  const prompt = [...BEFORE, ...IMAGE, ...AFTER];

  it("gives the same under a mask all along as stretch by stretch", async () => {
    const inputs = {
      ...typed([...BEFORE, ...IMAGE, ...AFTER, ...IMAGE, ...LATER]),
      pixel_values: pixels(1, 2),
    };
    const split = await model({ ...inputs, output_hidden_states: true });
    const whole = await model({ ...inputs, output_hidden_states: true, output_attentions: true });
    expectClose(numbers(split.logits), numbers(whole.logits));
    for (const [i, state] of split.hidden_states!.entries())
      expectClose(numbers(state), numbers(whole.hidden_states![i]!), 2e-4);
    // An image's tokens see its later ones, text does not look ahead.
    const [weights] = whole.attentions!;
    const seen = (query: number, key: number): number => Number(weights!.slice(0, 0, query, key).data[0]);
    expect(seen(7, 10)).toBeGreaterThan(0);
    expect(seen(6, 7)).toBe(0);
    expect(seen(11, 12)).toBe(0);
  });

  it("computes an image in a prompt as in steps", async () => {
    const inputs = { ...typed(prompt), pixel_values: pixels(3) };
    const whole = await model(inputs);
    let past_key_values: Awaited<ReturnType<typeof model>>["past_key_values"];
    const rows: Float32Array[] = [];
    const stretches = [...BEFORE, IMAGE[0]!].map((id) => [id]);
    stretches.push(IMAGE.slice(1, 5), ...[IMAGE[5]!, ...AFTER].map((id) => [id]));
    for (const stretch of stretches) {
      const image = stretch.includes(IMAGE_TOKEN);
      const step = await model({
        ...(image ? { ...typed(stretch), pixel_values: pixels(3) } : { input_ids: [stretch] }),
        ...(past_key_values && { past_key_values }),
      });
      past_key_values = step.past_key_values;
      rows.push(numbers(step.logits));
    }
    const steps = new Float32Array(rows.flatMap((row) => [...row]));
    expectClose(numbers(whole.logits), steps);
  });

  it("takes a new image on a kept cache, whether or not the earlier ones come again", async () => {
    const first = { ...typed(prompt), pixel_values: pixels(1) };
    const second = [...prompt, ...LATER, ...IMAGE, ...AFTER];
    const fresh = await ids({ ...typed(second), pixel_values: pixels(1, 2) });
    for (const pixel_values of [pixels(2), pixels(1, 2)]) {
      const { past_key_values } = await model(first);
      expect(await ids({ ...typed(second), pixel_values, past_key_values: past_key_values! })).toEqual(fresh);
    }
    // The new tokens alone, under a mask that covers the cache.
    const { past_key_values } = await model(first);
    const rest = second.slice(prompt.length);
    const continued = await ids({
      ...typed(rest),
      attention_mask: [second.map(() => 1)],
      pixel_values: pixels(2),
      past_key_values: past_key_values!,
    });
    expect(continued[0]!.slice(rest.length)).toEqual(fresh[0]!.slice(second.length));
  });

  it("needs no image where the cache holds them all", async () => {
    const { past_key_values } = await model({ ...typed(prompt), pixel_values: pixels(1) });
    const more = [...prompt, ...LATER];
    const fresh = await ids({ ...typed(more), pixel_values: pixels(1) });
    const again = past_key_values!.clone();
    expect(await ids({ ...typed(more), past_key_values: again })).toEqual(fresh);
    expect(await ids({ ...typed(more), pixel_values: pixels(1), past_key_values: past_key_values! })).toEqual(
      fresh,
    );
  });

  it("reads an image far beyond the window and a chunk", async () => {
    const text = Array.from({ length: 700 }, (_, i) => 3 + ((i * 37) % 400));
    const inputs = {
      ...typed([2, ...text, ...IMAGE, ...AFTER, ...IMAGE, ...text.slice(0, 20)]),
      pixel_values: pixels(4, 5),
    };
    const [split, whole] = [await model(inputs), await model({ ...inputs, output_attentions: true })];
    expectClose(numbers(split.logits), numbers(whole.logits), 1e-4);
  });

  it("computes rows of a batch as alone, padded left or right", async () => {
    const rows = [prompt, [...BEFORE, ...IMAGE, ...AFTER, ...IMAGE, ...LATER], [...BEFORE, ...LATER]];
    const images = [[1], [2, 3], []];
    const alone: number[][] = [];
    for (const [r, row] of rows.entries()) {
      const pixel_values = images[r]!.length === 0 ? null : pixels(...images[r]!);
      const [all] = await ids({ ...typed(row), pixel_values });
      alone.push(all!.slice(row.length));
    }
    const length = Math.max(...rows.map((row) => row.length));
    for (const left of [true, false]) {
      const pad = (row: number[], value: number): number[] => {
        const padding = new Array<number>(length - row.length).fill(value);
        return left ? [...padding, ...row] : [...row, ...padding];
      };
      const batch = {
        input_ids: rows.map((row) => pad(row, 0)),
        attention_mask: rows.map((row) =>
          pad(
            row.map(() => 1),
            0,
          ),
        ),
        token_type_ids: rows.map((row) => pad(typed(row).token_type_ids[0]!, 0)),
        pixel_values: pixels(1, 2, 3),
      };
      expect((await ids(batch)).map((row) => row.slice(length))).toEqual(alone);
      const logits = (await model(batch)).logits.tolist() as number[][][];
      for (const [r, row] of rows.entries()) {
        const single = images[r]!.length === 0 ? {} : { pixel_values: pixels(...images[r]!) };
        const expected = numbers((await model({ ...typed(row), ...single })).logits);
        const start = left ? length - row.length : 0;
        const got = logits[r]!.slice(start, start + row.length).flat();
        expectClose(Float32Array.from(got), expected);
      }
    }
  });

  it("is causal without token_type_ids", async () => {
    const { input_ids, token_type_ids } = typed(prompt);
    const pixel_values = pixels(1);
    const causal = await model({ input_ids, pixel_values });
    const together = await model({ input_ids, token_type_ids, pixel_values });
    const vocab = causal.logits.dims[2]!;
    const row = (logits: Tensor, i: number): Float32Array =>
      numbers(logits).slice(i * vocab, (i + 1) * vocab);
    // The tokens before the image, and its beginning, are the same; its first token sees the others only together.
    expectClose(row(causal.logits, 6), row(together.logits, 6));
    expect(row(causal.logits, 7)).not.toEqual(row(together.logits, 7));
    const whole = await model({ input_ids, pixel_values, output_attentions: true });
    expectClose(numbers(causal.logits), numbers(whole.logits));
  });

  it("generates in all its ways from a prompt with images", async () => {
    const inputs = { ...typed(prompt), pixel_values: pixels(6) };
    const expected = await ids(inputs);
    expect(await ids({ ...inputs, use_cache: false })).toEqual(expected);
    expect(await ids({ ...inputs, cache_implementation: "static" })).toEqual(expected);
    expect(await ids({ ...inputs, prompt_lookup_num_tokens: 3 })).toEqual(expected);
    expect(await ids({ ...inputs, prefill_chunk_size: 5 })).toEqual(expected);
    expect(await ids({ ...inputs, assistant_model: model })).toEqual(expected);
    const sampled = { do_sample: true, seed: 5, num_return_sequences: 2 };
    expect(await ids({ ...inputs, ...sampled })).toEqual(
      await ids({ ...inputs, ...sampled, use_cache: false }),
    );
    const beams = { num_beams: 3, num_return_sequences: 2 };
    expect(await ids({ ...inputs, ...beams })).toEqual(await ids({ ...inputs, ...beams, use_cache: false }));
    const quantized = await ids({
      ...inputs,
      cache_implementation: "quantized",
      cache_config: { residual_length: 4 },
    });
    expect(quantized[0]!.slice(0, prompt.length)).toEqual(prompt);
  });

  it("keeps a hidden token hidden", async () => {
    const inputs = { ...typed(prompt), pixel_values: pixels(6) };
    const attention_mask = [prompt.map((_, i) => (i === 3 ? 0 : 1))];
    const { logits, past_key_values } = await model({ ...inputs, attention_mask });
    const other = await model({
      ...typed(prompt.map((id, i) => (i === 3 ? 5 : id))),
      pixel_values: pixels(6),
      attention_mask,
    });
    const after = 4 * logits.dims[2]!;
    expectClose(numbers(logits).subarray(after), numbers(other.logits).subarray(after));
    // Also on a cache with a hole.
    const next = { ...typed([...IMAGE, ...AFTER]), pixel_values: pixels(7) };
    const a = await model({ ...next, past_key_values: past_key_values! });
    const b = await model({ ...next, past_key_values: other.past_key_values! });
    expectClose(numbers(a.logits), numbers(b.logits));
  });

  it("says how many places and images there are when they differ", async () => {
    const two = { ...typed(prompt), pixel_values: pixels(1, 2) };
    const both = /2 images have 8 vectors, but input_ids hold 4 places/;
    await expect(model(two)).rejects.toThrow(both);
    await expect(ids(two)).rejects.toThrow(both);
    await expect(model({ input_ids: [BEFORE], pixel_values: pixels(1) })).rejects.toThrow(/hold 0 places/);
    const { past_key_values } = await model({ ...typed(prompt), pixel_values: pixels(1) });
    const more = typed([...prompt, ...IMAGE, ...AFTER]);
    await expect(
      ids({ ...more, pixel_values: pixels(1, 2, 3), past_key_values: past_key_values! }),
    ).rejects.toThrow(/12 vectors, but input_ids hold 8 places .*, 4 of them not in past_key_values/);
  });

  it("refuses pixels of another size", async () => {
    const small = new Tensor("float32", new Float32Array(3 * 24 * 24), [1, 3, 24, 24]);
    await expect(model({ ...typed(prompt), pixel_values: small })).rejects.toThrow(
      /expected float32 \[images, 3, 48, 48\], got float32 \[1, 3, 24, 24\]/,
    );
  });

  it("gives an image's features, and with a call what it made of the images", async () => {
    const pixel_values = pixels(1, 2);
    const features = await model.get_image_features({ pixel_values });
    expect(features.last_hidden_state.dims).toEqual([2, 16, 24]);
    expect(features.pooler_output.dims).toEqual([2, 4, 24]);
    const inputs = { ...typed([...BEFORE, ...IMAGE, ...IMAGE, ...AFTER]), pixel_values };
    const { image_hidden_states } = await model(inputs);
    expect(image_hidden_states).toEqual(features.pooler_output);
    expect((await model.model(inputs)).image_hidden_states).toEqual(features.pooler_output);
  });

  it("says what get_image_features takes", async () => {
    const unknown = { pixel_values: pixels(1), output_hidden_states: true };
    await expect(model.get_image_features(unknown)).rejects.toThrow('unknown option "output_hidden_states"');
    await expect(model.get_image_features(null as never)).rejects.toThrow("pixel_values: expected float32");
  });
});

describe("a model with an image encoder", () => {
  const text = [...BEFORE, ...AFTER];

  it("answers text without it, as the text model alone", async () => {
    const [both, alone] = [
      await AutoModelForImageTextToText.from_pretrained(TINY),
      await Gemma3ForCausalLM.from_pretrained(TINY),
    ];
    const expected = await alone.generate({ input_ids: [text], ...greedy });
    const types = [text.map(() => 0)];
    expect(await both.generate({ input_ids: [text], token_type_ids: types, ...greedy })).toEqual(expected);
    const before = both.memory();
    expect(before.parts).toEqual({ vision_encoder: { bytes: expect.any(Number) as number, loaded: false } });
    expect(before.weights).toEqual(alone.memory().weights);
    await both({ ...typed([...BEFORE, ...IMAGE]), pixel_values: pixels(1) });
    expect(both.memory().parts?.vision_encoder?.loaded).toBe(true);
    await Promise.all([both.dispose(), alone.dispose()]);
  });

  it("is found in every layout of names", async () => {
    const inputs = { ...typed([...BEFORE, ...IMAGE, ...AFTER]), pixel_values: pixels(1) };
    const expected = numbers((await model(inputs)).logits);
    const layouts: ((name: string) => string)[] = [
      (name) => name.replace("vision_tower.", "vision_tower.vision_model."),
      (name) =>
        name
          .replace("language_model.model.", "model.language_model.")
          .replace(/^vision_tower\./, "model.vision_tower.vision_model.")
          .replace(/^multi_modal/, "model.multi_modal"),
      (name) => name.replace("language_model.model.", "language_model."),
    ];
    for (const [i, layout] of layouts.entries()) {
      const copy = join(folder, `layout${i}`);
      await copyRenamed(copy, layout);
      const other = await AutoModelForCausalLM.from_pretrained(copy);
      expect(other).toBeInstanceOf(Gemma3ForConditionalGeneration);
      expectClose(numbers((await other(inputs)).logits), expected, 1e-6);
      await other.dispose();
    }
  });

  it("says at load what it lacks", async () => {
    const copy = join(folder, "lacking");
    await copyRenamed(copy, (name) => (name.includes("out_proj.bias") ? undefined : name));
    await expect(Gemma3Model.from_pretrained(copy)).rejects.toThrow(
      /lacks 2 tensors of the vision encoder: vision_tower\.encoder\.layers\.0\.self_attn\.out_proj\.bias/,
    );
  });

  it("runs in 8 bits, alone or with the decoder", async () => {
    const pixel_values = pixels(1);
    const exact = numbers((await model.get_image_features({ pixel_values })).pooler_output);
    for (const dtype of [{ decoder: "fp32", vision_encoder: "q8" }, "q4"] as const) {
      const small = await Gemma3ForConditionalGeneration.from_pretrained(TINY, { dtype });
      const { pooler_output } = await small.get_image_features({ pixel_values });
      const off = numbers(pooler_output).map((value, i) => value - exact[i]!);
      const norm = (values: Float32Array): number => Math.hypot(...values);
      expect(norm(off)).toBeGreaterThan(0);
      expect(norm(off) / norm(exact)).toBeLessThan(0.05);
      await small.dispose();
    }
  });
});

/** The checkpoint with other names; tensors without one are left out. */
async function copyRenamed(to: string, rename: (name: string) => string | undefined): Promise<void> {
  const source = await openCheckpoint(TINY);
  const { tensors } = renamed(source, rename);
  const list = await Promise.all(
    [...tensors.values()].map(async (slice) => ({
      name: slice.name,
      dtype: "F32" as const,
      shape: slice.shape,
      data: [new Uint8Array(await source.read(slice))],
    })),
  );
  await source.close();
  await mkdir(to);
  await writeSafetensors(join(to, "model.safetensors"), list);
  for (const file of ["config.json", "generation_config.json"])
    await writeFile(join(to, file), await readFile(join(TINY, file)));
}
