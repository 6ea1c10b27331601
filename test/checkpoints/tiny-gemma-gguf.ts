import { fileURLToPath } from "node:url";
import { openCheckpoint } from "../../src/checkpoints/open.ts";
import type { GgufContent, GgufTensor, GgufValue } from "./files.ts";

const MODEL = fileURLToPath(new URL("../fixtures/flax-gemma", import.meta.url));

/** llama.cpp's names of the parts of HF's. */
const NAMES: readonly (readonly [string, string])[] = [
  ["model.embed_tokens", "token_embd"],
  ["model.norm", "output_norm"],
  ["model.layers.", "blk."],
  ["self_attn.o_proj", "attn_output"],
  ["self_attn.", "attn_"],
  ["mlp.", "ffn_"],
  ["input_layernorm", "attn_norm"],
  ["post_attention_layernorm", "ffn_norm"],
  ["_proj", ""],
];

/**
 * The Gemma (1) of the fixture flax-gemma as llama.cpp's converter stores it: norms with 1 added, no rotary base, no
 * output layer.
 */
export async function tinyGemma(
  changes: Readonly<Record<string, GgufValue | undefined>> = {},
): Promise<GgufContent> {
  const entries: Record<string, GgufValue | undefined> = {
    "general.architecture": { string: "gemma" },
    "gemma.context_length": { u32: 64 },
    "gemma.embedding_length": { u32: 32 },
    "gemma.block_count": { u32: 2 },
    "gemma.feed_forward_length": { u32: 56 },
    "gemma.attention.head_count": { u32: 3 },
    "gemma.attention.head_count_kv": { u32: 1 },
    "gemma.attention.key_length": { u32: 16 },
    "gemma.attention.value_length": { u32: 16 },
    "gemma.attention.layer_norm_rms_epsilon": { f32: 1e-6 },
    "tokenizer.ggml.bos_token_id": { u32: 2 },
    "tokenizer.ggml.eos_token_id": { u32: 1 },
    "tokenizer.ggml.unknown_token_id": { u32: 3 },
    "tokenizer.ggml.padding_token_id": { u32: 0 },
    ...changes,
  };
  const metadata = Object.entries(entries).filter(
    (entry): entry is [string, GgufValue] => entry[1] !== undefined,
  );
  return { metadata, tensors: await tensors() };
}

async function tensors(): Promise<GgufTensor[]> {
  const checkpoint = await openCheckpoint(MODEL);
  const found: GgufTensor[] = [];
  for (const slice of checkpoint.tensors.values()) {
    const data = await checkpoint.read(slice);
    const values = new Float32Array(data.buffer, data.byteOffset, data.length / 4);
    if (slice.shape.length === 1) for (let i = 0; i < values.length; i++) values[i]! += 1;
    const name = NAMES.reduce((text, [hf, ggml]) => text.replace(hf, ggml), slice.name);
    found.push({ name, axes: [...slice.shape].reverse(), type: 0, data });
  }
  await checkpoint.close();
  return found;
}
