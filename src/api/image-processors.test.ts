import { existsSync, readFileSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { RawImage } from "../processing/raw-image.ts";
import {
  AutoImageProcessor,
  Gemma3ImageProcessor,
  Gemma3ImageProcessorPil,
  SiglipImageProcessor,
  SiglipImageProcessorPil,
} from "./image-processors.ts";

const fixtures = fileURLToPath(new URL("../../test/fixtures/images/", import.meta.url));
/** Cases whose processor tests have images. */
const GOLDEN = ["gemma3_mm", "gemma3n_mm"].map((name) =>
  fileURLToPath(new URL(`../../../shared/golden/${name}/`, import.meta.url)),
);

/** An image whose grey level is its column. */
function ramp(width: number, height: number): RawImage {
  const data = Uint8Array.from({ length: width * height * 3 }, (_, i) => Math.floor(i / 3) % width);
  return new RawImage(data, width, height, 3);
}

describe("Gemma3ImageProcessor", () => {
  it("normalises to [-1, 1], channels first", async () => {
    const image = new RawImage(Uint8Array.of(0, 51, 255, 255, 0, 128), 2, 1, 3);
    const { pixel_values, num_crops } = await new Gemma3ImageProcessor({ do_resize: false })(image);
    expect(num_crops).toEqual([0]);
    expect(pixel_values.dims).toEqual([1, 3, 1, 2]);
    const expected = [-1, 1, -0.6, -1, 1, 1 / 255].map(Math.fround);
    const values = pixel_values.tolist().flat(3) as number[];
    for (const [i, value] of values.entries()) expect(value).toBeCloseTo(expected[i]!, 6);
  });

  it("has HF's defaults", async () => {
    const { pixel_values } = await new Gemma3ImageProcessor()(ramp(20, 10));
    expect(pixel_values.dims).toEqual([1, 3, 224, 224]);
  });

  it("resizes with the arithmetic of its library", async () => {
    const { resizes } = JSON.parse(readFileSync(`${fixtures}images.json`, "utf8")) as {
      resizes: {
        width: number;
        height: number;
        new_width: number;
        new_height: number;
        [key: string]: unknown;
      }[];
    };
    const { width, height, new_height, new_width, ...pixels } = resizes[0]!;
    const image = new RawImage(Buffer.from(String(pixels.pixels), "base64"), width, height, 3);
    const config = { size: { height: new_height, width: new_width }, do_normalize: false, do_rescale: false };
    const planes = (values: unknown): number[] => {
      const levels = Buffer.from(String(values), "base64");
      return [0, 1, 2].flatMap((c) => [...levels].filter((_, i) => i % 3 === c));
    };
    const byTorch = await new Gemma3ImageProcessor(config)(image);
    expect([...byTorch.pixel_values.data]).toEqual(planes(pixels.torchvision));
    const byPillow = await new Gemma3ImageProcessorPil(config)(image);
    expect([...byPillow.pixel_values.data]).toEqual(planes(pixels.pil));
  });

  it("takes files and nested lists, and crops long images", async () => {
    const processor = new Gemma3ImageProcessor({
      size: 8,
      do_pan_and_scan: true,
      pan_and_scan_min_crop_size: 10,
    });
    const wide = ramp(61, 20);
    const { pixel_values, num_crops } = await processor.preprocess([
      [wide, `${fixtures}alpha.png`],
      [ramp(9, 9)],
    ]);
    expect(num_crops).toEqual([3, 2, 0]);
    expect(pixel_values.dims).toEqual([8, 3, 8, 8]);
    // ceil(61 / 3) columns each: the last crop has one less.
    const crops = [
      [0, 21],
      [21, 21],
      [42, 19],
    ] as const;
    for (const [i, [left, width]] of crops.entries()) {
      const data = Uint8Array.from({ length: width * 20 * 3 }, (_, n) => left + (Math.floor(n / 3) % width));
      const crop = await processor(new RawImage(data, width, 20, 3), { do_pan_and_scan: false });
      expect(pixel_values[i + 1]!.tolist()).toEqual(crop.pixel_values[0]!.tolist());
    }
  });

  it("crops tall images from the top, and none that are too small or too square", async () => {
    const processor = new Gemma3ImageProcessorPil({ size: 4, do_pan_and_scan: true });
    const crops = async (width: number, height: number): Promise<number[]> =>
      (await processor(ramp(width, height))).num_crops;
    expect(await crops(256, 1500)).toEqual([4]);
    expect(await crops(255, 1500)).toEqual([0]);
    expect(await crops(600, 500)).toEqual([2]);
    expect(await crops(599, 500)).toEqual([0]);
  });

  it("refuses what it cannot do, by name", async () => {
    const processor = new Gemma3ImageProcessor({ size: 8 });
    expect(() => new Gemma3ImageProcessor({ resample: 1 })).toThrow("resample must be 2 (bilinear)");
    expect(() => new Gemma3ImageProcessor({ size: { shortest_edge: 9 } as never })).toThrow("size must be");
    expect(() => new Gemma3ImageProcessor({ size: 20_000 })).toThrow(
      "size must be { height, width } of 1 to 16384",
    );
    expect(() => new Gemma3ImageProcessor({ image_std: [0.5, 0, 0.5] })).toThrow("image_std must be");
    expect(() => new Gemma3ImageProcessor({ image_main: 1 } as never)).toThrow('did you mean "image_mean"?');
    await expect(processor([])).rejects.toThrow("at least one image");
    await expect(processor(ramp(9, 9), { do_center_crop: true } as never)).rejects.toThrow("unknown option");
    await expect(processor(ramp(9, 9), { return_tensors: "no" })).rejects.toThrow("return_tensors");
    await expect(processor([ramp(9, 9), ramp(8, 9)], { do_resize: false })).rejects.toThrow("need do_resize");
    await expect(processor(ramp(9, 9), { image_mean: [1, 2] })).rejects.toThrow("2 numbers for 3 channels");
    await expect(processor(`${fixtures}alpha.png`, { do_convert_rgb: false })).rejects.toThrow("alpha");
    const empty = { do_pan_and_scan: true, pan_and_scan_min_crop_size: 1 };
    await expect(processor(ramp(5, 1), empty)).rejects.toThrow("would be empty");
    const signal = AbortSignal.abort(new Error("enough"));
    await expect(processor(ramp(9, 9), { signal })).rejects.toThrow("enough");
  });
});

describe("from_pretrained", () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "lapidary-images-"));
    await writeFile(join(folder, "config.json"), "{}");
    await writeFile(join(folder, "tokenizer.json"), "{}");
  });
  afterAll(() => rm(folder, { recursive: true }));

  it("reads processor_config.json's block first, then preprocessor_config.json; options come before both", async () => {
    await expect(Gemma3ImageProcessor.from_pretrained(folder)).rejects.toThrow(
      "neither a preprocessor_config.json",
    );
    const older = {
      image_processor_type: "Gemma3ImageProcessor",
      size: { height: 5, width: 6 },
      do_pad: null,
    };
    await writeFile(join(folder, "preprocessor_config.json"), JSON.stringify(older));
    expect((await Gemma3ImageProcessorPil.from_pretrained(folder)).config.size).toEqual({
      height: 5,
      width: 6,
    });
    const newer = { image_processor: { image_processor_type: "Gemma3ImageProcessor", size: 7 } };
    await writeFile(join(folder, "processor_config.json"), JSON.stringify(newer));
    const processor = await AutoImageProcessor.from_pretrained(folder, { image_mean: [0, 0, 0] });
    expect(processor).toBeInstanceOf(Gemma3ImageProcessor);
    expect(processor.config).toMatchObject({ size: { height: 7, width: 7 }, image_mean: [0, 0, 0] });
    const pil = await AutoImageProcessor.from_pretrained(folder, { backend: "pil" });
    expect(pil).toBeInstanceOf(Gemma3ImageProcessorPil);
    await expect(AutoImageProcessor.from_pretrained(folder, { backend: "gpu" as never })).rejects.toThrow(
      "backend",
    );
    const other = { image_processor: { image_processor_type: "ViTImageProcessor" } };
    await writeFile(join(folder, "processor_config.json"), JSON.stringify(other));
    await expect(AutoImageProcessor.from_pretrained(folder)).rejects.toThrow("ViTImageProcessor");
  });
});

