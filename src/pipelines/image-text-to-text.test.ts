import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { AutoModelForImageTextToText } from "../api/auto.ts";
import { AutoProcessor } from "../api/processors.ts";
import type { ImageTextToTextPipeline } from "./image-text-to-text.ts";
import { pipeline } from "./pipeline.ts";

const FIXTURE = resolve(import.meta.dirname, "../../test/fixtures/multimodal");
const CASE = join(FIXTURE, "gemma3_mm");
const model = join(CASE, "model");
const shapes = join(CASE, "images/shapes.png");
const alpha = join(CASE, "images/alpha.png");
const short = { max_new_tokens: 4, do_sample: false };

interface Recorded {
  readonly args: readonly unknown[];
  readonly kwargs: Readonly<Record<string, unknown>>;
  readonly output: unknown;
}

/** From transformers 5.18: tools/oracle/make_multimodal.py. */
const ORACLE = JSON.parse(readFileSync(join(FIXTURE, "pipeline.json"), "utf8")) as readonly Recorded[];

/** The same with the paths of the files. */
function located<T>(value: T): T {
  return JSON.parse(JSON.stringify(value).replaceAll('"images/', `"${CASE}/images/`)) as T;
}

let pipe: ImageTextToTextPipeline;
beforeAll(async () => {
  pipe = await pipeline("image-text-to-text", model, { dtype: "fp32" });
});
afterAll(() => pipe.dispose());

describe("image-text-to-text", () => {
  it.each(ORACLE.map((call, i) => [i, located(call)] as const))(
    "gives HF's output for call %i",
    async (_i, { args, kwargs, output }) => {
      const call = pipe as unknown as (...given: unknown[]) => Promise<unknown>;
      const result = args.length === 0 ? await call(kwargs) : await call(...args, kwargs);
      expect(result).toEqual(output);
    },
  );

  it("takes text second, and as many images as texts one for each", async () => {
    const one = "<start_of_image> What?";
    const [named] = await pipe({ images: shapes, text: one, ...short });
    expect(await pipe(shapes, one, short)).toEqual([named]);
    expect((await pipe([shapes, alpha], { text: [one, one], ...short }))[0]).toEqual(named);
    expect(await pipe("a text", short)).toEqual(await pipe({ text: "a text", ...short }));
  });

  it("puts missing placeholders in front", async () => {
    const [given] = await pipe(shapes, { text: "<start_of_image> What?", return_full_text: false, ...short });
    const [missing] = await pipe(shapes, { text: "What?", return_full_text: false, ...short });
    expect(missing).toEqual({ ...given, input_text: "What?" });
    const two = "<start_of_image> <start_of_image> What?";
    await expect(pipe(shapes, { text: two, ...short })).rejects.toThrow("1 image for 2 placeholders");
  });

  it("takes options of the processor and of generate", async () => {
    const wide = join(CASE, "images/wide.png");
    const processor_kwargs = { pan_and_scan_min_crop_size: 30, pan_and_scan_max_num_crops: 3 };
    const [ids] = await pipe(wide, {
      text: "<start_of_image> What?",
      do_pan_and_scan: true,
      processor_kwargs,
      return_tensors: true,
      ...short,
    });
    const soft = pipe.tokenizer.special_token_id("image_token");
    expect(ids?.generated_token_ids?.filter((id) => id === soft)).toHaveLength(16);
    const copies = await pipe(shapes, { text: "What?", ...short, num_beams: 2, num_return_sequences: 2 });
    expect(copies).toHaveLength(2);
  });

  it("refuses what makes no sense", async () => {
    const chat = [{ role: "user", content: "What?" }];
    await expect(pipe(shapes, { text: chat } as never)).rejects.toThrow("stand in its messages");
    await expect(pipe({ images: shapes })).rejects.toThrow("a text is needed");
    await expect(pipe(shapes, { text: "a", max_new_token: 2 } as never)).rejects.toThrow("max_new_token");
    const twice = { text: "a", max_new_tokens: 2, generate_kwargs: { max_new_tokens: 3 } };
    await expect(pipe(shapes, twice as never)).rejects.toThrow("max_new_tokens stands by itself");
  });
});

it("takes a loaded model with its processor", async () => {
  const loaded = await AutoModelForImageTextToText.from_pretrained(model, { dtype: "fp32" });
  const processor = await AutoProcessor.from_pretrained(model);
  const other = await pipeline("any-to-any", loaded, { processor });
  expect(await other(shapes, { text: "What?", ...short })).toEqual(
    await pipe(shapes, { text: "What?", ...short }),
  );
  await expect(pipeline("image-text-to-text", loaded)).rejects.toThrow("needs its processor");
  await expect(pipeline("text-generation", loaded, { processor })).rejects.toThrow("takes text alone");
  await other.dispose();
});
