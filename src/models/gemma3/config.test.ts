import { describe, expect, it } from "vitest";
import { ConfigError } from "../../errors.ts";
import { Gemma3TextConfig } from "./config.ts";

const v5 = {
  model_type: "gemma3_text",
  num_hidden_layers: 3,
  layer_types: ["sliding_attention", "full_attention", "sliding_attention"],
  rope_parameters: {
    full_attention: { rope_type: "linear", factor: 8, rope_theta: 1e6 },
    sliding_attention: { rope_type: "default", rope_theta: 1e4 },
  },
};
const v4 = {
  num_hidden_layers: 3,
  sliding_window_pattern: 2,
  rope_theta: 1e6,
  rope_local_base_freq: 1e4,
  rope_scaling: { rope_type: "linear", factor: 8 },
};

describe("Gemma3TextConfig", () => {
  it("reads both spellings into one form", () => {
    const { architectures: _, unknown_keys: __, ...fromV5 } = new Gemma3TextConfig(v5);
    const { architectures: ___, unknown_keys: ____, ...fromV4 } = new Gemma3TextConfig(v4);
    expect(fromV4).toEqual(fromV5);
    expect(fromV5.rope_parameters.full_attention).toEqual({
      rope_type: "linear",
      rope_theta: 1e6,
      factor: 8,
    });
  });

  it("has HF's defaults", () => {
    const config = new Gemma3TextConfig();
    expect(config.num_hidden_layers).toBe(26);
    expect(config.layer_types.filter((type) => type === "full_attention")).toHaveLength(4);
    expect(config.layer_types[5]).toBe("full_attention");
    expect(config.windowOf("sliding_attention")).toBe(4096);
    expect(config.windowOf("full_attention")).toBeNull();
  });

  it("lets layer_types win over the pattern", () => {
    expect(new Gemma3TextConfig({ ...v5, sliding_window_pattern: 3 }).layer_types).toEqual(v5.layer_types);
  });

  it("reports unknown keys without failing", () => {
    expect(new Gemma3TextConfig({ hidden_sise: 3, transformers_version: "5" }).unknown_keys).toEqual([
      "hidden_sise",
    ]);
  });

  it.each([
    [{ hidden_size: -1 }, /config\.hidden_size: expected a positive integer, got -1/],
    [{ hidden_size: "640" }, /config\.hidden_size/],
    [{ num_attention_heads: 3, num_key_value_heads: 2 }, /no multiple/],
    [{ head_dim: 15 }, /even/],
    [{ layer_types: ["full_attention"] }, /26 entries, one a layer, got 1/],
    [{ ...v5, layer_types: ["full_attention", "linear_attention", "full_attention"] }, /unknown layer type/],
    [{ rope_scaling: { rope_type: "yarn", factor: 2 } }, /"yarn" is not supported/],
    [{ rope_scaling: { rope_type: "linear" } }, /factor must be/],
    [{ rope_parameters: [] }, /rope_parameters: expected an object/],
    [{ eos_token_id: [1, "2"] }, /eos_token_id/],
    [{ attention_bias: 1 }, /attention_bias/],
    [{ id2label: { 0: "a", 2: "b" } }, /id2label/],
    [{ problem_type: "ranking" }, /problem_type/],
  ])("refuses %j", (config, message) => {
    expect(() => new Gemma3TextConfig(config)).toThrow(ConfigError);
    expect(() => new Gemma3TextConfig(config)).toThrow(message);
  });

  it("takes an HF list of stop tokens", () => {
    expect(new Gemma3TextConfig({ eos_token_id: [1, 106] }).eos_token_id).toEqual([1, 106]);
  });
});
