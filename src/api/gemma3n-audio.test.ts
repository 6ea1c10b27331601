import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { readStoredTensors, type StoredTensor } from "../../tools/parity/safetensors.ts";
import { cacheFolder } from "../cache-folder.ts";
import type { Checkpoint } from "../checkpoints/checkpoint.ts";
import { InputError } from "../errors.ts";
import { Gemma3nAudioTower } from "../models/gemma3n/audio/encoder.ts";
import { Gemma3nAudioConfig } from "../models/gemma3n/audio-config.ts";
import { loadEngine } from "../runtime/engine.ts";
import { Tensor } from "../tensor.ts";
import { EncoderPart, type PartSource } from "./encoder-part.ts";
import { audioTokens, Gemma3nAudio } from "./gemma3n-audio.ts";
import { EmbedderAt, HardEmbeddings } from "./hard-embeddings.ts";
import type { ModelOptions } from "./options.ts";

const fixtures = fileURLToPath(new URL("../../test/fixtures/audio-towers/", import.meta.url));
const golden = fileURLToPath(new URL("../../../shared/golden/gemma3n_mm/", import.meta.url));

async function partSource(path: string, dtype: ModelOptions["dtype"] = "fp32"): Promise<PartSource> {
  return {
    path,
    reader: { checkpoint: withoutModelPrefix },
    weights: { dtype, tablesDtype: dtype },
    pack: { folder: `${cacheFolder()}/packs` },
    engine: { engine: await loadEngine(), device: "cpu" },
  };
}

function makeAudio(config: Gemma3nAudioConfig, hidden_size: number, source: PartSource): Gemma3nAudio {
  const part = new EncoderPart(new Gemma3nAudioTower(config, hidden_size), source);
  return new Gemma3nAudio(config, hidden_size, part);
}

function withoutModelPrefix(checkpoint: Checkpoint): Checkpoint {
  const names = [...checkpoint.tensors].map(
    ([name, slice]) => [name.replace(/^model\./, ""), slice] as const,
  );
  return {
    ...checkpoint,
    tensors: new Map(names.map(([name, slice]) => [name, { ...slice, name }])),
    read: (slice, start, end) => checkpoint.read(slice, start, end),
    close: () => checkpoint.close(),
  };
}

/** The largest difference in units of atol + rtol * |expected|, both `tolerance`. */
function worst(got: Tensor | Float32Array, expected: StoredTensor, tolerance: number): number {
  const data = got instanceof Tensor ? got.data : got;
  if (got instanceof Tensor) expect(got.dims).toEqual(expected.shape);
  expect(data.length).toBe(expected.data.length);
  let ratio = 0;
  for (const [i, value] of expected.data.entries()) {
    const difference = Math.abs(Number(data[i]) - value) / (tolerance * (1 + Math.abs(value)));
    if (!(difference <= ratio)) ratio = Number.isNaN(difference) ? Number.POSITIVE_INFINITY : difference;
  }
  return ratio;
}

function floatTensor({ data, shape }: StoredTensor): Tensor {
  return new Tensor("float32", data as Float32Array, shape);
}

function boolTensor({ data, shape }: StoredTensor): Tensor {
  return new Tensor("bool", Uint8Array.from(data), shape);
}

interface TowerSet {
  readonly audio_config: Record<string, unknown>;
  readonly hidden_size: number;
}

describe.each(["odd", "kernels", "short"])("a tower of %s sizes", (name) => {
  const { audio_config, hidden_size } = JSON.parse(
    readFileSync(`${fixtures}${name}/config.json`, "utf8"),
  ) as TowerSet;
  const config = new Gemma3nAudioConfig(audio_config);
  let io: Map<string, StoredTensor>;
  let source: PartSource;
  let audio: Gemma3nAudio;
  beforeAll(async () => {
    io = await readStoredTensors(`${fixtures}${name}/io.safetensors`);
    source = await partSource(fixtures + name);
    audio = makeAudio(config, hidden_size, source);
  });
  afterAll(() => audio.part.dispose());

  it("gives HF's numbers", async () => {
    const output = await audio.features(
      {
        input_features: floatTensor(io.get("input_features")!),
        input_features_mask: boolTensor(io.get("input_features_mask")!),
      },
      { subsampled: true },
    );
    expect(output.audio_mel_mask.dims).toEqual(io.get("encoder_padding_mask")!.shape);
    expect([...output.audio_mel_mask.data]).toEqual([...io.get("encoder_padding_mask")!.data]);
    expect(worst(output.subsample_conv_projection!, io.get("subsample_conv_projection")!, 1e-5)).toBeLessThan(
      1,
    );
    expect(worst(output.last_hidden_state, io.get("encoder_output")!, 2e-5)).toBeLessThan(1);
    expect(worst(output.pooler_output, io.get("audio_features")!, 2e-5)).toBeLessThan(1);
  });

  it("gives the same for a clip alone and among others", async () => {
    const features = floatTensor(io.get("input_features")!);
    const mask = boolTensor(io.get("input_features_mask")!);
    const all = await audio.features({ input_features: features, input_features_mask: mask });
    const alone = await audio.features({
      input_features: features.slice([-1, null]),
      input_features_mask: mask.slice([-1, null]),
    });
    expect(alone.pooler_output.data).toEqual(all.pooler_output.slice([-1, null]).data);
    expect(alone.subsample_conv_projection).toBe(undefined);
  });

  it("embeds ids as HF does, without the tower", async () => {
    const part = new EncoderPart(new EmbedderAt("embed_audio", config, hidden_size), source);
    const hard = new HardEmbeddings(config, hidden_size, part);
    const vectors = await hard.embed([...io.get("ids")!.data]);
    expect(worst(vectors, io.get("hard_embeddings")!, 1e-5)).toBeLessThan(1);
    await expect(hard.embed([config.vocab_offset - 1])).rejects.toThrow(InputError);
    expect((await hard.embed([])).length).toBe(0);
    await hard.part.dispose();
  });

  it("stays near in 8 bits", async () => {
    const small = makeAudio(config, hidden_size, await partSource(fixtures + name, "q8"));
    const output = await small.features({
      input_features: floatTensor(io.get("input_features")!),
      input_features_mask: boolTensor(io.get("input_features_mask")!),
    });
    expect(worst(output.pooler_output, io.get("audio_features")!, 0.1)).toBeLessThan(1);
    await small.part.dispose();
  });
});