describe("SiglipImageProcessor", () => {
  it("has HF's defaults, bicubic among them, and no pan-and-scan", async () => {
    const processor = new SiglipImageProcessor();
    expect(processor.config).toMatchObject({ size: { height: 224, width: 224 }, resample: 3 });
    const features = await processor([ramp(20, 10), ramp(9, 31)]);
    expect(features.pixel_values.dims).toEqual([2, 3, 224, 224]);
    expect(Object.keys(features)).toEqual(["pixel_values"]);
    const option = { do_pan_and_scan: true } as object;
    await expect(processor(ramp(20, 10), option)).rejects.toThrow('unknown option "do_pan_and_scan"');
  });

  it("resizes to sides that differ, with each library's arithmetic", async () => {
    const config = { size: { height: 6, width: 9 }, do_normalize: false, do_rescale: false };
    const image = ramp(40, 23);
    const byTorch = await new SiglipImageProcessor(config)(image);
    const byPillow = await new SiglipImageProcessorPil(config).preprocess(image);
    expect(byTorch.pixel_values.dims).toEqual([1, 3, 6, 9]);
    const difference = (i: number): number =>
      Math.abs(Number(byTorch.pixel_values.data[i]) - Number(byPillow.pixel_values.data[i]));
    expect(Math.max(...[...byTorch.pixel_values.data.keys()].map(difference))).toBeLessThanOrEqual(2);
  });
});

interface GoldenTest {
  readonly name: string;
  readonly call: string;
  readonly arguments: Readonly<Record<string, unknown>>;
  readonly expected: Readonly<Record<string, string>>;
}

describe.each(GOLDEN)("HF's own pixel values of %s", async (golden) => {
  if (!existsSync(golden)) {
    it.skip("the golden data are not here");
    return;
  }
  const { tests } = JSON.parse(readFileSync(`${golden}cases.json`, "utf8")) as { tests: GoldenTest[] };
  const { readStoredTensors } = await import("../../tools/parity/safetensors.ts");
  const values = await readStoredTensors(`${golden}io.safetensors`);
  const chosen = tests.filter(
    (test) => test.call === "processor" && test.expected.pixel_values !== undefined,
  );
  for (const test of chosen) {
    it(test.name, async () => {
      const {
        images,
        audio: _audio,
        image_processor_class,
        text: _text,
        padding: _padding,
        ...options
      } = test.arguments;
      const backend = String(image_processor_class).endsWith("Pil") ? "pil" : "torchvision";
      const processor = await AutoImageProcessor.from_pretrained(`${golden}model`, {
        backend,
      });
      const paths = (images as string[][]).map((row) => row.map((name) => golden + name));
      const { pixel_values, num_crops } = await processor(paths, options);
      const expected = values.get(test.expected.pixel_values!)!;
      expect(pixel_values.dims).toEqual(expected.shape);
      expect([...pixel_values.data]).toEqual([...expected.data]);
      const crops = test.expected.num_crops;
      expect(num_crops).toEqual(crops && [...values.get(crops)!.data].map(Number));
    });
  }
});
