import { describe, expect, it } from "vitest";
import { renameGgufTensor } from "./gguf-names.ts";

describe("renameGgufTensor", () => {
  it.each([
    ["gemma3", "token_embd.weight", "model.embed_tokens.weight", false],
    ["gemma3", "output.weight", "lm_head.weight", false],
    ["gemma3", "output_norm.weight", "model.norm.weight", true],
    ["gemma3", "blk.11.attn_norm.weight", "model.layers.11.input_layernorm.weight", true],
    ["gemma3", "blk.0.attn_output.weight", "model.layers.0.self_attn.o_proj.weight", false],
    ["gemma3", "blk.0.attn_k_norm.weight", "model.layers.0.self_attn.k_norm.weight", true],
    ["gemma3", "blk.0.ffn_norm.weight", "model.layers.0.pre_feedforward_layernorm.weight", true],
    ["gemma3", "blk.0.post_ffw_norm.weight", "model.layers.0.post_feedforward_layernorm.weight", true],
    ["gemma2", "blk.0.ffn_norm.weight", "model.layers.0.pre_feedforward_layernorm.weight", true],
    ["gemma", "blk.0.ffn_norm.weight", "model.layers.0.post_attention_layernorm.weight", true],
    ["gemma3n", "blk.3.attn_norm.weight", "model.layers.3.input_layernorm.weight", false],
    ["gemma3n", "blk.3.laurel_l.weight", "model.layers.3.laurel.linear_left.weight", false],
    ["gemma3n", "per_layer_token_embd.weight", "model.embed_tokens_per_layer.weight", false],
    ["gemma3n", "altup_proj.weight", "altup_proj.weight", false],
    ["gemma3n", "blk.1.altup_correct_scale.weight", "model.layers.1.altup.correct_output_scale", false],
    ["gemma3", "rope_freqs.weight", "rope_freqs.weight", false],
    ["gemma3", "constructor.weight", "constructor.weight", false],
    ["gemma3", "blk.N.attn_q.weight", "blk.N.attn_q.weight", false],
    ["gemma3", "blk.0.attn_q.bias", "blk.0.attn_q.bias", false],
    ["llama", "token_embd.weight", "token_embd.weight", false],
    [undefined, "output_norm.weight", "output_norm.weight", false],
  ])("%s: %s is %s", (architecture, name, hf, storedPlusOne) => {
    expect(renameGgufTensor(name, architecture)).toEqual({ name: hf, storedPlusOne });
  });
});
