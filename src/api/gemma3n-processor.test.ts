import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { beforeAll, describe, expect, it } from "vitest";
import { RawImage } from "../processing/raw-image.ts";
import type { Tensor } from "../tensor.ts";
import { AutoProcessor, Gemma3nProcessor } from "./processors.ts";

// The parity sets check numbers; here are forms of calls and misuse, with the set's tokenizer where it is there.
const model = fileURLToPath(new URL("../../../shared/golden/gemma3n_mm/model/", import.meta.url));
const image = new RawImage(new Uint8Array(3), 1, 1, 3);
const clip = new Float32Array(8000).fill(0.1);
const IMAGE = "<image_soft_token>";
const AUDIO = "<audio_soft_token>";

describe.skipIf(!existsSync(model))("Gemma3nProcessor", () => {
  let processor: Gemma3nProcessor;
  beforeAll(async () => {
    processor = await Gemma3nProcessor.from_pretrained(model, { audio_seq_length: 3 });
  });

  /** How often each type stands in the rows. */
  function types({ token_type_ids }: { token_type_ids: Tensor }): number[][] {
    const rows = (token_type_ids.tolist() as bigint[][]).map((row) => row.map(Number));
    return rows.map((row) => [1, 3].map((type) => row.filter((one) => one === type).length));
  }

  it("takes images and clips in one text, in any mixture over the rows", async () => {
    const both = await processor(`${AUDIO}${IMAGE} and ${AUDIO}`, image, [clip, clip]);
    expect(types(both)).toEqual([[16, 6]]);
    expect(both.input_features_mask?.dims[0]).toBe(2);
    const texts = [`${IMAGE}`, "none", `${AUDIO}${IMAGE}${IMAGE}`];
    const rows = await processor(texts, [[image], [], [image, image]], [[], [], [clip]], { padding: true });
    expect(types(rows)).toEqual([
      [16, 0],
      [0, 0],
      [32, 3],
    ]);
    // A flat list of clips follows the placeholders.
    const flat = await processor(texts, [[image], [], [image, image]], [clip], { padding: true });
    expect(flat.input_ids).toEqual(rows.input_ids);
  });

  it("gives media without a text their placeholders", async () => {
    expect(types(await processor(null, null, [clip, clip], { padding: true }))).toEqual([
      [0, 3],
      [0, 3],
    ]);
    expect(types(await processor(null, null, [[clip, clip]]))).toEqual([[0, 6]]);
    await expect(processor(null, image, clip)).rejects.toThrow("need a text with their placeholders");
  });

  it("cuts a long clip when asked to, with tokens for each piece", async () => {
    const inputs = await processor(AUDIO, null, clip, { chunk_length_s: 0.3 });
    expect(types(inputs)).toEqual([[0, 6]]);
    expect(inputs.input_features?.dims[0]).toBe(2);
    const minute = new Float32Array(16_000 * 60);
    await expect(processor(AUDIO, null, minute)).rejects.toThrow(/30 s|480000/);
  });

  it("tells both counts where placeholders and clips differ", async () => {
    await expect(processor(AUDIO, null, [clip, clip])).rejects.toThrow(
      "2 audio clips for 1 placeholder <audio_soft_token> in the text",
    );
    await expect(processor("none", null, clip)).rejects.toThrow("1 audio clip for 0 placeholders");
    await expect(processor(AUDIO, image, clip)).rejects.toThrow("1 image for 0 placeholders");
  });

  it("keeps the tokenizer's limits away from the clips", async () => {
    const inputs = await processor(AUDIO, null, clip, { padding: "max_length", max_length: 40 });
    expect(inputs.input_ids.dims).toEqual([1, 40]);
    expect(inputs.input_features?.dims[1]).toBe(48);
  });

  it("is found by AutoProcessor", async () => {
    expect(await AutoProcessor.from_pretrained(model)).toBeInstanceOf(Gemma3nProcessor);
  });
});
