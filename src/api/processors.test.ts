import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { cp, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { ProcessorEncoding } from "../processing/processor-call.ts";
import { load_image } from "../processing/raw-image.ts";
import type { Tensor } from "../tensor.ts";
import { AutoProcessor, Gemma3Processor } from "./processors.ts";

// That expansions, ids and pixels are HF's is checked by the parity sets; here are forms of calls and misuse.
const fixture = fileURLToPath(new URL("../../test/fixtures/multimodal/gemma3_mm/", import.meta.url));
const model = join(fixture, "model");
const shapes = join(fixture, "images/shapes.png");
const wide = join(fixture, "images/wide.png");
const ONE = "Describe <start_of_image> now";

let processor: Gemma3Processor;
beforeAll(async () => {
  processor = await Gemma3Processor.from_pretrained(model);
});

/** Numbers of the soft tokens of each row. */
function soft({ input_ids }: { input_ids: Tensor }): number[] {
  const id = processor.tokenizer.special_token_id("image_token");
  return (input_ids.tolist() as number[][]).map((row) => row.filter((one) => Number(one) === id).length);
}

/** What two results are compared by; the matcher takes seconds for the pixels themselves. */
function same(inputs: ProcessorEncoding): unknown {
  const { pixel_values, ...others } = inputs;
  const { buffer } = pixel_values!.data as Float32Array;
  return { ...others, pixels: createHash("sha256").update(new Uint8Array(buffer)).digest("hex") };
}

describe("Gemma3Processor", () => {
  it("gives what the model takes, and nothing else", async () => {
    const inputs = await processor(ONE, shapes);
    expect(Object.keys(inputs).sort()).toEqual([
      "attention_mask",
      "input_ids",
      "pixel_values",
      "token_type_ids",
    ]);
    expect(inputs.pixel_values?.dims).toEqual([1, 3, 48, 48]);
    expect(inputs.to("cpu")).toBe(inputs);
    expect(soft(inputs)).toEqual([4]);
    const types = (inputs.token_type_ids.tolist() as bigint[][])[0]!.map(Number);
    expect(types.filter((type) => type === 1)).toHaveLength(4);
  });

  it("takes one image, a flat list, lists for each text, and all by name", async () => {
    const two = "<start_of_image><start_of_image>";
    const flat = await processor(two, [shapes, await load_image(wide)]);
    const nested = await processor([two], [[shapes, wide]]);
    const named = await processor({ text: two, images: [shapes, readFileSync(wide)] });
    expect(soft(flat)).toEqual([8]);
    for (const other of [nested, named]) expect(same(other)).toEqual(same(flat));
    const rows = await processor([ONE, "none", two], [[shapes], [], [wide, shapes]], { padding: true });
    expect(soft(rows)).toEqual([4, 0, 8]);
    expect(rows.pixel_values?.dims[0]).toBe(3);
  });

  it("takes text without images, and images without text", async () => {
    const text = await processor("Hello");
    expect(text).not.toHaveProperty("pixel_values");
    expect(await processor("Hello", [])).toEqual(text);
    expect(await processor("Hello", [[]])).toEqual(text);
    expect(soft(await processor(null, [[shapes, wide], [shapes]], { padding: true }))).toEqual([8, 4]);
  });

  it("tells both counts where placeholders and images differ", async () => {
    await expect(processor(ONE, [shapes, wide])).rejects.toThrow(
      "2 images for 1 placeholder <start_of_image> in the text",
    );
    await expect(processor("Hello", shapes)).rejects.toThrow("1 image for 0 placeholders");
    await expect(processor([ONE, ONE], [shapes, wide])).rejects.toThrow("2 texts, but images for 1");
    await expect(processor(ONE, [])).rejects.toThrow("0 images for 1 placeholder");
  });

  it("says when truncation cuts into an image", async () => {
    await expect(processor(ONE, shapes, { truncation: true, max_length: 8 })).rejects.toThrow(
      /ids hold \d of the 4 tokens of images/,
    );
  });

  it("gives arrays, or leaves parts out, when asked to", async () => {
    const arrays = await processor(ONE, shapes, { return_tensor: false, return_mm_token_type_ids: false });
    expect(arrays.input_ids[0]?.[0]).toBe(2);
    expect(arrays).not.toHaveProperty("token_type_ids");
    await expect(processor([ONE, "<start_of_image>"], [[shapes], [wide]])).rejects.toThrow("padding: true");
  });

  it("takes options of its parts, flat and in groups", async () => {
    const pan = {
      pan_and_scan_min_crop_size: 30,
      pan_and_scan_max_num_crops: 3,
      pan_and_scan_min_ratio_to_activate: 1.5,
    };
    const flat = await processor(ONE, wide, { do_pan_and_scan: true, ...pan });
    expect(flat.pixel_values?.dims[0]).toBe(4);
    expect(soft(flat)).toEqual([16]);
    const grouped = await processor(ONE, wide, { images_kwargs: { do_pan_and_scan: true, ...pan } });
    expect(same(grouped)).toEqual(same(flat));
    await expect(processor(ONE, wide, { do_pan_and_scann: true } as object)).rejects.toThrow(
      'did you mean "do_pan_and_scan"',
    );
    await expect(processor(ONE, wide, "audio")).rejects.toThrow("takes no audio");
  });

  it("has the tokens of an image, its parts' settings and the arithmetic from options", async () => {
    const other = await Gemma3Processor.from_pretrained(model, {
      image_seq_length: 9,
      padding_side: "right",
      size: 24,
      backend: "pil",
    });
    const inputs = await other(ONE, shapes);
    expect(soft(inputs)).toEqual([9]);
    expect(inputs.pixel_values?.dims).toEqual([1, 3, 24, 24]);
    expect(other.tokenizer.padding_side).toBe("right");
    expect(other.image_processor.constructor.name).toBe("Gemma3ImageProcessorPil");
    await expect(Gemma3Processor.from_pretrained(model, { image_seq_length: 0 })).rejects.toThrow(
      "image_seq_length",
    );
    await expect(Gemma3Processor.from_pretrained(model, { image_seq_len: 4 } as object)).rejects.toThrow(
      "image_seq_len",
    );
  });
});

describe("apply_chat_template", () => {
  const chat = (...parts: object[]): { role: string; content: never }[] => [
    { role: "user", content: [...parts, { type: "text", text: "What?" }] as never },
  ];

  it("gives text unless asked for ids", () => {
    const text = processor.apply_chat_template(chat({ type: "image", image: {} }), {
      add_generation_prompt: true,
    });
    expect(text).toMatch(/^<bos><start_of_turn>user\n<start_of_image>What\?.*model\n$/s);
    expect(processor.apply_chat_template([chat(), chat()])).toHaveLength(2);
  });

  it("reads images from all kinds of sources", async () => {
    const bytes = readFileSync(shapes);
    const base64 = bytes.toString("base64");
    const sources = [
      { path: shapes },
      { url: `file://${shapes}` },
      { image: await load_image(shapes) },
      { image: shapes },
      { image: new Blob([bytes]) },
      { base64 },
      { url: `data:image/png;base64,${base64}` },
    ];
    const first = await processor.apply_chat_template(chat({ type: "image", path: shapes }), {
      tokenize: true,
      return_dict: true,
      add_generation_prompt: true,
    });
    expect(soft(first)).toEqual([4]);
    // <bos> stands in the template and is not put in front again.
    expect((first.input_ids.tolist() as bigint[][])[0]!.filter((id) => Number(id) === 2)).toHaveLength(1);
    for (const source of sources) {
      const inputs = await processor.apply_chat_template(chat({ type: "image", ...source }), {
        tokenize: true,
        return_dict: true,
        add_generation_prompt: true,
      });
      expect(same(inputs)).toEqual(same(first));
    }
    const openai = chat({ type: "image_url", image_url: { url: shapes } });
    const ids = await processor.apply_chat_template(openai, { tokenize: true, add_generation_prompt: true });
    expect(ids).toEqual(first.input_ids);
  });

  it("can be sent to a device before it is awaited, as HF's pages write it", async () => {
    const options = { tokenize: true, return_dict: true } as const;
    const messages = chat({ type: "image", path: shapes });
    const sent = await processor.apply_chat_template(messages, options).to("cpu");
    expect(sent).toEqual(await processor.apply_chat_template(messages, options));
    const failing = processor.apply_chat_template(chat({ type: "image", path: "nowhere.png" }), options);
    await expect(failing.to("cpu")).rejects.toThrow("no such image file");
  });

  it("takes several chats, with options of the call", async () => {
    const image = { type: "image", path: wide };
    const chats = [chat(), chat(image, image)];
    const inputs = await processor.apply_chat_template(chats, {
      tokenize: true,
      return_dict: true,
      padding: true,
      processor_kwargs: { padding_side: "right" },
    });
    expect(soft(inputs)).toEqual([0, 8]);
    expect((inputs.attention_mask.tolist() as bigint[][])[0]!.map(Number).at(-1)).toBe(0);
  });

  it("refuses parts without a source, files that are not there, and unknown options", async () => {
    const tokenize = { tokenize: true } as const;
    await expect(processor.apply_chat_template(chat({ type: "image" }), tokenize)).rejects.toThrow(
      "no source",
    );
    const missing = chat({ type: "image", path: "/nowhere.png" });
    await expect(processor.apply_chat_template(missing, tokenize)).rejects.toThrow("no such image file");
    expect(() => processor.apply_chat_template(chat(), { add_generation_promt: true })).toThrow(
      'did you mean "add_generation_prompt"',
    );
  });
});

describe("AutoProcessor", () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "lapidary-processors-"));
  });
  afterAll(() => rm(folder, { recursive: true }));

  it("chooses by processor_class, else by the model's type", async () => {
    expect(await AutoProcessor.from_pretrained(model)).toBeInstanceOf(Gemma3Processor);
    await cp(model, join(folder, "plain"), { recursive: true });
    for (const file of ["processor_config.json", "tokenizer_config.json"]) {
      const json = JSON.parse(readFileSync(join(model, file), "utf8")) as Record<string, unknown>;
      const { processor_class: _class, image_seq_length: _length, ...others } = json;
      await writeFile(join(folder, "plain", file), JSON.stringify(others));
    }
    const plain = await AutoProcessor.from_pretrained(join(folder, "plain"), { padding_side: "right" });
    expect(plain).toBeInstanceOf(Gemma3Processor);
    // config.json's mm_tokens_per_image.
    expect((plain as Gemma3Processor).image_seq_length).toBe(4);
  });

  it("says what to take for a model of text alone", async () => {
    await cp(model, join(folder, "text"), { recursive: true });
    for (const file of ["processor_config.json", "tokenizer_config.json"])
      await writeFile(join(folder, "text", file), "{}");
    await writeFile(join(folder, "text", "config.json"), '{"model_type":"gemma3_text"}');
    await expect(AutoProcessor.from_pretrained(join(folder, "text"))).rejects.toThrow("AutoTokenizer");
  });
});

it("decodes", () => {
  const ids = processor.tokenizer.encode("Hello");
  expect(processor.decode(ids, { skip_special_tokens: true })).toBe("Hello");
  expect(processor.batch_decode([ids])).toEqual(["<bos>Hello"]);
});
