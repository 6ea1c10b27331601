import { mkdtemp, rm, writeFile } from "node:fs/promises";
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

  it("refuses what it does not know", async () => {
    const model = await SiglipVisionModel.from_pretrained(TINY);
    await expect(model({ pixel_values: new Tensor("float32", data, [3, 2, SIDE, SIDE]) })).rejects.toThrow(
      "expected float32 [images, 3, 48, 48]",
    );
    const unknown = { pixel_values, interpolate_pos_encoding: true };
    await expect(model(unknown)).rejects.toThrow(InputError);
    await model.dispose();
    await expect(SiglipVisionModel.from_pretrained(TINY, { slice: "E2B" })).rejects.toThrow("slice");
    const config = { model_type: "gemma3_text" };
    await expect(SiglipVisionModel.from_pretrained(TINY, { config })).rejects.toThrow("no SigLIP encoder");
  });
});
