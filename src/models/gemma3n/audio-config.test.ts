import { describe, expect, it } from "vitest";
import { ConfigError } from "../../errors.ts";
import { namedParameters } from "../../nn/module.ts";
import { Gemma3nAudioTower } from "./audio/encoder.ts";
import { audioLengths } from "./audio/steps.ts";
import { Gemma3nAudioConfig } from "./audio-config.ts";

describe("Gemma3nAudioConfig", () => {
  it("has HF's defaults", () => {
    const config = new Gemma3nAudioConfig();
    expect(config).toMatchObject({
      hidden_size: 1536,
      head_dim: 192,
      context_size: 24,
      frequencies: [64, 32],
      vocab_offset: 262_272,
    });
    expect(audioLengths(config, 2997)).toEqual({ frames: 2997, steps: 750, blocks: 63, tokens: 188 });
    expect(audioLengths(config, 1)).toEqual({ frames: 1, steps: 1, blocks: 1, tokens: 1 });
  });

  it("keeps keys that it does not know, and reads those without effect", () => {
    const config = new Gemma3nAudioConfig({ model_type: "gemma3n_audio", dtype: "float32", other: 1 });
    expect(config.unknown_keys).toEqual(["other"]);
  });

  it.each([
    [{ hidden_size: 100 }, "audio_config.hidden_size: 100 must be even and a multiple of 8"],
    [{ sscp_conv_channel_size: [1] }, "expected 2 sizes, got [1]"],
    [{ sscp_conv_stride_size: [[2, 2], [2]] }, "expected 2 pairs of sizes, [time, frequency]"],
    [
      {
        input_feat_size: 1,
        sscp_conv_kernel_size: [
          [3, 3],
          [3, 9],
        ],
      },
      "1 bands are too few",
    ],
    [{ conf_attention_context_left: -1 }, "conf_attention_context_left"],
    [{ conf_attention_chunk_size: 2 ** 30 }, "conf_attention_chunk_size: 1073741824 steps are too many"],
  ])("refuses %j", (config, message) => {
    expect(() => new Gemma3nAudioConfig(config)).toThrow(ConfigError);
    expect(() => new Gemma3nAudioConfig(config)).toThrow(message);
  });
});

describe("Gemma3nAudioTower", () => {
  it("asks for the keys of HF's checkpoints", () => {
    const config = new Gemma3nAudioConfig({ conf_num_hidden_layers: 1 });
    const keys = [...namedParameters(new Gemma3nAudioTower(config, 2048))];
    const shapes = Object.fromEntries(keys.map(([key, { shape }]) => [key, shape]));
    expect(Object.keys(shapes).length).toBe(5 + 22 + 4);
    expect(shapes).toMatchObject({
      "audio_tower.subsample_conv_projection.conv_1.conv.weight": [32, 128, 3, 3],
      "audio_tower.subsample_conv_projection.input_proj_linear.weight": [1536, 1024],
      "audio_tower.conformer.0.attention.attn.per_dim_scale": [192],
      "audio_tower.conformer.0.lconv1d.depthwise_conv1d.weight": [1536, 1, 5],
      "embed_audio.embedding_projection.weight": [2048, 1536],
    });
  });
});
