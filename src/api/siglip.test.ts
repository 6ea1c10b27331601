import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { visionModelAlone } from "../checkpoints/model-prefix.ts";
import { openCheckpoint } from "../checkpoints/open.ts";
import { writeSafetensors } from "../checkpoints/write-safetensors.ts";
import { InputError } from "../errors.ts";
import { Tensor } from "../tensor.ts";
import { Gemma3ForConditionalGeneration } from "./gemma3-multimodal.ts";
import { SiglipVisionModel } from "./siglip.ts";

const TINY = resolve(import.meta.dirname, "../../test/fixtures/multimodal/gemma3_mm/model");
const SIGLIP = resolve(import.meta.dirname, "../../test/fixtures/siglip");
const SIDE = 48;
const data = Float32Array.from({ length: 2 * 3 * SIDE * SIDE }, (_, i) => Math.sin(i * 0.37));
const pixel_values = new Tensor("float32", data, [2, 3, SIDE, SIDE]);

let expected: Tensor;
let folder: string;

beforeAll(async () => {
  const whole = await Gemma3ForConditionalGeneration.from_pretrained(TINY);
  expected = (await whole.get_image_features(pixel_values)).last_hidden_state;
  await whole.dispose();
  folder = await mkdtemp(join(tmpdir(), "lapidary-siglip-"));
});

afterAll(() => rm(folder, { recursive: true }));

/** The largest difference. */
function distance(one: Tensor, other: Tensor): number {
  const values = other.data as Float32Array;
  return (one.data as Float32Array).reduce(
    (most, value, i) => Math.max(most, Math.abs(value - values[i]!)),
    0,
  );
}

