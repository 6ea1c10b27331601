import { readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { describe, expect, it } from "vitest";
import { floats, SOUNDS, soundReferences, worstDifference } from "../../../test/support/sounds.ts";
import { InputError } from "../../errors.ts";
import { load_audio, RawAudio } from "./raw-audio.ts";

const { files } = soundReferences();
const wav = readFileSync(`${SOUNDS}s16.wav`);

/** Frame by frame, as libsndfile gives samples. */
function interleaved({ channels }: RawAudio): Float32Array {
  return Float32Array.from({ length: channels.length * channels[0]!.length }, (_, i) => {
    return channels[i % channels.length]![Math.floor(i / channels.length)]!;
  });
}

describe("RawAudio.read", () => {
  const exact = Object.keys(files).filter((name) => /\.wav$/.test(name));
  it.each(exact)("gives %s sample for sample as libsndfile does", async (name) => {
    const audio = await RawAudio.read(SOUNDS + name);
    const { sampling_rate, channels, samples } = files[name]!;
    expect(audio.sampling_rate).toBe(sampling_rate);
    expect(audio.channels.length).toBe(channels);
    expect(worstDifference(interleaved(audio), floats(samples))).toBe(0);
  });

  it.each([
    ["s8.flac", 0],
    ["s16.flac", 0],
    // The decoder's own float32 cannot hold every integer.
    ["s24.flac", 2 ** -23],
    // The same algorithms, in another order of operations.
    ["mono.mp3", 2e-5],
    ["stereo.mp3", 2e-5],
    ["mono-vorbis.ogg", 2e-5],
    ["stereo-vorbis.ogg", 2e-5],
    ["stereo-opus.ogg", 2e-4],
  ])("gives %s as libsndfile does", async (name, tolerance) => {
    const audio = await RawAudio.read(SOUNDS + name);
    const { sampling_rate, channels, samples } = files[name]!;
    expect(audio.sampling_rate).toBe(sampling_rate);
    expect(audio.channels.length).toBe(channels);
    expect(worstDifference(interleaved(audio), floats(samples))).toBeLessThanOrEqual(tolerance);
  });

  it("reads Opus at 48 kHz whatever rate it was made from", async () => {
    const name = "mono-opus.ogg";
    expect((await RawAudio.read(SOUNDS + name)).duration).toBe(3000 / 16_000);
    const samples = await load_audio(SOUNDS + name);
    const expected = floats(files[name]!.samples);
    const energy = (values: Float32Array): number => values.reduce((sum, value) => sum + value * value, 0);
    // libsndfile lets the codec itself decode to 16 kHz, with a filter of its own.
    const error = energy(samples.map((sample, i) => sample - expected[i]!));
    expect(samples.length).toBe(3000);
    expect(error / energy(expected)).toBeLessThan(0.05);
  });

  it("reads a file whose length was left open", async () => {
    const data = wav.indexOf("data");
    const open = Uint8Array.from(wav);
    new DataView(open.buffer).setUint32(data + 4, 0xffff_ffff, true);
    expect((await RawAudio.read(open)).channels).toEqual((await RawAudio.read(wav)).channels);
  });
});

describe("RawAudio", () => {
  const audio = new RawAudio([Float32Array.of(1, 0, -1), Float32Array.of(0, 0.5, -1)], 8000);

  it("mixes its channels by their mean", () => {
    expect([...audio.mono().channels[0]!]).toEqual([0.5, 0.25, -1]);
    const mono = new RawAudio(Float32Array.of(1), 8000);
    expect(mono.mono()).toBe(mono);
    expect(mono.resample(8000)).toBe(mono);
  });

  it("writes WAV files that it reads back", async () => {
    const folder = await mkdtemp(join(tmpdir(), "lapidary-audio-"));
    try {
      const path = join(folder, "sound.wav");
      await audio.save(path);
      expect((await RawAudio.read(path)).channels).toEqual(audio.channels);
      expect((await RawAudio.fromBlob(audio.toBlob())).sampling_rate).toBe(8000);
    } finally {
      await rm(folder, { recursive: true });
    }
  });

  it("checks what it is made of", () => {
    expect(audio.duration).toBe(3 / 8000);
    expect(() => new RawAudio([1, 2] as never, 8000)).toThrow("a Float32Array or a list");
    expect(() => new RawAudio([], 8000)).toThrow("one channel or several");
    expect(() => new RawAudio([new Float32Array(1), new Float32Array(2)], 8000)).toThrow("the same length");
    expect(() => new RawAudio(new Float32Array(1), 0)).toThrow("sampling_rate must be 1000 to 768000, got 0");
  });
});

describe("load_audio", () => {
  it("gives one channel at 16 kHz, or at the rate that is asked for", async () => {
    const samples = await load_audio(`${SOUNDS}s24.wav`);
    expect(samples.length).toBe(Math.ceil((200 * 160) / 441));
    expect((await load_audio(`${SOUNDS}s24.wav`, 44_100)).length).toBe(200);
    expect((await load_audio(`${SOUNDS}s24.wav`, { sampling_rate: 22_050 })).length).toBe(100);
    expect(await load_audio(samples)).toBe(samples);
    expect(await load_audio(new RawAudio(samples, 16_000))).toBe(samples);
  });

  it("reads a path, addresses, bytes and Blobs", async () => {
    const expected = await load_audio(`${SOUNDS}s16.wav`);
    const inputs = [
      pathToFileURL(`${SOUNDS}s16.wav`),
      pathToFileURL(`${SOUNDS}s16.wav`).href,
      wav,
      Uint8Array.from(wav).buffer,
      new Blob([Uint8Array.from(wav)]),
      `data:audio/wav;base64,${wav.toString("base64")}`,
    ];
    for (const input of inputs) expect(await load_audio(input)).toEqual(expected);
  });

  it("refuses what is no audio, too long or unknown, and says why", async () => {
    const changed = (offset: number, value: number): Uint8Array => {
      const bytes = Uint8Array.from(wav);
      bytes[offset] = value;
      return bytes;
    };
    const file = (name: string): Uint8Array => readFileSync(SOUNDS + name);
    const damaged = (name: string, start: number, length: number): Uint8Array => {
      return file(name).map((byte, i) => (i >= start && i < start + length ? byte ^ 0x55 : byte));
    };
    const refused: [Parameters<typeof load_audio>[0], Parameters<typeof load_audio>[1], string][] = [
      [`${SOUNDS}none.wav`, {}, "there is no such audio file"],
      [SOUNDS, {}, "is not a file"],
      [new Uint8Array(0), {}, "is empty"],
      [wav.subarray(0, 500), {}, "is cut off"],
      [wav.subarray(0, 40), {}, "without samples"],
      [wav.subarray(0, 44), {}, "is cut off"],
      [Buffer.from("FORM....AIFFCOMM"), {}, "neither WAV, FLAC, MP3, Ogg Opus nor Ogg Vorbis"],
      [file("stereo.mp3").subarray(0, 3000), {}, "bytes of a frame are there"],
      [damaged("stereo.mp3", 2000, 600), {}, "is damaged: there is no MP3 frame at byte"],
      [
        Buffer.concat([Buffer.from("ID3\x04\0\0\0\0\x02\0"), file("mono.mp3").subarray(0, 9)]),
        {},
        "within its ID3 tag",
      ],
      [file("s16.flac").subarray(0, 9000), {}, "is cut off or damaged: "],
      [damaged("s16.flac", 9000, 1), {}, "is cut off or damaged: "],
      [file("s16.flac").subarray(0, 50), {}, "is cut off within its metadata"],
      [damaged("s16.flac", 4, 1), {}, "does not begin with the stream's description"],
      [file("s16.flac"), { maxSamples: 9999 }, "has more than 9999 samples"],
      [file("stereo-opus.ogg").subarray(0, 2000), {}, "is cut off within a page"],
      [damaged("stereo-opus.ogg", 1500, 1), {}, "the check sum of the page at byte"],
      [damaged("stereo-vorbis.ogg", 5000, 1), {}, "the check sum of the page at byte"],
      [Buffer.concat([file("mono-opus.ogg"), file("mono-opus.ogg")]), {}, "one after the other"],
      [file("mono-vorbis.ogg").subarray(0, 58), {}, "is cut off: its last page is missing"],
      [damaged("stereo-opus.ogg", 28, 1), {}, "Ogg file of something other than Opus or Vorbis"],
      [file("stereo.mp3"), { maxSeconds: 0.05 }, "is longer than 0.05 s"],
      [changed(20, 2), {}, "coding 2 with 16 bits; PCM of 8, 16, 24 or 32 bits"],
      [changed(32, 2), {}, "frames of 2 bytes for 2 channels of 16 bits"],
      [changed(22, 0), {}, "frames of 4 bytes for 0 channels"],
      [changed(27, 200), {}, "samples a second; 1000 to 768000 are read"],
      [wav, { maxSeconds: 0.01 }, "is longer than 0.01 s; raise the limit with the option maxSeconds"],
      [wav, { maxSamples: 599 }, "has more than 599 samples"],
      [`${SOUNDS}s16.wav`, { maxBytes: 10 }, "longer than 10 bytes"],
      [wav, { sampling_rate: 5 }, "sampling_rate must be 1000 to 768000, got 5"],
      [wav, { maxSeconds: -1 }, "maxSeconds must be a number above 0"],
      ["data:audio/wav,abc", {}, "expected data:audio/…;base64,…"],
      [null as never, {}, "a Float32Array of samples or a RawAudio, got null"],
      [wav, { max_seconds: 3 } as never, 'unknown option "max_seconds"; did you mean "maxSeconds"?'],
    ];
    for (const [input, options, message] of refused) {
      const error = await load_audio(input, options).then(
        () => undefined,
        (reason: unknown) => reason,
      );
      expect(error, message).toBeInstanceOf(InputError);
      expect((error as Error).message).toContain(message);
    }
    const signal = AbortSignal.abort(new Error("enough"));
    await expect(load_audio(wav, { signal })).rejects.toThrow("enough");
  });
});
