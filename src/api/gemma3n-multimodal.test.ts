import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Gemma3nConfig } from "../models/gemma3n/multimodal-config.ts";
import { Tensor } from "../tensor.ts";
import { AutoModel, AutoModelForCausalLM, AutoModelForImageTextToText } from "./auto.ts";
import type { ModelGenerateOptions } from "./causal-lm.ts";
import { Gemma3nForCausalLM } from "./gemma3n.ts";
import { Gemma3nForConditionalGeneration, Gemma3nModel } from "./gemma3n-multimodal.ts";

/** A window of 8 positions, 512 ids of text, 8 of images, 8 of sounds; 16 vectors an image, 12 a sound. */
const TINY = fileURLToPath(new URL("../../../shared/golden/gemma3n_mm/model", import.meta.url));
const [IMAGE_TOKEN, SOUND_TOKEN] = [513, 521];
const IMAGE = [510, ...new Array<number>(16).fill(IMAGE_TOKEN), 512];
const SOUND = [511, ...new Array<number>(12).fill(SOUND_TOKEN), 520];
const [BEFORE, AFTER, LATER] = [
  [2, 17, 230, 41, 99],
  [77, 18, 250],
  [12, 401, 8, 56],
];
const greedy = { max_new_tokens: 8, eos_token_id: [], do_sample: false } as const;

/** Numbers that look random, always the same ones. */
function floats(size: number, seed: number): Float32Array {
  return Float32Array.from({ length: size }, (_, i) => Math.sin((i + 1) * (seed + 0.37)) / 2 + 0.5);
}

/** Images of 128x96 pixels, one for each seed. */
function pixels(...seeds: number[]): Tensor {
  const size = 3 * 128 * 96;
  const data = new Float32Array(seeds.length * size);
  for (const [i, seed] of seeds.entries()) data.set(floats(size, seed), i * size);
  return new Tensor("float32", data, [seeds.length, 3, 128, 96]);
}

/** Clips of so many frames, padded to the longest. */
function sounds(...frames: number[]): { input_features: Tensor; input_features_mask: Tensor } {
  const longest = Math.max(...frames);
  const data = new Float32Array(frames.length * longest * 64);
  const mask = new Uint8Array(frames.length * longest);
  for (const [i, count] of frames.entries()) {
    data.set(floats(count * 64, count), i * longest * 64);
    mask.fill(1, i * longest, i * longest + count);
  }
  return {
    input_features: new Tensor("float32", data, [frames.length, longest, 64]),
    input_features_mask: new Tensor("bool", mask, [frames.length, longest]),
  };
}

function expectClose(actual: Tensor, expected: Tensor, tolerance = 5e-4): void {
  expect(actual.dims).toEqual(expected.dims);
  let worst = 0;
  for (let i = 0; i < expected.size; i++)
    worst = Math.max(worst, Math.abs(Number(actual.data[i]) - Number(expected.data[i])));
  expect(worst).toBeLessThan(tolerance);
}

describe("Gemma3nConfig", () => {
  it("has HF's defaults", () => {
    const config = new Gemma3nConfig({});
    expect(config.vision_soft_tokens_per_image).toBe(256);
    expect(config.audio_soft_tokens_per_image).toBe(188);
    expect([config.image_token_id, config.audio_token_id, config.eoi_token_id]).toEqual([
      262_145, 262_273, 262_144,
    ]);
    expect(config.get_text_config().vocab_size).toBe(262_400);
  });

  it.each([
    [{ vision_soft_tokens_per_image: 255 }, "16x16 vectors an image, not 255"],
    [{ audio_config: { vocab_offset: 262_273 } }, "vision_config.vocab_size"],
    [{ text_config: { vocab_size: 262_272 } }, "audio_config.vocab_size"],
    [{ vision_config: { model_args: { msfa_output_resolution: 8 } } }, "8x8 vectors an image, not 256"],
  ])("refuses %j", (config, message) => {
    expect(() => new Gemma3nConfig(config)).toThrow(message);
  });
});