describe("SiglipVisionModel", () => {
  it("is the encoder inside a Gemma 3 model", async () => {
    const model = await SiglipVisionModel.from_pretrained(TINY);
    const { last_hidden_state, hidden_states } = await model({ pixel_values });
    expect(last_hidden_state).toEqual(expected);
    expect(hidden_states).toBeUndefined();
    const all = await model.forward({ pixel_values, output_hidden_states: true });
    // The engine fuses other operations where every state is an output.
    expect(distance(all.last_hidden_state, expected)).toBeLessThan(1e-5);
    expect(all.hidden_states).toHaveLength(model.config.num_hidden_layers + 1);
    for (const state of all.hidden_states!) expect(state.dims).toEqual(expected.dims);
    expect(distance(all.hidden_states!.at(-1)!, expected)).toBeGreaterThan(0.01);
    await model.dispose();
    await expect(model({ pixel_values })).rejects.toThrow("disposed");
  });

  it("reads a file of its own", async () => {
    const source = await openCheckpoint(TINY);
    const tensors = await Promise.all(
      [...visionModelAlone(source).tensors.values()].map(async (slice) => {
        const bytes = await source.read(slice);
        const name = `vision_model.${slice.name}`;
        return { name, dtype: "F32" as const, shape: slice.shape, data: [bytes] };
      }),
    );
    await writeSafetensors(join(folder, "model.safetensors"), tensors);
    await source.close();
    const inside = await SiglipVisionModel.from_pretrained(TINY);
    const config = { ...inside.config, model_type: "siglip_vision_model" };
    await writeFile(join(folder, "config.json"), JSON.stringify(config));
    const model = await SiglipVisionModel.from_pretrained(folder, { dtype: "fp32" });
    expect((await model({ pixel_values })).last_hidden_state).toEqual(expected);
    await Promise.all([model.dispose(), inside.dispose()]);
  });

  it.each(["head", "no-head"])("gives HF's numbers (%s)", async (name) => {
    const fixture = await openCheckpoint(join(SIGLIP, `${name}.safetensors`));
    const tensorOf = async (key: string): Promise<Tensor> => {
      const slice = fixture.tensors.get(key)!;
      const { buffer } = Uint8Array.from(await fixture.read(slice));
      return new Tensor("float32", new Float32Array(buffer), slice.shape);
    };
    const model = await SiglipVisionModel.from_pretrained(join(SIGLIP, name), { dtype: "fp32" });
    expect(model.memory().parts.vision_encoder).toMatchObject({ loaded: false });
    const images = await tensorOf("pixel_values");
    const output = await model({ pixel_values: images, output_hidden_states: true });
    expect(model.memory().parts.vision_encoder).toMatchObject({ loaded: true });
    const states = Object.fromEntries(output.hidden_states!.map((state, k) => [`hidden_states.${k}`, state]));
    const { last_hidden_state, pooler_output } = output;
    const given = {
      pixel_values: images,
      last_hidden_state,
      ...(pooler_output && { pooler_output }),
      ...states,
    };
    expect(Object.keys(given).sort()).toEqual([...fixture.tensors.keys()].sort());
    for (const [key, tensor] of Object.entries(given)) {
      const reference = await tensorOf(key);
      expect(tensor.dims).toEqual(reference.dims);
      expect(distance(tensor, reference), key).toBeLessThan(1e-5);
    }
    const alone = await model({ pixel_values: images });
    expect(Object.keys(alone)).toEqual(Object.keys(output).filter((key) => key !== "hidden_states"));
    if (pooler_output) expect(distance(alone.pooler_output!, pooler_output)).toBeLessThan(1e-5);
    await Promise.all([model.dispose(), fixture.close()]);
  });

  it.each(["fp16", "q8", "q4"] as const)("pools in %s, near to fp32", async (dtype) => {
    const source = join(SIGLIP, "head");
    const [exact, rounded] = await Promise.all([
      SiglipVisionModel.from_pretrained(source, { dtype: "fp32" }),
      SiglipVisionModel.from_pretrained(source, { dtype }),
    ]);
    const side = exact.config.image_size;
    const images = new Tensor("float32", data.slice(0, 3 * side * side), [1, 3, side, side]);
    const [one, other] = await Promise.all([
      exact({ pixel_values: images }),
      rounded({ pixel_values: images }),
    ]);
    const size = Math.hypot(...(one.pooler_output!.data as Float32Array));
    const off = distance(one.pooler_output!, other.pooler_output!);
    expect(off).toBeGreaterThan(0);
    expect(off).toBeLessThan(0.05 * size);
    await Promise.all([exact.dispose(), rounded.dispose()]);
  });

  it("reads the block of a whole SigLIP model", async () => {
    const source = join(SIGLIP, "head");
    const vision_config: unknown = JSON.parse(await readFile(join(source, "config.json"), "utf8"));
    const config = { model_type: "siglip", vision_config };
    const [alone, inside] = await Promise.all([
      SiglipVisionModel.from_pretrained(source),
      SiglipVisionModel.from_pretrained(source, { config }),
    ]);
    expect(inside.config).toEqual(alone.config);
    expect(inside.config.unknown_keys).toEqual([]);
    await Promise.all([alone.dispose(), inside.dispose()]);
  });

  it("refuses what it does not know", async () => {
    const model = await SiglipVisionModel.from_pretrained(TINY);
    await expect(model({ pixel_values: new Tensor("float32", data, [3, 2, SIDE, SIDE]) })).rejects.toThrow(
      "expected float32 [images, 3, 48, 48]",
    );
    await expect(model({ pixel_values, interpolate_pos_encoding: true })).rejects.toThrow(InputError);
    await expect(model({ pixel_values, output_attentions: true })).rejects.toThrow("output_attentions");
    const unknown = { pixel_values, output_hidden_state: true };
    await expect(model(unknown)).rejects.toThrow("output_hidden_states");
    await model.dispose();
    await expect(SiglipVisionModel.from_pretrained(TINY, { slice: "E2B" })).rejects.toThrow("slice");
    const config = { model_type: "gemma3_text" };
    await expect(SiglipVisionModel.from_pretrained(TINY, { config })).rejects.toThrow("no SigLIP encoder");
  });
});
