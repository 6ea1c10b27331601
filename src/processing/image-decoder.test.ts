import { encode } from "fast-png";
import { afterEach, expect, it, vi } from "vitest";
import { decodeImage } from "./image-decoder.ts";

const grey = encode({
  data: Uint16Array.of(0, 255, 256, 65_535),
  width: 4,
  height: 1,
  depth: 16,
  channels: 1,
});

afterEach(() => {
  vi.doUnmock("sharp");
  vi.resetModules();
});

it("keeps the upper 8 of 16 bits of grey", async () => {
  const { data, ...sizes } = await decodeImage(grey, 4, "image");
  expect([...data]).toEqual([0, 0, 1, 255]);
  expect(sizes).toEqual({ width: 4, height: 1, channels: 1 });
});

it("says which package is missing", async () => {
  vi.resetModules();
  vi.doMock("sharp", () => {
    throw new Error("Cannot find package 'sharp'");
  });
  const fresh = await import("./image-decoder.ts");
  await expect(fresh.decodeImage(grey, 4, "image")).rejects.toThrow("npm install sharp");
});
