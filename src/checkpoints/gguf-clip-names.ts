/**
 * llama.cpp's image encoders ("mmproj" files, general.architecture "clip") under HF's names. The names are those of
 * convert_hf_to_gguf.py; an older script had the two layers of the MLP the other way round.
 */
import { CheckpointError } from "../errors.ts";
import type { MetadataValue, TensorSlice } from "./checkpoint.ts";

/** The one norm of Gemma's own, to whose weight the converter adds 1; SigLIP's are stored as they are. */
const SOFT_NORM = "multi_modal_projector.mm_soft_emb_norm.weight";

/** Of the tensors outside the layers, by whole name. */
const NAMES: Readonly<Record<string, string>> = {
  "v.patch_embd.weight": "vision_tower.embeddings.patch_embedding.weight",
  "v.patch_embd.bias": "vision_tower.embeddings.patch_embedding.bias",
  "v.position_embd.weight": "vision_tower.embeddings.position_embedding.weight",
  "v.post_ln.weight": "vision_tower.post_layernorm.weight",
  "v.post_ln.bias": "vision_tower.post_layernorm.bias",
  // Stored as HF does, [vision, text].
  "mm.input_projection.weight": "multi_modal_projector.mm_input_projection_weight",
  "mm.soft_emb_norm.weight": SOFT_NORM,
};

/** Of the tensors of a layer; ffn_up and ffn_down are told apart by their shapes. */
const LAYER_NAMES: Readonly<Record<string, string>> = {
  ln1: "layer_norm1",
  ln2: "layer_norm2",
  attn_q: "self_attn.q_proj",
  attn_k: "self_attn.k_proj",
  attn_v: "self_attn.v_proj",
  attn_out: "self_attn.out_proj",
  ffn_up: "mlp.fc1",
  ffn_down: "mlp.fc2",
};

/** Renames what a Gemma 3 image encoder consists of; other tensors keep their names. */
export function renameClipTensors(
  tensors: readonly TensorSlice[],
  metadata: ReadonlyMap<string, MetadataValue>,
  file: string,
): TensorSlice[] {
  const projector = metadata.get("clip.projector_type") ?? metadata.get("clip.vision.projector_type");
  if (projector !== "gemma3") {
    throw new CheckpointError(
      `is an encoder with the projector ${JSON.stringify(projector ?? null)}; Gemma 3's "gemma3" is the one that can be read`,
      { file },
    );
  }
  const swapped = hasSwappedMlp(tensors, metadata);
  return tensors.map((tensor) => {
    const name = clipName(tensor.name, swapped);
    return { ...tensor, name, ...(name === SOFT_NORM && { storedPlusOne: true }) };
  });
}

function clipName(name: string, swapped: boolean): string {
  const [, layer, stem, kind] = /^v\.blk\.(\d+)\.(\w+)\.(weight|bias)$/.exec(name) ?? [];
  if (stem === undefined) return Object.hasOwn(NAMES, name) ? NAMES[name]! : name;
  if (!Object.hasOwn(LAYER_NAMES, stem)) return name;
  const mlp = { ffn_up: "mlp.fc2", ffn_down: "mlp.fc1" }[stem];
  return `vision_tower.encoder.layers.${layer}.${(swapped && mlp) || LAYER_NAMES[stem]}.${kind}`;
}

/** Files of the older script: what is called ffn_down there takes vectors of the encoder's width. llama.cpp tells them apart in the same way. */
function hasSwappedMlp(
  tensors: readonly TensorSlice[],
  metadata: ReadonlyMap<string, MetadataValue>,
): boolean {
  const down = tensors.find(({ name }) => /^v\.blk\.\d+\.ffn_down\.weight$/.test(name));
  return down?.shape[1] === metadata.get("clip.vision.embedding_length");
}
