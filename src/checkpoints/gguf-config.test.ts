import { join } from "node:path";
import { describe, expect, it } from "vitest";
import {
  type GgufContent,
  type GgufValue,
  ggufBytes,
  temporaryFolder,
  write,
} from "../../test/checkpoints/files.ts";
import { tinyGemma } from "../../test/checkpoints/tiny-gemma-gguf.ts";
import { tinyGemma3 } from "../../test/checkpoints/tiny-gemma3-gguf.ts";
import { ConfigError } from "../errors.ts";
import type { Checkpoint } from "./checkpoint.ts";
import { openGguf } from "./gguf.ts";
import { configFromGguf } from "./gguf-config.ts";

const folder = temporaryFolder();

function configOf(changes: Record<string, GgufValue | undefined> = {}) {
  return configIn(tinyGemma3(changes));
}

async function configIn(content: GgufContent) {
  const path = write(join(folder, "model.gguf"), ggufBytes(content));
  const checkpoint = await openGguf(path);
  await checkpoint.close();
  return configFromGguf(checkpoint);
}

/** A checkpoint that has only what the configuration looks at. */
function described(metadata: Record<string, string | number>, layers: number, hidden: number): Checkpoint {
  const names = Array.from({ length: layers }, (_, i) => `model.layers.${i}.input_layernorm.weight`);
  const slice = (name: string) => ({
    name,
    file: "x",
    offset: 0,
    length: 0,
    dtype: "F32" as const,
    shape: [7, hidden],
  });
  return {
    format: "gguf",
    files: [],
    tensors: new Map(["model.embed_tokens.weight", ...names].map((name) => [name, slice(name)])),
    metadata: new Map(Object.entries(metadata)),
    read: () => Promise.reject(new Error("not read")),
    close: () => Promise.resolve(),
  };
}