describe("audioTokens", () => {
  const output = {
    last_hidden_state: new Tensor("float32", new Float32Array(4), [2, 2, 1]),
    pooler_output: new Tensor("float32", Float32Array.of(1, 2, 3, 4, 5, 6, 7, 8), [2, 2, 2]),
    audio_mel_mask: new Tensor("bool", Uint8Array.of(0, 0, 0, 1), [2, 2]),
  };

  it("fills what is padded and what is missing", () => {
    const filled = audioTokens(output, 3, Float32Array.of(-1, -2));
    expect(filled.map((row) => [...row])).toEqual([
      [1, 2, 3, 4, -1, -2],
      [5, 6, -1, -2, -1, -2],
    ]);
  });

  it("refuses more vectors than there are places", () => {
    expect(() => audioTokens(output, 1, new Float32Array(2))).toThrow(
      "2 vectors a clip, but a prompt has places for 1",
    );
  });
});

describe("Gemma3nAudio", () => {
  it("refuses features that do not fit, by name", async () => {
    const config = new Gemma3nAudioConfig({
      input_feat_size: 16,
      hidden_size: 16,
      conf_num_attention_heads: 4,
    });
    const audio = makeAudio(config, 8, await partSource(`${fixtures}short`));
    const features = (dims: number[]): Tensor =>
      new Tensor("float32", new Float32Array(dims.reduce((a, b) => a * b, 1)), dims);
    const mask = new Tensor("bool", new Uint8Array(3), [1, 3]);
    await expect(audio.features({ input_features: features([1, 3, 15]) })).rejects.toThrow(
      "expected float32 [clips, frames, 16], got float32 [1, 3, 15]",
    );
    await expect(audio.features({ input_features: features([1, 0, 16]) })).rejects.toThrow("input_features");
    await expect(audio.features({ input_features: [1] as never })).rejects.toThrow("got object");
    await expect(
      audio.features({ input_features: features([1, 2, 16]), input_features_mask: mask }),
    ).rejects.toThrow("input_features_mask: expected [1, 2], as input_features have, got bool [1, 3]");
  });
});

interface GoldenTest {
  readonly name: string;
  readonly call: string;
  readonly inputs: Readonly<Record<string, string>>;
  readonly expected: Readonly<Record<string, string>>;
  readonly tolerance: { readonly atol: number };
}

describe.skipIf(!existsSync(golden))("HF's own audio features", async () => {
  if (!existsSync(golden)) return;
  const { tests } = JSON.parse(readFileSync(`${golden}cases.json`, "utf8")) as { tests: GoldenTest[] };
  const values = await readStoredTensors(`${golden}io.safetensors`);
  const { audio_config, text_config } = JSON.parse(readFileSync(`${golden}model/config.json`, "utf8"));
  const config = new Gemma3nAudioConfig(audio_config);
  for (const test of tests.filter(({ call }) => call === "get_audio_features")) {
    it(test.name, async () => {
      const audio = makeAudio(config, text_config.hidden_size, await partSource(`${golden}model`));
      const expected = (key: string): StoredTensor => values.get(test.expected[key]!)!;
      const output = await audio.features(
        {
          input_features: floatTensor(values.get(test.inputs.input_features!)!),
          input_features_mask: boolTensor(values.get(test.inputs.input_features_mask!)!),
        },
        { subsampled: true },
      );
      expect([...output.audio_mel_mask.data]).toEqual([...expected("encoder_padding_mask").data]);
      const { atol } = test.tolerance;
      expect(
        worst(output.subsample_conv_projection!, expected("subsample_conv_projection"), atol),
      ).toBeLessThan(0.2);
      expect(worst(output.last_hidden_state, expected("encoder_output"), atol)).toBeLessThan(0.2);
      expect(worst(output.pooler_output, expected("audio_features"), atol)).toBeLessThan(0.2);
      await audio.part.dispose();
    });
  }
});
