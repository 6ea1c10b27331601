import { copyFileSync, mkdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { describe, expect, it } from "vitest";
import {
  type GgufTensor,
  type GgufValue,
  ggufBytes,
  temporaryFolder,
  write,
} from "../../test/checkpoints/files.ts";
import type { Checkpoint, TensorSlice } from "../checkpoints/checkpoint.ts";
import { openCheckpoint } from "../checkpoints/open.ts";
import { Gemma3Config } from "../models/gemma3/multimodal-config.ts";
import { RawImage } from "../processing/raw-image.ts";
import { Tensor } from "../tensor.ts";
import { AutoModelForCausalLM, AutoModelForImageTextToText } from "./auto.ts";
import { Gemma3ForCausalLM } from "./gemma3.ts";
import { Gemma3ForConditionalGeneration } from "./gemma3-multimodal.ts";
import { AutoProcessor, type Gemma3Processor } from "./processors.ts";

/** The same weights as safetensors. */
const TINY = resolve(import.meta.dirname, "../../test/fixtures/multimodal/gemma3_mm/model");
const config = new Gemma3Config(
  JSON.parse(readFileSync(join(TINY, "config.json"), "utf8")) as Record<string, unknown>,
);
const { text_config: text, vision_config: vision } = config;
const IDS = [2, 17, 230, 41, 430, 432, 432, 432, 432, 431, 99, 305];
const INPUTS = { input_ids: [IDS], token_type_ids: [IDS.map((id) => (id === 432 ? 1 : 0))] };

const folder = temporaryFolder();
const source = await openCheckpoint(TINY);

function pixels(): Tensor {
  const data = Float32Array.from({ length: 3 * vision.image_size ** 2 }, (_, i) => Math.sin((i + 1) * 1.37));
  return new Tensor("float32", data, [1, 3, vision.image_size, vision.image_size]);
}

/** As llama.cpp's converter writes it: axes from the innermost, and 1 added to Gemma's norms. */
async function tensor(name: string, slice: TensorSlice, plusOne: boolean): Promise<GgufTensor> {
  const bytes = new Uint8Array(await (source as Checkpoint).read(slice));
  const values = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4).map((value) =>
    plusOne ? value + 1 : value,
  );
  return { name, axes: slice.shape.toReversed(), type: 0, data: new Uint8Array(values.buffer) };
}

const TEXT_NAMES: readonly [RegExp, string][] = [
  [/^language_model\.model\.embed_tokens/, "token_embd"],
  [/^language_model\.model\.norm/, "output_norm"],
  [/^language_model\.model\.layers\./, "blk."],
  [/input_layernorm/, "attn_norm"],
  [/self_attn\.([qk])_norm/, "attn_$1_norm"],
  [/self_attn\.([qkv])_proj/, "attn_$1"],
  [/self_attn\.o_proj/, "attn_output"],
  [/post_attention_layernorm/, "post_attention_norm"],
  [/pre_feedforward_layernorm/, "ffn_norm"],
  [/post_feedforward_layernorm/, "post_ffw_norm"],
  [/mlp\.(gate|up|down)_proj/, "ffn_$1"],
];

const IMAGE_NAMES: readonly [RegExp, string][] = [
  [/^vision_tower\.encoder\.layers\./, "v.blk."],
  [/^vision_tower\.embeddings\.patch_embedding/, "v.patch_embd"],
  [/^vision_tower\.embeddings\.position_embedding/, "v.position_embd"],
  [/^vision_tower\.post_layernorm/, "v.post_ln"],
  [/layer_norm([12])/, "ln$1"],
  [/self_attn\.([qkv])_proj/, "attn_$1"],
  [/self_attn\.out_proj/, "attn_out"],
  [/mlp\.fc1/, "ffn_up"],
  [/mlp\.fc2/, "ffn_down"],
  [/^multi_modal_projector\.mm_input_projection_weight/, "mm.input_projection.weight"],
  [/^multi_modal_projector\.mm_soft_emb_norm/, "mm.soft_emb_norm"],
];

async function tensors(
  belongs: (name: string) => boolean,
  names: readonly [RegExp, string][],
  plusOne: (name: string) => boolean,
): Promise<GgufTensor[]> {
  const slices = [...source.tensors.values()].filter(({ name }) => belongs(name));
  return Promise.all(
    slices.map((slice) => {
      const name = names.reduce((done, [pattern, to]) => done.replace(pattern, to), slice.name);
      return tensor(name, slice, plusOne(slice.name));
    }),
  );
}

