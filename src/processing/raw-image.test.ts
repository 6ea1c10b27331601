import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { fileURLToPath, pathToFileURL } from "node:url";
import { describe, expect, it } from "vitest";
import { InputError, LapidaryError } from "../errors.ts";
import { load_image, RawImage } from "./raw-image.ts";

interface LoadedFile {
  readonly width: number;
  readonly height: number;
  readonly pixels: string;
}

const folder = fileURLToPath(new URL("../../test/fixtures/images/", import.meta.url));
const { files } = JSON.parse(readFileSync(`${folder}images.json`, "utf8")) as {
  files: Record<string, LoadedFile>;
};
const png = readFileSync(`${folder}rgb.png`);

/** Greatest difference of two images' levels. */
function distance(image: RawImage, expected: LoadedFile): number {
  const levels = Buffer.from(expected.pixels, "base64");
  expect([image.width, image.height, image.channels]).toEqual([expected.width, expected.height, 3]);
  return [...image.data].reduce((most, level, i) => Math.max(most, Math.abs(level - levels[i]!)), 0);
}

describe("load_image", () => {
  for (const [name, expected] of Object.entries(files)) {
    it(`gives HF's pixels for ${name}`, async () => {
      // Two decoders of AVIF round its YUV differently.
      const allowed = name.endsWith(".avif") ? 2 : 0;
      expect(distance(await load_image(folder + name), expected)).toBeLessThanOrEqual(allowed);
    });
  }

  it("takes paths, file: and data: URLs, bytes, Blobs and RawImages", async () => {
    const expected = await load_image(`${folder}rgb.png`);
    const inputs = [
      pathToFileURL(`${folder}rgb.png`),
      `data:image/png;base64,${png.toString("base64")}`,
      png,
      Uint8Array.from(png).buffer,
      new Blob([Uint8Array.from(png)]),
      expected,
    ];
    for (const input of inputs) expect((await load_image(input)).data).toEqual(expected.data);
    expect((await RawImage.fromBlob(new Blob([Uint8Array.from(png)]))).data).toEqual(expected.data);
  });

  it("downloads, within its limits", async () => {
    const stop = new AbortController();
    const server = createServer((request, response) => {
      if (request.url === "/picture.png") response.end(png);
      else if (request.url === "/endless") response.write(png);
      else if (request.url === "/stopped") stop.abort(new Error("stopped"));
      else response.writeHead(404).end();
    }).listen(0, "127.0.0.1");
    try {
      await once(server, "listening");
      const host = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
      expect((await RawImage.fromURL(`${host}/picture.png`)).size).toEqual([19, 13]);
      await expect(load_image(`${host}/none`)).rejects.toThrow("answered 404");
      await expect(load_image(`${host}/picture.png`, { maxBytes: 20 })).rejects.toThrow("maxBytes");
      await expect(load_image(`${host}/endless`, { timeout: 0.3 })).rejects.toThrow("option timeout");
      await expect(load_image(`${host}/stopped`, { signal: stop.signal })).rejects.toThrow("stopped");
    } finally {
      server.closeAllConnections();
      server.close();
    }
  });

  it("refuses what is no image, too large or unknown, and says why", async () => {
    const refused: [Parameters<typeof load_image>[0], Parameters<typeof load_image>[1], string][] = [
      [`${folder}none.png`, {}, "there is no such image file"],
      [folder, {}, "is not a file"],
      [new Uint8Array(0), {}, "is empty"],
      [Buffer.from("<svg xmlns='http://www.w3.org/2000/svg'/>"), {}, "neither JPEG, PNG"],
      [png.subarray(0, 60), {}, "cannot be decoded as PNG"],
      [png, { maxPixels: 246 }, "19x13 are more than 246 pixels"],
      [new RawImage(new Uint8Array(4), 2, 2, 1), { maxPixels: 3 }, "2x2 are more than 3 pixels"],
      [`${folder}rgb.png`, { maxBytes: 10 }, "longer than 10 bytes"],
      [png, { maxPixels: -1 }, "maxPixels must be a number above 0"],
      ["data:image/png,abc", {}, "expected data:image/…;base64,…"],
      ["data:image/png;base64,a?c", {}, "is not valid base64"],
      [null as never, {}, "got null"],
      [png, { max_pixels: 3 } as never, 'unknown option "max_pixels"; did you mean "maxPixels"?'],
    ];
    for (const [input, options, message] of refused) {
      const error = await load_image(input, options).then(
        () => undefined,
        (reason: unknown) => reason,
      );
      expect(error, message).toBeInstanceOf(InputError);
      expect((error as Error).message).toContain(message);
    }
  });

  it("refuses a decompression bomb before it unpacks it", async () => {
    const bomb = Buffer.from(png);
    bomb.writeUInt32BE(60_000, 16);
    bomb.writeUInt32BE(60_000, 20);
    bomb.writeUInt32BE(crc32(bomb.subarray(12, 29)), 29);
    await expect(load_image(bomb)).rejects.toThrow("60000x60000 are more than 178956970 pixels");
  });

  it("gives pixels or an error for damaged files", async () => {
    const originals = readdirSync(folder).filter((name) => !name.endsWith(".json"));
    let random = 1;
    const below = (limit: number): number => {
      random = (Math.imul(random, 1_103_515_245) + 12_345) >>> 0;
      return Math.floor((random / 2 ** 32) * limit);
    };
    let decoded = 0;
    for (let i = 0; i < 300; i++) {
      let bytes = Uint8Array.from(readFileSync(folder + originals[i % originals.length]!));
      for (let n = below(6); n >= 0; n--) bytes[below(bytes.length)] = below(256);
      if (below(4) === 0) bytes = bytes.slice(0, below(bytes.length));
      const image = await load_image(bytes, { maxPixels: 1e6 }).catch((error: unknown) => {
        expect(error).toBeInstanceOf(LapidaryError);
      });
      if (image === undefined) continue;
      expect(image.data.length).toBe(image.width * image.height * 3);
      decoded++;
    }
    expect(decoded).toBeGreaterThan(30);
    expect(decoded).toBeLessThan(290);
  });
});

