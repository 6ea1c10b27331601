import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { resizeImage } from "./resample.ts";

interface Resize {
  readonly height: number;
  readonly width: number;
  readonly new_height: number;
  readonly new_width: number;
  readonly pixels: string;
  readonly torchvision: string;
  readonly pil: string;
  readonly torchvision_bicubic: string;
  readonly pil_bicubic: string;
}

const fixture = new URL("../../test/fixtures/images/images.json", import.meta.url);
const { resizes } = JSON.parse(readFileSync(fixture, "utf8")) as { resizes: Resize[] };

const bytes = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text, "base64"));

describe("resizeImage", () => {
  for (const resize of resizes) {
    const { height, width, new_height, new_width } = resize;
    const image = { data: bytes(resize.pixels), width, height, channels: 3 };
    const whole = { left: 0, top: 0, width, height };
    for (const style of ["pil", "torchvision"] as const) {
      it(`${width}x${height} to ${new_width}x${new_height} is bit for bit that of ${style}`, () => {
        expect(resizeImage(image, whole, [new_height, new_width], 2, style)).toEqual(bytes(resize[style]));
      });

      it(`so is bicubic ${width}x${height} to ${new_width}x${new_height}`, () => {
        const got = resizeImage(image, whole, [new_height, new_width], 3, style);
        expect(got).toEqual(bytes(resize[`${style}_bicubic`]));
      });
    }
  }

  it("takes a region as an image of its own", () => {
    const { pixels, width, height } = resizes[0]!;
    const image = { data: bytes(pixels), width, height, channels: 3 };
    const region = { left: 4, top: 3, width: 2, height: 2 };
    const first = image.data.slice((3 * width + 4) * 3, (3 * width + 6) * 3);
    const second = image.data.slice((4 * width + 4) * 3, (4 * width + 6) * 3);
    const alone = { data: Uint8Array.from([...first, ...second]), width: 2, height: 2, channels: 3 };
    const whole = { left: 0, top: 0, width: 2, height: 2 };
    expect(resizeImage(image, region, [5, 7], 2, "pil")).toEqual(resizeImage(alone, whole, [5, 7], 2, "pil"));
    expect(resizeImage(image, region, [2, 2], 2, "pil")).toEqual(alone.data);
  });
});
