import { cpSync, mkdirSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { safetensorsBytes } from "../checkpoints/files.ts";

/** The transformer of the folder: a tiny Gemma 3 with 32 numbers a token. */
export const TINY_MODEL: string = resolve(import.meta.dirname, "../fixtures/golden-h16/gemma3_text/model");

/** The numbers of the folder's Dense layer: [3, hidden_size] and a bias for each of the three. */
export function denseWeights(hidden_size: number): { weight: Float32Array; bias: Float32Array } {
  const weight = Float32Array.from({ length: 3 * hidden_size }, (_, i) => Math.sin(i + 1));
  return { weight, bias: Float32Array.of(0.5, -0.25, 0) };
}

export interface SentenceFolderOptions {
  readonly hidden_size: number;
  readonly pooling?: object;
  readonly settings?: object;
  readonly encoder?: object;
  /** Types of the modules after the pooling. */
  readonly modules?: readonly string[];
}

/** Makes a sentence-transformers folder of the tiny model at `folder`. */
export function writeSentenceFolder(folder: string, options: SentenceFolderOptions): string {
  const { hidden_size, pooling = {}, settings, encoder, modules = ["Dense", "Normalize"] } = options;
  cpSync(TINY_MODEL, folder, { recursive: true });
  const json = (name: string, value: unknown): void =>
    writeFileSync(join(folder, name), JSON.stringify(value));
  const types = ["Transformer", "Pooling", ...modules];
  const paths = types.map((type, i) => (i === 0 ? "" : `${i}_${type}`));
  json(
    "modules.json",
    types.map((type, idx) => ({
      idx,
      name: `${idx}`,
      path: paths[idx],
      type: `sentence_transformers.models.${type}`,
    })),
  );
  for (const path of paths.slice(1)) mkdirSync(join(folder, path), { recursive: true });
  json("1_Pooling/config.json", { word_embedding_dimension: hidden_size, ...pooling });
  if (settings !== undefined) json("config_sentence_transformers.json", settings);
  if (encoder !== undefined) json("sentence_bert_config.json", encoder);
  if (modules.includes("Dense")) writeDense(join(folder, "2_Dense"), hidden_size);
  return folder;
}

function writeDense(folder: string, hidden_size: number): void {
  const { weight, bias } = denseWeights(hidden_size);
  const config = {
    in_features: hidden_size,
    out_features: 3,
    bias: true,
    activation_function: "torch.nn.modules.activation.Tanh",
  };
  writeFileSync(join(folder, "config.json"), JSON.stringify(config));
  const end = weight.byteLength;
  const header = {
    "linear.weight": { dtype: "F32", shape: [3, hidden_size], data_offsets: [0, end] },
    "linear.bias": { dtype: "F32", shape: [3], data_offsets: [end, end + bias.byteLength] },
  };
  const data = Buffer.concat([Buffer.from(weight.buffer), Buffer.from(bias.buffer)]);
  writeFileSync(join(folder, "model.safetensors"), safetensorsBytes(header, data));
}
