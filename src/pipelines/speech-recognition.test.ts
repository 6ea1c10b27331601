import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { ImageTextToTextPipeline } from "./image-text-to-text.ts";
import { pipeline } from "./pipeline.ts";
import type { AutomaticSpeechRecognitionPipeline } from "./speech-recognition.ts";

// A model of noise says nothing: what is checked is that sounds arrive as in a chat.
const CASE = resolve(import.meta.dirname, "../../../shared/golden/gemma3n_mm");
const clip = `${CASE}/sounds/clip0.wav`;
const short = { max_new_tokens: 5, do_sample: false };

describe.skipIf(!existsSync(CASE))("automatic-speech-recognition", () => {
  let pipe: AutomaticSpeechRecognitionPipeline;
  let any: ImageTextToTextPipeline;
  beforeAll(async () => {
    pipe = await pipeline("automatic-speech-recognition", `${CASE}/model`, { dtype: "fp32" });
    any = await pipeline("any-to-any", `${CASE}/model`, { dtype: "fp32" });
  });
  afterAll(() => Promise.all([pipe.dispose(), any.dispose()]));

  it("asks about one sound or several", async () => {
    const content = [
      { type: "audio", path: clip },
      { type: "text", text: "Transcribe this audio." },
    ];
    const [expected] = await any([{ role: "user", content }], { return_full_text: false, ...short });
    const text = expected!.generated_text.trim();
    expect(await pipe(clip, short)).toEqual({ text });
    expect(await pipe([clip, clip], short)).toEqual([{ text }, { text }]);
  });

  it("takes images and sounds together, with the pages' placeholder or none", async () => {
    const images = `${CASE}/images/shapes.png`;
    const given = { images, audio: clip, return_full_text: false, ...short };
    const [exact] = await any({ text: "<audio_soft_token> <image_soft_token> What?", ...given });
    const [missing] = await any({ text: "What?", ...given });
    expect(missing!.generated_text).toBe(exact!.generated_text);
    const [start] = await any({ text: "<audio_soft_token> <start_of_image> What?", ...given });
    expect(start!.generated_text).toBe(exact!.generated_text);
  });

  it("needs a sound", async () => {
    await expect(pipe([], short)).rejects.toThrow("at least one sound");
    await expect(pipe(undefined as never, short)).rejects.toThrow("at least one sound");
  });

  it("refuses models that hear nothing", async () => {
    const deaf = resolve(import.meta.dirname, "../../test/fixtures/multimodal/gemma3_mm/model");
    await expect(pipeline("automatic-speech-recognition", deaf)).rejects.toThrow("takes no audio");
  });
});