async function writeText(path: string): Promise<void> {
  const tokens = Array.from({ length: text.vocab_size }, (_, i) => `<token ${i}>`);
  // Bytes, which every tokenizer must have; the rest are control tokens.
  const isByte = (id: number): boolean => id >= 10 && id < 266;
  for (let byte = 0; byte < 256; byte++)
    tokens[10 + byte] = `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`;
  tokens[430] = "<start_of_image>";
  tokens[431] = "<end_of_image>";
  tokens[432] = "<image_soft_token>";
  const metadata: Record<string, GgufValue> = {
    "general.architecture": { string: "gemma3" },
    "gemma3.context_length": { u32: text.max_position_embeddings },
    "gemma3.embedding_length": { u32: text.hidden_size },
    "gemma3.block_count": { u32: text.num_hidden_layers },
    "gemma3.feed_forward_length": { u32: text.intermediate_size },
    "gemma3.attention.head_count": { u32: text.num_attention_heads },
    "gemma3.attention.head_count_kv": { u32: text.num_key_value_heads },
    "gemma3.attention.key_length": { u32: text.head_dim },
    "gemma3.attention.layer_norm_rms_epsilon": { f32: text.rms_norm_eps },
    "gemma3.attention.sliding_window": { u32: text.sliding_window },
    "gemma3.rope.freq_base": { f32: text.ropeOf("full_attention").rope_theta },
    "gemma3.rope.scaling.type": { string: "linear" },
    "gemma3.rope.scaling.factor": { f32: text.ropeOf("full_attention").factor },
    "tokenizer.ggml.model": { string: "llama" },
    "tokenizer.ggml.scores": { array: tokens.map((_, i) => ({ f32: -i })) },
    "tokenizer.ggml.token_type": { array: tokens.map((_, id) => ({ i32: isByte(id) ? 6 : 3 })) },
    "tokenizer.ggml.tokens": { array: tokens.map((string) => ({ string })) },
  };
  const own = (name: string): boolean => name.startsWith("language_model.");
  const list = await tensors(own, TEXT_NAMES, (name) => name.includes("norm"));
  write(path, ggufBytes({ metadata: Object.entries(metadata), tensors: list }));
}

async function writeImages(
  path: string,
  {
    names = IMAGE_NAMES,
    changes = {},
  }: { names?: typeof IMAGE_NAMES; changes?: Record<string, GgufValue> } = {},
): Promise<void> {
  const metadata: Record<string, GgufValue> = {
    "general.architecture": { string: "clip" },
    "clip.has_vision_encoder": { bool: 1 },
    "clip.projector_type": { string: "gemma3" },
    "clip.vision.image_size": { u32: vision.image_size },
    "clip.vision.patch_size": { u32: vision.patch_size },
    "clip.vision.embedding_length": { u32: vision.hidden_size },
    "clip.vision.feed_forward_length": { u32: vision.intermediate_size },
    "clip.vision.block_count": { u32: vision.num_hidden_layers },
    "clip.vision.attention.head_count": { u32: vision.num_attention_heads },
    "clip.vision.attention.layer_norm_epsilon": { f32: vision.layer_norm_eps },
    "clip.vision.projection_dim": { u32: text.hidden_size },
    "clip.vision.projector.scale_factor": { u32: config.pooling },
    "clip.vision.image_mean": { array: [{ f32: 0.5 }, { f32: 0.25 }, { f32: 0.125 }] },
    "clip.use_gelu": { bool: 1 },
    ...changes,
  };
  const own = (name: string): boolean => !name.startsWith("language_model.");
  const list = await tensors(own, names, (name) => name.includes("soft_emb_norm"));
  write(path, ggufBytes({ metadata: Object.entries(metadata), tensors: list }));
}

async function logitsOf(model: Gemma3ForConditionalGeneration): Promise<Float32Array> {
  const { logits } = await model({ ...INPUTS, pixel_values: pixels() });
  return logits.data as Float32Array;
}

function worst(a: Float32Array, b: Float32Array): number {
  return a.reduce((most, value, i) => Math.max(most, Math.abs(value - b[i]!)), 0);
}

