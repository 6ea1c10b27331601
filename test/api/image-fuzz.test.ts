import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import fc from "fast-check";
import { expect, it } from "vitest";
import { Gemma3Processor, InputError } from "../../src/index.ts";

/** Damages valid images of every format: each must become pixels or be refused with an InputError, in bounded memory. */
const runs = Number(process.env.LAPIDARY_FUZZ_RUNS ?? 2000);
const seed = Number(process.env.LAPIDARY_FUZZ_SEED ?? 5);

const FIXTURES = resolve(import.meta.dirname, "../fixtures");
const NAMES = [
  "rgb.jpg",
  "cmyk.jpg",
  "turned6.jpg",
  "rgb.png",
  "rgb16.png",
  "palette.png",
  "alpha.png",
  "alpha.webp",
  "lossless.webp",
  "frames.gif",
  "rgb.avif",
];
/** A side of an image in the model's input. */
const SIDE = 48;
/** What damaged images may add to the process, where some tens of megabytes are usual. */
const MAX_GROWTH = 2 ** 29;

type Mutation = (bytes: Buffer) => Buffer;

const place = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });
/** Most that decides about sizes and structure stands in the first bytes. */
const early = fc.double({ min: 0, max: 0.1, maxExcluded: true, noNaN: true });
const at = (bytes: Buffer, where: number): number => Math.floor(where * bytes.length);

const put =
  (where: number, value: readonly number[]): Mutation =>
  (bytes) => {
    const changed = Buffer.from(bytes);
    value.forEach((byte, i) => {
      const offset = at(bytes, where) + i;
      if (offset < changed.length) changed[offset] = byte;
    });
    return changed;
  };

const numbers = fc.constantFrom(
  [0xff, 0xff, 0xff, 0xff],
  [0x7f, 0xff, 0xff, 0xff],
  [0, 0, 0, 0],
  [0, 0, 0x30, 0],
);

const mutation: fc.Arbitrary<Mutation> = fc.oneof(
  fc.tuple(fc.oneof(place, early), fc.nat(255)).map(([where, byte]) => put(where, [byte])),
  fc.tuple(fc.oneof(place, early), numbers).map(([where, value]) => put(where, value)),
  place.map(
    (where): Mutation =>
      (bytes) =>
        bytes.subarray(0, at(bytes, where)),
  ),
  fc.tuple(place, place, place).map(
    ([from, to, where]): Mutation =>
      (bytes) => {
        const piece = bytes.subarray(at(bytes, Math.min(from, to)), at(bytes, Math.max(from, to)));
        return Buffer.concat([bytes.subarray(0, at(bytes, where)), piece, bytes.subarray(at(bytes, where))]);
      },
  ),
);

const damaged = fc
  .tuple(fc.constantFrom(...NAMES), fc.array(mutation, { minLength: 1, maxLength: 2 }))
  .map(([name, mutations]) => {
    const whole: Buffer = readFileSync(join(FIXTURES, "images", name));
    return { name, bytes: mutations.reduce((bytes, mutate) => mutate(bytes), whole) };
  });

it(`${runs} damaged images`, { timeout: 300_000 }, async () => {
  const processor = await Gemma3Processor.from_pretrained(join(FIXTURES, "multimodal/gemma3_mm/model"));
  const counts = { pixels: 0, refused: 0 };
  const before = process.memoryUsage().rss;
  let most = before;
  await fc.assert(
    fc.asyncProperty(damaged, async ({ bytes }) => {
      const outcome = await processor("<start_of_image>", bytes, { do_pan_and_scan: true }).catch(
        (error: unknown) => error,
      );
      most = Math.max(most, process.memoryUsage().rss);
      if (outcome instanceof InputError) {
        counts.refused++;
        return;
      }
      const { pixel_values } = outcome as Awaited<ReturnType<typeof processor>>;
      expect(pixel_values?.dims.slice(1)).toEqual([3, SIDE, SIDE]);
      expect((pixel_values!.data as Float32Array).every((value) => value >= -1 && value <= 1)).toBe(true);
      counts.pixels++;
    }),
    { numRuns: runs, seed },
  );
  // Both must have happened often, or the damage is too much or too little to say anything.
  expect(counts.pixels).toBeGreaterThan(runs / 20);
  expect(counts.refused).toBeGreaterThan(runs / 5);
  expect(most - before).toBeLessThan(MAX_GROWTH);
});