describe.skipIf(!existsSync(TINY))("Gemma3nForConditionalGeneration", () => {
  let model: Gemma3nForConditionalGeneration;
  beforeAll(async () => {
    model = await Gemma3nForConditionalGeneration.from_pretrained(TINY);
  });
  afterAll(() => model.dispose());

  async function ids(options: ModelGenerateOptions): Promise<number[][]> {
    const sequences = (await model.generate({ ...greedy, ...options })) as Tensor;
    return (sequences.tolist() as bigint[][]).map((row) => row.map(Number));
  }

  it("is what the Auto classes load", async () => {
    const loaded = [
      [AutoModelForImageTextToText, Gemma3nForConditionalGeneration],
      [AutoModel, Gemma3nModel],
      [AutoModelForCausalLM, Gemma3nForCausalLM],
    ] as const;
    for (const [Auto, Class] of loaded) {
      const made = await Auto.from_pretrained(TINY);
      expect(made).toBeInstanceOf(Class);
      await made.dispose();
    }
  });

  it("loads a tower with the first input of its kind, and none for text", async () => {
    const fresh = await Gemma3nForConditionalGeneration.from_pretrained(TINY);
    const loaded = (): string[] =>
      Object.entries(fresh.memory().parts!).flatMap(([name, part]) => (part.loaded ? [name] : []));
    await fresh({ input_ids: [BEFORE] });
    expect(loaded()).toEqual([]);
    await fresh({ input_ids: [[...BEFORE, ...SOUND]], ...sounds(40) });
    expect(loaded()).toEqual(["audio_encoder", "embed_audio"]);
    await fresh({ input_ids: [[...BEFORE, ...IMAGE]], pixel_values: pixels(1) });
    expect(loaded()).toEqual(["vision_encoder", "audio_encoder", "embed_vision", "embed_audio"]);
    await fresh.dispose();
  });

  it("gives equal tokens with every cache and with none", async () => {
    const prompt = { input_ids: [[...BEFORE, ...IMAGE, ...AFTER, ...SOUND, ...LATER]] };
    const inputs = { ...prompt, pixel_values: pixels(3), ...sounds(37) };
    const dynamic = await ids(inputs);
    expect(await ids({ ...inputs, cache_implementation: "static" })).toEqual(dynamic);
    expect(await ids({ ...inputs, use_cache: false })).toEqual(dynamic);
    expect(new Set(dynamic[0]!.slice(-8)).size).toBeGreaterThan(1);
  });

  it("computes rows of different mixes as it computes each alone", async () => {
    const rows = [
      [...BEFORE, ...IMAGE, ...AFTER, ...IMAGE],
      [...BEFORE, ...LATER],
      [...SOUND, ...AFTER, ...IMAGE, ...SOUND, ...LATER],
    ];
    const longest = Math.max(...rows.map((row) => row.length));
    const padded = rows.map((row) => [...new Array<number>(longest - row.length).fill(0), ...row]);
    const attention_mask = padded.map((row) => row.map((id) => (id === 0 ? 0 : 1)));
    const media = { pixel_values: pixels(1, 2, 3), ...sounds(50, 21) };
    const { logits } = await model({ input_ids: padded, attention_mask, ...media });
    const alone = [
      await model({ input_ids: [rows[0]!], pixel_values: pixels(1, 2) }),
      await model({ input_ids: [rows[1]!] }),
      await model({ input_ids: [rows[2]!], pixel_values: pixels(3), ...sounds(50, 21) }),
    ];
    for (const [r, output] of alone.entries())
      expectClose(logits.slice([r, r + 1], [longest - rows[r]!.length, null]), output.logits);
  });

  it("takes images and sounds on a kept cache, without those that it holds", async () => {
    const first = [...BEFORE, ...IMAGE, ...AFTER];
    const second = [...first, ...LATER, ...SOUND, ...AFTER];
    const whole = await ids({ input_ids: [second], pixel_values: pixels(1), ...sounds(33) });
    for (const images of [{ pixel_values: pixels(1) }, {}]) {
      const { past_key_values } = await model({ input_ids: [first], pixel_values: pixels(1) });
      const input = { input_ids: [second], ...images, ...sounds(33), past_key_values: past_key_values! };
      expect(await ids(input)).toEqual(whole);
    }
    // All of them may be there already.
    const all = { pixel_values: pixels(1), ...sounds(33) };
    const { past_key_values } = await model({ input_ids: [second], ...all });
    const third = [...second, ...LATER];
    expect(await ids({ input_ids: [third], ...all, past_key_values: past_key_values! })).toEqual(
      await ids({ input_ids: [third], ...all }),
    );
  });

  it("embeds ids of images and sounds without any, in a prompt and in steps", async () => {
    const row = [...BEFORE, 514, 519, 77, 520, 527, 12];
    const { logits } = await model({ input_ids: [row] });
    let past_key_values: Awaited<ReturnType<typeof model>>["past_key_values"];
    for (const [i, id] of row.entries()) {
      const step = await model({ input_ids: [[id]], ...(past_key_values && { past_key_values }) });
      past_key_values = step.past_key_values;
      expectClose(step.logits, logits.slice(null, [i, i + 1]));
    }
    // Those of the embedding table, which are for the output alone, would be others.
    const inputs_embeds = await model.get_input_embeddings()([row]);
    const other = await model({ input_ids: [row], inputs_embeds });
    expect(Number(other.logits.slice(0, -1, 5).data[0])).not.toBeCloseTo(
      Number(logits.slice(0, -1, 5).data[0]),
      3,
    );
  });

  it("gives what the encoders make of images and sounds", async () => {
    const image = await model.get_image_features(pixels(1, 2));
    expect(image.last_hidden_state.dims).toEqual([2, 2048, 4, 4]);
    expect(image.pooler_output.dims).toEqual([2, 16, 32]);
    expect(image.hidden_states).toBe(undefined);
    const all = await model.model.get_image_features({ pixel_values: pixels(2), output_hidden_states: true });
    expect(all.hidden_states!.map(({ dims }) => dims)).toEqual([
      [1, 8, 64, 48],
      [1, 8, 32, 24],
      [1, 16, 16, 12],
      [1, 24, 8, 6],
      [1, 32, 4, 3],
    ]);
    expect(all.pooler_output.tolist()[0]).toEqual(image.pooler_output.tolist()[1]);
    const sound = await model.get_audio_features(sounds(40));
    const outputs = await model({
      input_ids: [[...IMAGE, ...SOUND]],
      pixel_values: pixels(2),
      ...sounds(40),
    });
    expect(outputs.image_hidden_states!.tolist()).toEqual(all.pooler_output.tolist());
    expect(outputs.audio_hidden_states!.dims).toEqual([1, 12, 32]);
    const tokens = sound.pooler_output.dims[1]!;
    expect(outputs.audio_hidden_states!.slice(0, [0, tokens]).tolist()).toEqual(
      sound.pooler_output.tolist()[0],
    );
  });

  it("says that a model for text alone takes no sounds", async () => {
    const text = await AutoModelForCausalLM.from_pretrained(TINY);
    const inputs = { input_ids: [[...BEFORE, ...SOUND]], ...sounds(20) };
    for (const call of [() => text.generate(inputs), () => text(inputs as never)])
      await expect(call()).rejects.toThrow("input_features: this model was loaded for text alone");
    await text.dispose();
  });

  it("says what does not fit, with both numbers", async () => {
    const row = [...BEFORE, ...IMAGE];
    await expect(model({ input_ids: [row], pixel_values: pixels(1, 2) })).rejects.toThrow(
      "2 images have 32 vectors, but input_ids hold 16 places for them (token 513)",
    );
    await expect(model({ input_ids: [row], ...sounds(20) })).rejects.toThrow(
      "1 sounds have 12 vectors, but input_ids hold 0 places for them (token 521)",
    );
    await expect(model({ input_ids: [[...SOUND]], ...sounds(400) })).rejects.toThrow(
      /give \d+ vectors a clip, but a prompt has places for 12/,
    );
    const { input_features_mask } = sounds(20, 20);
    await expect(
      model({ input_ids: [[...SOUND]], input_features: sounds(20).input_features, input_features_mask }),
    ).rejects.toThrow("input_features_mask: expected [1, 20], as input_features have, got bool [2, 20]");
    await expect(
      model.get_image_features({ pixel_values: pixels(1), output_hidden_state: true } as never),
    ).rejects.toThrow('did you mean "output_hidden_states"?');
    await expect(model.get_audio_features({ ...sounds(20), sampling_rate: 1 } as never)).rejects.toThrow(
      'get_audio_features: unknown option "sampling_rate"',
    );
    const grey = new Tensor("float32", new Float32Array(128 * 128), [1, 1, 128, 128]);
    await expect(model({ input_ids: [row], pixel_values: grey })).rejects.toThrow(
      "expected float32 [images, 3, height, width]",
    );
    await expect(model({ input_ids: [row], pixel_value: grey } as never)).rejects.toThrow(
      'did you mean "pixel_values"?',
    );
  });
});
