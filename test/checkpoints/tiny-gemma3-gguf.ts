import type { GgufContent, GgufTensor, GgufValue } from "./files.ts";

/** A Gemma 3 GGUF file with two layers of width 32: real names and keys, all zeros. */
export function tinyGemma3(changes: Readonly<Record<string, GgufValue | undefined>> = {}): GgufContent {
  const entries: Record<string, GgufValue | undefined> = {
    "general.architecture": { string: "gemma3" },
    "gemma3.context_length": { u32: 512 },
    "gemma3.embedding_length": { u32: 32 },
    "gemma3.block_count": { u32: 2 },
    "gemma3.feed_forward_length": { u32: 64 },
    "gemma3.attention.head_count": { u32: 4 },
    "gemma3.attention.head_count_kv": { u32: 2 },
    "gemma3.attention.key_length": { u32: 16 },
    "gemma3.attention.value_length": { u32: 16 },
    "gemma3.attention.layer_norm_rms_epsilon": { f32: 1e-6 },
    "gemma3.attention.sliding_window": { u32: 8 },
    "gemma3.rope.freq_base": { f32: 1e6 },
    "tokenizer.ggml.tokens": { array: ["<pad>", "<eos>", "<bos>", "▁a", "🙂"].map((string) => ({ string })) },
    "tokenizer.ggml.scores": { array: [0, 0, 0, -1.5, -2].map((f32) => ({ f32 })) },
    "tokenizer.ggml.token_type": { array: [3, 3, 3, 1, 1].map((i32) => ({ i32 })) },
    "tokenizer.ggml.add_bos_token": { bool: 1 },
    ...changes,
  };
  const metadata = Object.entries(entries).filter(
    (entry): entry is [string, GgufValue] => entry[1] !== undefined,
  );
  const tensors = [floats("token_embd", 32, 5), floats("output_norm", 32)];
  for (const layer of [0, 1]) {
    const named = (stem: string, ...axes: number[]) => floats(`blk.${layer}.${stem}`, ...axes);
    tensors.push(named("attn_norm", 32), named("attn_q_norm", 16), named("ffn_norm", 32));
    tensors.push({
      name: `blk.${layer}.attn_q.weight`,
      axes: [32, 64],
      type: 8,
      data: new Uint8Array(64 * 34),
    });
  }
  return { metadata, tensors };
}

function floats(stem: string, ...axes: number[]): GgufTensor {
  const elements = axes.reduce((a, b) => a * b, 1);
  return { name: `${stem}.weight`, axes, type: 0, data: new Uint8Array(4 * elements) };
}