describe("RawImage", () => {
  it("keeps the channels that a file has", async () => {
    const channels = async (name: string): Promise<number> => (await RawImage.read(folder + name)).channels;
    expect(await channels("grey.png")).toBe(1);
    expect(await channels("grey-alpha.png")).toBe(2);
    expect(await channels("rgb.jpg")).toBe(3);
    expect(await channels("alpha.webp")).toBe(4);
  });

  it("drops alpha without blending", () => {
    const image = new RawImage(Uint8Array.of(200, 100, 50, 0), 1, 1, 4);
    expect([...image.rgb().data]).toEqual([200, 100, 50]);
    expect([...new RawImage(Uint8Array.of(9, 0), 1, 1, 2).rgb().data]).toEqual([9, 9, 9]);
  });

  it("clones its memory", () => {
    const image = new RawImage(Uint8Array.of(1), 1, 1, 1);
    image.clone().data[0] = 5;
    expect(image.data[0]).toBe(1);
  });

  it("checks its sizes", () => {
    expect(() => new RawImage(new Uint8Array(5), 2, 1, 3)).toThrow("2x1 with 3 channels are 6 bytes, got 5");
    expect(() => new RawImage(new Uint8Array(0), 0, 1, 3)).toThrow("must be positive integers");
    expect(() => new RawImage(new Uint8Array(5), 1, 1, 5)).toThrow("1 to 4 channels");
    expect(() => new RawImage([1] as never, 1, 1, 1)).toThrow("Uint8ClampedArray");
  });
});

function crc32(bytes: Uint8Array): number {
  let crc = ~0;
  for (const byte of bytes) {
    crc ^= byte;
    for (let k = 0; k < 8; k++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return ~crc >>> 0;
}
