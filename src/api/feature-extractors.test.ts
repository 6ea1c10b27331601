import { readFileSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { floats, SOUNDS, worstDifference } from "../../test/support/sounds.ts";
import type { AudioFeatureOptions } from "../processing/audio/gemma3n-audio-processor.ts";
import { load_audio, RawAudio } from "../processing/audio/raw-audio.ts";
import { AutoFeatureExtractor, Gemma3nAudioFeatureExtractor } from "./feature-extractors.ts";

interface ReferenceCall {
  readonly settings: object;
  readonly options: AudioFeatureOptions;
  readonly sounds: readonly number[];
  readonly dims: readonly number[];
  readonly input_features: string;
  readonly input_features_mask: string;
}

const reference = JSON.parse(readFileSync(`${SOUNDS}features.json`, "utf8")) as {
  readonly sounds: readonly string[];
  readonly calls: readonly ReferenceCall[];
};
const sounds = reference.sounds.map((base64) => {
  const integers = new Int16Array(Uint8Array.from(Buffer.from(base64, "base64")).buffer);
  return Float32Array.from(integers, (sample) => sample / 32_768);
});

function silence(seconds: number): Float32Array {
  return new Float32Array(Math.round(seconds * 16_000));
}

describe("Gemma3nAudioFeatureExtractor", () => {
  const names = reference.calls.map(
    (call) => [JSON.stringify({ ...call.settings, ...call.options }), call] as const,
  );
  it.each(names)("gives HF's features with %s", async (_name, call) => {
    const extractor = new Gemma3nAudioFeatureExtractor(call.settings);
    const { input_features, input_features_mask } = await extractor(
      call.sounds.map((index) => sounds[index]!),
      call.options,
    );
    expect(input_features.dims).toEqual(call.dims);
    // HF's spectrum is float32: under silence its rounding shows.
    expect(worstDifference(input_features.data as Float32Array, floats(call.input_features))).toBeLessThan(
      1e-4,
    );
    expect([...input_features_mask!.data]).toEqual([...Buffer.from(call.input_features_mask, "base64")]);
  });

  it("takes one sound or several, in any form", async () => {
    const extractor = new Gemma3nAudioFeatureExtractor({ feature_size: 8 });
    const samples = await load_audio(`${SOUNDS}s16.wav`);
    const sound = Float32Array.from({ length: 900 }, (_, i) => samples[i % samples.length]!);
    const { input_features } = await extractor(sound);
    expect(input_features.dims).toEqual([1, 4, 8]);
    const forms = [
      Array.from(sound),
      [sound],
      [new RawAudio(sound, 16_000)],
      new RawAudio([sound, sound], 16_000).toBlob(),
    ];
    for (const form of forms)
      expect((await extractor(form)).input_features.data).toEqual(input_features.data);
    const other = await extractor([`${SOUNDS}f64.wav`, new RawAudio(silence(0.1), 8000)]);
    expect(other.input_features.dims).toEqual([2, 17, 8]);
  });

  it("names the limit that a sound passes, and cuts it when asked", async () => {
    const extractor = new Gemma3nAudioFeatureExtractor({ feature_size: 4 });
    const long = silence(31);
    await expect(extractor(long)).rejects.toThrow("a sound of 31 s is longer than 30 s, max_length (480000)");
    expect((await extractor(long, { truncation: true })).input_features.dims).toEqual([1, 2997, 4]);
    expect((await extractor(long, { max_length: null })).input_features.dims).toEqual([1, 3097, 4]);
    const { input_features, input_features_mask, chunks } = await extractor([long, silence(1)], {
      chunk_length_s: 20,
      stride_length_s: [2, 3],
    });
    expect(chunks!.map((list) => list.map(({ start, end }) => [start / 16_000, end / 16_000]))).toEqual([
      [
        [0, 20],
        [15, 31],
      ],
      [[0, 1]],
    ]);
    expect(input_features.dims).toEqual([3, 1997, 4]);
    const valid = [...input_features_mask!].map((row) => row.data.filter((bit) => bit === 1).length);
    expect(valid).toEqual([1997, 1600, 100]);
  });

  it("adds noise only when asked", async () => {
    const quiet = await new Gemma3nAudioFeatureExtractor({ feature_size: 4 })(silence(0.1));
    expect(quiet.input_features.data.every((value) => value === Math.fround(Math.log(1e-5)))).toBe(true);
    const noisy = await new Gemma3nAudioFeatureExtractor({ feature_size: 4, dither: 0.01 })(silence(0.1));
    expect(noisy.input_features.data.every((value) => Number(value) > Math.log(1e-5))).toBe(true);
    const { input_features_mask } = await new Gemma3nAudioFeatureExtractor({ return_attention_mask: false })(
      silence(0.1),
    );
    expect(input_features_mask).toBe(undefined);
  });

  it("refuses what it cannot do, by name", async () => {
    const extractor = new Gemma3nAudioFeatureExtractor({ feature_size: 4 });
    const make = (config: object) => () => new Gemma3nAudioFeatureExtractor(config);
    expect(make({ feature_siz: 4 })).toThrow('did you mean "feature_size"?');
    expect(make({ per_bin_mean: [1] })).toThrow("per_bin_mean must be a list of 128 numbers");
    expect(make({ per_bin_stddev: new Array(128).fill(0) })).toThrow("per_bin_stddev must be");
    expect(make({ min_frequency: 9000 })).toThrow("below max_frequency");
    expect(make({ frame_length_ms: 5000 })).toThrow("frames of 80000 samples");
    expect(make({ padding_side: "top" })).toThrow('padding_side must be "right" or "left"');
    await expect(extractor([])).rejects.toThrow("at least one sound");
    await expect(extractor(silence(0))).rejects.toThrow("without samples");
    await expect(extractor(silence(0.01))).rejects.toThrow("256 samples are no frame, which takes 513");
    await expect(
      extractor(
        Float32Array.of(Number.NaN).map(() => Number.NaN),
        { padding: "max_length" },
      ),
    ).rejects.toThrow("samples that are no numbers");
    await expect(extractor([silence(0.1), silence(0.2)], { padding: false })).rejects.toThrow("need padding");
    await expect(extractor(silence(0.1), { padding: "long" as never })).rejects.toThrow("padding must be");
    await expect(extractor(silence(0.1), { sampling_rate: 8000 })).rejects.toThrow("samples at 8000 Hz");
    await expect(extractor(silence(0.1), { max_length: 0 })).rejects.toThrow("max_length must be");
    await expect(extractor(silence(0.1), { stride_length_s: 1 })).rejects.toThrow("needs chunk_length_s");
    await expect(extractor(silence(0.1), { pad_multiple: 1 } as never)).rejects.toThrow("unknown option");
    const signal = AbortSignal.abort(new Error("enough"));
    await expect(extractor(silence(0.1), { signal })).rejects.toThrow("enough");
  });
});

describe("from_pretrained", () => {
  it("reads the block of processor_config.json, then preprocessor_config.json", async () => {
    const folder = await mkdtemp(join(tmpdir(), "lapidary-features-"));
    try {
      await writeFile(join(folder, "config.json"), "{}");
      await writeFile(join(folder, "tokenizer.json"), "{}");
      const older = {
        feature_extractor_type: "Gemma3nAudioFeatureExtractor",
        feature_size: 7,
        frame_length: 512,
      };
      await writeFile(join(folder, "preprocessor_config.json"), JSON.stringify(older));
      expect((await AutoFeatureExtractor.from_pretrained(folder)).config.feature_size).toBe(7);
      const newer = { feature_extractor: { ...older, feature_size: 9, hop_length: 160 } };
      await writeFile(join(folder, "processor_config.json"), JSON.stringify(newer));
      const extractor = await Gemma3nAudioFeatureExtractor.from_pretrained(folder, { mel_floor: 0.5 });
      expect(extractor.config).toMatchObject({
        feature_size: 9,
        mel_floor: 0.5,
        frame_length: 512,
        fft_length: 1024,
      });
      const other = { feature_extractor: { feature_extractor_type: "WhisperFeatureExtractor" } };
      await writeFile(join(folder, "processor_config.json"), JSON.stringify(other));
      await expect(AutoFeatureExtractor.from_pretrained(folder)).rejects.toThrow("WhisperFeatureExtractor");
    } finally {
      await rm(folder, { recursive: true });
    }
  });
});
