import type { MetadataValue, TensorSlice } from "./checkpoint.ts";

/** llama.cpp's names of Gemma's tensors (without `.weight`) and HF's; N is the layer. */
const gemma2Names: Readonly<Record<string, string>> = {
  token_embd: "model.embed_tokens",
  output_norm: "model.norm",
  output: "lm_head",
  "blk.N.attn_norm": "model.layers.N.input_layernorm",
  "blk.N.attn_q": "model.layers.N.self_attn.q_proj",
  "blk.N.attn_k": "model.layers.N.self_attn.k_proj",
  "blk.N.attn_v": "model.layers.N.self_attn.v_proj",
  "blk.N.attn_output": "model.layers.N.self_attn.o_proj",
  "blk.N.post_attention_norm": "model.layers.N.post_attention_layernorm",
  "blk.N.ffn_norm": "model.layers.N.pre_feedforward_layernorm",
  "blk.N.ffn_gate": "model.layers.N.mlp.gate_proj",
  "blk.N.ffn_up": "model.layers.N.mlp.up_proj",
  "blk.N.ffn_down": "model.layers.N.mlp.down_proj",
  "blk.N.post_ffw_norm": "model.layers.N.post_feedforward_layernorm",
};

const gemma3Names: Readonly<Record<string, string>> = {
  ...gemma2Names,
  "blk.N.attn_q_norm": "model.layers.N.self_attn.q_norm",
  "blk.N.attn_k_norm": "model.layers.N.self_attn.k_norm",
};

interface Architecture {
  readonly names: Readonly<Record<string, string>>;
  /** Whether llama.cpp's converter adds 1 to the norm weights, which HF then multiplies by (1 + weight). */
  readonly normsPlusOne: boolean;
}

/** By `general.architecture`. */
const architectures: ReadonlyMap<MetadataValue | undefined, Architecture> = new Map<
  MetadataValue | undefined,
  Architecture
>([
  [
    "gemma",
    {
      // Gemma 1 has no sandwich norms: its one norm before the MLP is HF's post_attention_layernorm.
      names: { ...gemma2Names, "blk.N.ffn_norm": "model.layers.N.post_attention_layernorm" },
      normsPlusOne: true,
    },
  ],
  ["gemma2", { names: gemma2Names, normsPlusOne: true }],
  ["gemma3", { names: gemma3Names, normsPlusOne: true }],
  [
    "gemma3n",
    {
      // altup_proj and altup_unembd_proj are several matrices in one tensor: see unstackGgufTensor.
      names: {
        ...gemma3Names,
        per_layer_token_embd: "model.embed_tokens_per_layer",
        per_layer_model_proj: "model.per_layer_model_projection",
        per_layer_proj_norm: "model.per_layer_projection_norm",
        "blk.N.inp_gate": "model.layers.N.per_layer_input_gate",
        "blk.N.proj": "model.layers.N.per_layer_projection",
        "blk.N.post_norm": "model.layers.N.post_per_layer_input_norm",
        "blk.N.laurel_l": "model.layers.N.laurel.linear_left",
        "blk.N.laurel_r": "model.layers.N.laurel.linear_right",
        "blk.N.laurel_post_norm": "model.layers.N.laurel.post_laurel_norm",
        "blk.N.altup_router": "model.layers.N.altup.modality_router",
        "blk.N.altup_router_norm": "model.layers.N.altup.router_norm",
        "blk.N.altup_predict_coef": "model.layers.N.altup.prediction_coefs",
        "blk.N.altup_correct_coef": "model.layers.N.altup.correction_coefs",
        "blk.N.altup_correct_scale": "model.layers.N.altup.correct_output_scale",
      },
      normsPlusOne: false,
    },
  ],
]);

/** HF's name of a GGUF file's tensor. Names that the table lacks, and all of an unknown architecture, stay. */
export function renameGgufTensor(
  name: string,
  architecture: MetadataValue | undefined,
): { readonly name: string; readonly storedPlusOne: boolean } {
  const known = architectures.get(architecture);
  const [, stem, layer] = /^((?:blk\.(\d+)\.)?\w+)\.weight$/.exec(name) ?? [];
  if (known === undefined || stem === undefined) return { name, storedPlusOne: false };
  const key = layer === undefined ? stem : stem.replace(layer, "N");
  const hf = Object.hasOwn(known.names, key) ? known.names[key]! : undefined;
  if (hf === undefined) return { name, storedPlusOne: false };
  const path = layer === undefined ? hf : hf.replace("N", layer);
  return {
    // A parameter of its own, not a module's.
    name: path.endsWith(".correct_output_scale") ? path : `${path}.weight`,
    storedPlusOne: known.normsPlusOne && hf.endsWith("norm"),
  };
}

/** Stacks of matrices in Gemma 3n's files, and HF's lists of them. */
const STACKS: Readonly<Record<string, string>> = {
  "altup_proj.weight": "model.altup_projections",
  "altup_unembd_proj.weight": "model.altup_unembed_projections",
};

/** Far above any model. */
const MOST_STACKED = 64;

/** The matrices of a tensor that holds several, under HF's names; undefined for any other. */
export function unstackGgufTensor(
  tensor: TensorSlice,
  architecture: MetadataValue | undefined,
): TensorSlice[] | undefined {
  const list =
    architecture === "gemma3n" && Object.hasOwn(STACKS, tensor.name) ? STACKS[tensor.name] : undefined;
  const [count, ...shape] = tensor.shape;
  if (list === undefined || count === undefined || count > MOST_STACKED || shape.length !== 2)
    return undefined;
  const length = tensor.length / count;
  return Array.from({ length: count }, (_, i) => ({
    ...tensor,
    name: `${list}.${i}.weight`,
    offset: tensor.offset + i * length,
    length,
    shape,
  }));
}