describe("configFromGguf", () => {
  it("gives config.json's keys", async () => {
    expect(await configOf()).toEqual({
      architectures: ["Gemma3ForCausalLM"],
      model_type: "gemma3_text",
      vocab_size: 5,
      hidden_size: 32,
      num_attention_heads: 4,
      num_key_value_heads: 2,
      head_dim: 16,
      num_hidden_layers: 2,
      intermediate_size: 64,
      max_position_embeddings: 512,
      rms_norm_eps: 1e-6,
      hidden_activation: "gelu_pytorch_tanh",
      attention_bias: false,
      attn_logit_softcapping: null,
      final_logit_softcapping: null,
      query_pre_attn_scalar: 16,
      sliding_window: 8,
      layer_types: ["sliding_attention", "sliding_attention"],
      rope_parameters: {
        full_attention: { rope_type: "default", rope_theta: 1e6 },
        sliding_attention: { rope_type: "default", rope_theta: 1e4 },
      },
      tie_word_embeddings: true,
      bos_token_id: 2,
      eos_token_id: 1,
      pad_token_id: 0,
    });
  });

  it("gives config.json's keys of Gemma", async () => {
    const config = {
      architectures: ["GemmaForCausalLM"],
      model_type: "gemma",
      vocab_size: 64,
      hidden_size: 32,
      num_attention_heads: 3,
      num_key_value_heads: 1,
      head_dim: 16,
      num_hidden_layers: 2,
      intermediate_size: 56,
      max_position_embeddings: 64,
      rms_norm_eps: 1e-6,
      attention_bias: false,
      tie_word_embeddings: true,
      bos_token_id: 2,
      eos_token_id: 1,
      pad_token_id: 0,
      hidden_act: "gelu_pytorch_tanh",
      rope_parameters: { rope_type: "default", rope_theta: 10_000 },
    };
    expect(await configIn(await tinyGemma())).toEqual(config);
    const changes: Record<string, GgufValue> = {
      "gemma.rope.freq_base": { f32: 5e5 },
      "tokenizer.ggml.eot_token_id": { u32: 107 },
    };
    expect(await configIn(await tinyGemma(changes))).toEqual({
      ...config,
      eos_token_id: [1, 107],
      rope_parameters: { rope_type: "default", rope_theta: 500_000 },
    });
    const negative = configIn(await tinyGemma({ "gemma.rope.freq_base": { f32: -1 } }));
    await expect(negative).rejects.toThrow("GGUF gemma.rope.freq_base: -1, expected a positive number");
  });

  it("reads what only some files store", async () => {
    const config = await configOf({
      "gemma3.rope.scaling.type": { string: "linear" },
      "gemma3.rope.scaling.factor": { f32: 8 },
      "gemma3.rope.freq_base_swa": { f32: 5000 },
      "gemma3.attention.sliding_window_pattern": { u32: 2 },
      "gemma3.final_logit_softcapping": { f32: 30 },
      "tokenizer.ggml.eot_token_id": { u32: 106 },
    });
    expect(config).toMatchObject({
      rope_parameters: {
        full_attention: { rope_type: "linear", rope_theta: 1e6, factor: 8 },
        sliding_attention: { rope_type: "default", rope_theta: 5000 },
      },
      layer_types: ["sliding_attention", "full_attention"],
      final_logit_softcapping: 30,
      eos_token_id: [1, 106],
    });
    const pattern = { array: [{ bool: 0 }, { bool: 1 }] };
    const explicit = await configOf({ "gemma3.attention.sliding_window_pattern": pattern });
    expect(explicit.layer_types).toEqual(["full_attention", "sliding_attention"]);
  });

  it("knows the 27B's attention scale and every sixth layer", () => {
    const metadata = (hidden: number, layers: number, heads: number) => ({
      "general.architecture": "gemma3",
      "gemma3.context_length": 131_072,
      "gemma3.embedding_length": hidden,
      "gemma3.block_count": layers,
      "gemma3.feed_forward_length": 21_504,
      "gemma3.attention.head_count": heads,
      "gemma3.attention.head_count_kv": heads / 2,
      "gemma3.attention.key_length": 128,
      "gemma3.attention.layer_norm_rms_epsilon": Math.fround(1e-6),
      "gemma3.attention.sliding_window": 1024,
      "gemma3.rope.freq_base": 1_000_000,
    });
    const large = configFromGguf(described(metadata(5376, 62, 32), 62, 5376));
    expect(large.query_pre_attn_scalar).toBe(168);
    const full = (large.layer_types as string[]).flatMap((type, i) => (type === "full_attention" ? [i] : []));
    expect(full).toEqual([5, 11, 17, 23, 29, 35, 41, 47, 53, 59]);
    expect(configFromGguf(described(metadata(3840, 48, 16), 48, 3840)).query_pre_attn_scalar).toBe(128);
  });

  it.each<[string, GgufValue | undefined, string]>([
    ["general.architecture", undefined, "missing"],
    ["general.architecture", { string: "llama" }, '"llama" can\'t be configured'],
    ["gemma3.block_count", undefined, "missing"],
    ["gemma3.block_count", { u32: 4_000_000_000 }, "is 4000000000, but the file has 2 layers"],
    ["gemma3.block_count", { string: "2" }, "2, expected a positive number"],
    ["gemma3.embedding_length", { f32: 31.5 }, "31.5, expected an integer"],
    ["gemma3.attention.head_count_kv", { u32: 3 }, "does not divide the 4 heads"],
    ["gemma3.attention.head_count_kv", { array: [{ u32: 2 }] }, "an array, expected a positive number"],
    ["gemma3.attention.head_count", { u32: 0 }, "0, expected a positive number"],
    ["gemma3.attention.value_length", { u32: 8 }, "differs from attention.key_length, 16"],
    ["gemma3.attention.layer_norm_rms_epsilon", { f32: Number.NaN }, "NaN, expected a positive number"],
    ["gemma3.rope.scaling.type", { string: "yarn" }, '"yarn" is not known'],
    ["gemma3.attention.sliding_window_pattern", { u32: 0 }, "is neither a period nor 2 booleans"],
    ["gemma3.attention.sliding_window", undefined, "missing"],
    ["tokenizer.ggml.bos_token_id", { string: "2" }, "2, expected a number"],
  ])("refuses %s of %o", async (key, value, message) => {
    const making = configOf({ [key]: value });
    await expect(making).rejects.toBeInstanceOf(ConfigError);
    await expect(making).rejects.toThrow(`GGUF ${key}: ${message}`);
  });

  it("refuses an embedding that is missing or of another width", async () => {
    await expect(configOf({ "gemma3.embedding_length": { u32: 31 } })).rejects.toThrow(
      "GGUF gemma3.embedding_length: is 31, but token_embd.weight has rows of 32",
    );
  });
});
