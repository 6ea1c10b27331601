import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { Gemma3nAudioFeatureExtractor } from "../../src/api/feature-extractors.ts";
import { LapidaryError } from "../../src/errors.ts";
import { load_audio } from "../../src/processing/audio/raw-audio.ts";
import { SOUNDS } from "../support/sounds.ts";

/** Making a decoder takes some 30 ms: 2000 files take about a minute. */
const FILES = Number(process.env.LAPIDARY_FUZZ_RUNS ?? 450);
const seed = Number(process.env.LAPIDARY_FUZZ_SEED ?? 7);
const originals = readdirSync(SOUNDS)
  .filter((name) => !name.endsWith(".json"))
  .map((name) => Uint8Array.from(readFileSync(SOUNDS + name)));

let random = seed;
function below(limit: number): number {
  random = (Math.imul(random, 1_103_515_245) + 12_345) >>> 0;
  return Math.floor((random / 2 ** 32) * limit);
}

/** Changes bytes, mostly near the front where headers are; cuts, doubles, fills and joins parts. */
function mutated(original: Uint8Array): Uint8Array<ArrayBuffer> {
  let bytes = Uint8Array.from(original);
  const changes = below(5);
  for (let i = 0; i < changes; i++) {
    const at = below(2) === 0 ? below(Math.min(bytes.length, 120)) : below(bytes.length);
    bytes[at] = below(3) === 0 ? [0, 1, 127, 128, 255][below(5)]! : below(256);
  }
  const [from, length] = [below(bytes.length), below(300)];
  switch (below(8)) {
    case 0:
      bytes = bytes.slice(0, from);
      break;
    case 1:
      bytes.fill(below(2) * 255, from, from + length);
      break;
    case 2:
      bytes = Uint8Array.from([...bytes.subarray(0, from), ...bytes.subarray(Math.max(0, from - length))]);
      break;
    case 3:
      bytes = Uint8Array.from([...bytes.subarray(0, from), ...originals[below(originals.length)]!]);
      break;
  }
  return withCheckSums(bytes);
}

/** Half of the Ogg files get new check sums, so that their damage reaches the decoders. */
function withCheckSums(bytes: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  if (below(2) === 0) return bytes;
  const buffer = Buffer.from(bytes.buffer);
  for (let at = buffer.indexOf("OggS"); at >= 0; at = buffer.indexOf("OggS", at + 4)) {
    const segments = bytes.subarray(at + 27, at + 27 + (bytes[at + 26] ?? 0));
    const end = segments.reduce((sum, length) => sum + length, at + 27 + segments.length);
    if (end > bytes.length) break;
    buffer.writeUInt32LE(0, at + 22);
    buffer.writeUInt32LE(oggCheckSum(bytes.subarray(at, end)), at + 22);
  }
  return bytes;
}

function oggCheckSum(bytes: Uint8Array): number {
  let crc = 0;
  for (const byte of bytes) {
    crc ^= byte << 24;
    for (let k = 0; k < 8; k++) crc = crc & 0x8000_0000 ? (crc << 1) ^ 0x04c1_1db7 : crc << 1;
  }
  return crc >>> 0;
}

describe("damaged audio files", () => {
  it(`give features or an error, ${FILES} of them`, async () => {
    const extractor = new Gemma3nAudioFeatureExtractor({ feature_size: 16 });
    const limits = { maxSeconds: 20, maxSamples: 2 ** 20 };
    const outcomes = { features: 0, errors: 0 };
    for (let i = 0; i < FILES; i++) {
      const bytes = mutated(originals[i % originals.length]!);
      try {
        const samples = await load_audio(bytes, limits);
        const { input_features } = await extractor(samples, {
          padding: "max_length",
          max_length: 2000,
          truncation: true,
        });
        expect(input_features.data.every(Number.isFinite)).toBe(true);
        outcomes.features++;
      } catch (error) {
        if (!(error instanceof LapidaryError)) throw error;
        outcomes.errors++;
      }
    }
    expect(outcomes.features).toBeGreaterThan(FILES / 10);
    expect(outcomes.errors).toBeGreaterThan(FILES / 10);
  }, 300_000);
});
