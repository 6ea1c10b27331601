import { Buffer } from "node:buffer";
import { fileURLToPath } from "node:url";
import { openCheckpoint } from "../../src/checkpoints/open.ts";
import type { GgufContent, GgufTensor, GgufValue } from "./files.ts";

const MODEL = fileURLToPath(new URL("../fixtures/gemma3n/nested", import.meta.url));

/** llama.cpp's names of HF's parts; longer ones first where one contains another. */
const NAMES: readonly (readonly [string, string])[] = [
  ["model.embed_tokens_per_layer", "per_layer_token_embd"],
  ["model.per_layer_model_projection", "per_layer_model_proj"],
  ["model.per_layer_projection_norm", "per_layer_proj_norm"],
  ["model.embed_tokens", "token_embd"],
  ["model.norm", "output_norm"],
  ["model.layers.", "blk."],
  ["self_attn.o_proj", "attn_output"],
  ["self_attn.q_proj", "attn_q"],
  ["self_attn.k_proj", "attn_k"],
  ["self_attn.v_proj", "attn_v"],
  ["self_attn.", "attn_"],
  ["mlp.gate_proj", "ffn_gate"],
  ["mlp.up_proj", "ffn_up"],
  ["mlp.down_proj", "ffn_down"],
  ["input_layernorm", "attn_norm"],
  ["post_attention_layernorm", "post_attention_norm"],
  ["pre_feedforward_layernorm", "ffn_norm"],
  ["post_feedforward_layernorm", "post_ffw_norm"],
  ["post_per_layer_input_norm", "post_norm"],
  ["per_layer_input_gate", "inp_gate"],
  ["per_layer_projection", "proj"],
  ["laurel.linear_left", "laurel_l"],
  ["laurel.linear_right", "laurel_r"],
  ["laurel.post_laurel_norm", "laurel_post_norm"],
  ["altup.modality_router", "altup_router"],
  ["altup.router_norm", "altup_router_norm"],
  ["altup.prediction_coefs", "altup_predict_coef"],
  ["altup.correction_coefs", "altup_correct_coef"],
  ["altup.correct_output_scale", "altup_correct_scale.weight"],
];

/** The model of the fixture gemma3n/nested as llama.cpp's converter stores it. */
export async function tinyGemma3n(
  changes: Readonly<Record<string, GgufValue | undefined>> = {},
): Promise<GgufContent> {
  const quantile = 1.2815515655446004;
  const entries: Record<string, GgufValue | undefined> = {
    "general.architecture": { string: "gemma3n" },
    "gemma3n.context_length": { u32: 256 },
    "gemma3n.embedding_length": { u32: 16 },
    "gemma3n.embedding_length_per_layer_input": { u32: 6 },
    "gemma3n.block_count": { u32: 6 },
    "gemma3n.feed_forward_length": { array: new Array(6).fill({ i32: 48 }) },
    "gemma3n.attention.head_count": { u32: 2 },
    "gemma3n.attention.head_count_kv": { u32: 1 },
    "gemma3n.attention.key_length": { u32: 8 },
    "gemma3n.attention.value_length": { u32: 8 },
    "gemma3n.attention.layer_norm_rms_epsilon": { f32: 1e-6 },
    "gemma3n.attention.sliding_window": { u32: 5 },
    "gemma3n.attention.sliding_window_pattern": { array: [1, 1, 0, 1, 1, 0].map((bool) => ({ bool })) },
    "gemma3n.attention.shared_kv_layers": { f32: 3 },
    "gemma3n.activation_sparsity_scale": {
      array: [quantile, quantile, ...new Array<number>(4).fill(Number.NEGATIVE_INFINITY)].map((f32) => ({
        f32,
      })),
    },
    "gemma3n.altup.num_inputs": { u32: 4 },
    "gemma3n.altup.active_idx": { u32: 0 },
    "gemma3n.rope.freq_base": { f32: 1e6 },
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
  const stacks = new Map<string, Buffer[]>([
    ["altup_proj", []],
    ["altup_unembd_proj", []],
  ]);
  for (const slice of checkpoint.tensors.values()) {
    const data = await checkpoint.read(slice);
    const [, list, i] =
      /^model\.(altup_projections|altup_unembed_projections)\.(\d)\./.exec(slice.name) ?? [];
    if (list !== undefined) {
      stacks.get(list === "altup_projections" ? "altup_proj" : "altup_unembd_proj")![Number(i)] = data;
      continue;
    }
    const name = NAMES.reduce((text, [hf, ggml]) => text.replace(hf, ggml), slice.name);
    found.push({ name, axes: [...slice.shape].reverse(), type: 0, data });
  }
  await checkpoint.close();
  for (const [name, parts] of stacks)
    found.push({ name: `${name}.weight`, axes: [16, 16, parts.length], type: 0, data: Buffer.concat(parts) });
  return found;
}
