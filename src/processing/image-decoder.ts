import type { Sharp, SharpOptions } from "sharp";
import { InputError } from "../errors.ts";
import type { PixelGrid } from "./resample.ts";

type SharpFactory = (input: Uint8Array, options: SharpOptions) => Sharp;

let sharp: Promise<SharpFactory> | undefined;

/**
 * Decodes a JPEG, PNG, WebP, GIF (its first frame) or AVIF: 1 to 4 channels of 8 bits, turned as its EXIF orientation
 * says, colours as stored (colour profiles are not applied, as in Pillow). CMYK becomes RGB; of 16 bits the upper 8
 * stay (Pillow does so for RGB, but makes every grey level above 255 white). `place` names the image in messages.
 */
export async function decodeImage(bytes: Uint8Array, maxPixels: number, place: string): Promise<PixelGrid> {
  const format = formatOf(bytes);
  if (format === undefined) {
    throw new InputError(`${place}: is neither JPEG, PNG, WebP, GIF nor AVIF`);
  }
  const open = await loadSharp();
  try {
    const image = open(bytes, { failOn: "error", ignoreIcc: true, limitInputPixels: false });
    const { width, height, channels, space } = await image.metadata();
    checkPixels(width, height, maxPixels, place);
    const isCmyk = space === "cmyk";
    if (isCmyk) image.pipelineColourspace("cmyk").toColourspace("cmyk");
    const { data, info } = await image.autoOrient().raw().toBuffer({ resolveWithObject: true });
    const pixels = { data, width: info.width, height: info.height, channels: info.channels };
    if (isCmyk) return cmykToRgb(pixels);
    return channels < 3 ? greyOnly(pixels, channels) : pixels;
  } catch (cause) {
    if (cause instanceof InputError) throw cause;
    const reason = String((cause as Error).message)
      .trim()
      .split("\n", 1)[0];
    throw new InputError(`${place}: cannot be decoded as ${format}: ${reason}`, { cause });
  }
}

/** Throws for an image that is larger than allowed, before its pixels are unpacked. */
export function checkPixels(width: number, height: number, maxPixels: number, place: string): void {
  if (width * height <= maxPixels) return;
  throw new InputError(
    `${place}: ${width}x${height} are more than ${maxPixels} pixels, the limit against decompression bombs; ` +
      "raise it with the option maxPixels or LAPIDARY_MAX_IMAGE_PIXELS",
    { option: "maxPixels" },
  );
}

/** The format by its first bytes; anything else never reaches the decoder, which would also read SVG or PDF. */
function formatOf(bytes: Uint8Array): string | undefined {
  const head = Buffer.from(bytes.subarray(0, 32)).toString("latin1");
  if (head.startsWith("\xff\xd8\xff")) return "JPEG";
  if (head.startsWith("\x89PNG\r\n\x1a\n")) return "PNG";
  if (head.startsWith("GIF87a") || head.startsWith("GIF89a")) return "GIF";
  if (head.startsWith("RIFF") && head.slice(8, 12) === "WEBP") return "WebP";
  if (head.slice(4, 8) === "ftyp" && /avi[fs]/.test(head.slice(8))) return "AVIF";
  return undefined;
}

/** Most programs never see an image: the decoder is loaded with the first one. */
function loadSharp(): Promise<SharpFactory> {
  sharp ??= import("sharp").then(
    (module) => module.default,
    (cause: unknown) => {
      sharp = undefined;
      const reason = String((cause as Error).message).split("\n", 1)[0];
      throw new InputError(
        `images are decoded with the package sharp, which does not load here (${reason}); npm install sharp`,
        { cause },
      );
    },
  );
  return sharp;
}

/** The decoder gives grey pixels as three equal channels (and alpha, where there is one). */
function greyOnly({ data, width, height, channels: stride }: PixelGrid, channels: number): PixelGrid {
  if (stride === channels) return { data, width, height, channels };
  const out = new Uint8Array(width * height * channels);
  for (let i = 0; i < width * height; i++) {
    out[i * channels] = data[i * stride]!;
    if (channels === 2) out[i * 2 + 1] = data[i * stride + stride - 1]!;
  }
  return { data: out, width, height, channels };
}

/** Pillow's formula (Convert.c, cmyk2rgb): every ink darkens what black leaves. */
function cmykToRgb({ data, width, height, channels }: PixelGrid): PixelGrid {
  const out = new Uint8ClampedArray(width * height * 3);
  for (let i = 0; i < width * height; i++) {
    const light = 255 - data[i * channels + 3]!;
    for (let c = 0; c < 3; c++) {
      const product = data[i * channels + c]! * light + 128;
      out[i * 3 + c] = light - (((product >> 8) + product) >> 8);
    }
  }
  return { data: out, width, height, channels: 3 };
}