describe("an image encoder beside a GGUF file", () => {
  it("gives what the same weights give as safetensors, in either naming of the MLP", async () => {
    const model = await Gemma3ForConditionalGeneration.from_pretrained(TINY);
    const expected = await logitsOf(model);
    await model.dispose();
    const older = IMAGE_NAMES.map(([pattern, name]): [RegExp, string] => [
      pattern,
      { ffn_up: "ffn_down", ffn_down: "ffn_up" }[name] ?? name,
    ]);
    for (const [i, names] of [IMAGE_NAMES, older].entries()) {
      const place = join(folder, `naming${i}`);
      mkdirSync(place);
      await writeText(join(place, "model-f32.gguf"));
      await writeImages(join(place, "mmproj-model-f32.gguf"), { names });
      for (const path of [place, join(place, "model-f32.gguf")]) {
        const both = await AutoModelForImageTextToText.from_pretrained(path);
        expect(both).toBeInstanceOf(Gemma3ForConditionalGeneration);
        expect(both.memory().parts?.vision_encoder?.loaded).toBe(false);
        const got = await logitsOf(both as Gemma3ForConditionalGeneration);
        expect(worst(got, expected)).toBeLessThan(1e-5);
        await both.dispose();
      }
    }
  });

  it("comes with a processor", async () => {
    for (const path of [join(folder, "naming0"), join(folder, "naming0/model-f32.gguf")]) {
      const processor = (await AutoProcessor.from_pretrained(path)) as Gemma3Processor;
      expect(processor.image_seq_length).toBe(config.mm_tokens_per_image);
      const { size, image_mean, image_std } = processor.image_processor.config;
      expect(size).toEqual({ height: vision.image_size, width: vision.image_size });
      expect([image_mean, image_std]).toEqual([
        [0.5, 0.25, 0.125],
        [0.5, 0.5, 0.5],
      ]);
      const image = new RawImage(new Uint8Array(12), 2, 2, 3);
      const inputs = await processor("<start_of_image>", image, { add_special_tokens: false });
      const soft = inputs.input_ids
        .tolist()
        .flat()
        .filter((id) => id === 432n);
      expect(soft).toHaveLength(config.mm_tokens_per_image);
      expect(inputs.pixel_values!.dims).toEqual([1, 3, vision.image_size, vision.image_size]);
    }
  });

  it("is not needed for text alone", async () => {
    const model = await AutoModelForCausalLM.from_pretrained(join(folder, "naming0/model-f32.gguf"));
    expect(model).toBeInstanceOf(Gemma3ForCausalLM);
    await model.dispose();
  });

  it("is named where it is elsewhere, or one of several", async () => {
    const place = join(folder, "apart");
    mkdirSync(place);
    const path = join(place, "model.gguf");
    copyFileSync(join(folder, "naming0/model-f32.gguf"), path);
    const load = (options: object = {}) => AutoModelForImageTextToText.from_pretrained(path, options);
    for (const fails of [load, () => AutoProcessor.from_pretrained(path)])
      await expect(fails()).rejects.toThrow(
        /there is no mmproj file beside it; name the file with the option mmproj/,
      );
    const { image_seq_length } = (await AutoProcessor.from_pretrained(path, {
      mmproj: join(folder, "naming0/mmproj-model-f32.gguf"),
    })) as Gemma3Processor;
    expect(image_seq_length).toBe(config.mm_tokens_per_image);
    const model = await load({ mmproj: join(folder, "naming0/mmproj-model-f32.gguf") });
    await model.dispose();
    for (const name of ["mmproj-a.gguf", "b-mmproj.gguf"])
      copyFileSync(join(folder, "naming0/mmproj-model-f32.gguf"), join(place, name));
    await expect(load()).rejects.toThrow(/there are b-mmproj\.gguf, mmproj-a\.gguf; name the file/);
  });

  it("must be Gemma 3's, and fit the text model", async () => {
    const path = join(folder, "naming0/model-f32.gguf");
    const other = join(folder, "other.gguf");
    const load = () => AutoModelForImageTextToText.from_pretrained(path, { mmproj: other });
    await writeImages(other, { changes: { "clip.projector_type": { string: "mlp" } } });
    await expect(load()).rejects.toThrow(/projector "mlp"; Gemma 3's "gemma3"/);
    await writeImages(other, { changes: { "clip.vision.projection_dim": { u32: 2560 } } });
    await expect(load()).rejects.toThrow(
      /clip\.vision\.projection_dim: is 2560, but the text model's vectors have 24/,
    );
    await writeImages(other, { changes: { "clip.vision.block_count": { u32: 3 } } });
    await expect(load()).rejects.toThrow(/lacks 16 tensors of the vision encoder/);
  });
});
