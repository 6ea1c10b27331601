/**
 * Writes a checkpoint of a released model's shape with random weights: bfloat16 safetensors, sharded, under the hub's
 * names. It checks loading, memory and speed at full size where the real weights can't be had; what it says is noise.
 *
 *   npx tsx tools/random-checkpoint.ts gemma-3-4b|gemma-3n-e2b|gemma-3n-e4b OUT [--tokenizer DIR] [--seed N]
 */
import { cp, mkdir, readdir, writeFile } from "node:fs/promises";
import path from "node:path";
import { parseArgs } from "node:util";
import { stringifyWithFloats } from "../src/api/json-floats.ts";
import { type TensorToWrite, writeSafetensors } from "../src/checkpoints/write-safetensors.ts";
import { GemmaRMSNorm } from "../src/nn/gemma-rms-norm.ts";
import { Embedding } from "../src/nn/linear.ts";
import { type Module, namedModules, Parameter } from "../src/nn/module.ts";
import { presets } from "./random-checkpoint/presets.ts";

const SHARD_BYTES = 2 ** 31;
const CHUNK_ELEMENTS = 2 ** 20;

interface RandomTensor {
  readonly name: string;
  readonly shape: readonly number[];
  /** Standard deviation; a number for all elements where `constant`. */
  readonly value: number;
  readonly constant: boolean;
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { tokenizer: { type: "string" }, seed: { type: "string", default: "0" } },
});
const [name, out] = positionals;
const preset = Object.hasOwn(presets, name ?? "") ? presets[name as keyof typeof presets] : undefined;
if (preset === undefined || out === undefined) {
  console.error(
    `usage: random-checkpoint.ts ${Object.keys(presets).join("|")} OUT [--tokenizer DIR] [--seed N]`,
  );
  process.exit(2);
}
await mkdir(out, { recursive: true });
const { config, modules, files } = preset();
for (const [file, content] of Object.entries({ "config.json": config, ...files }))
  await writeFile(path.join(out, file), stringifyWithFloats("{}", content, ["activation_sparsity_pattern"]));
if (values.tokenizer !== undefined) await copyTokenizer(values.tokenizer, out);
await writeShards(
  out,
  modules.flatMap(([module, rename]) => tensorsOf(module, rename)),
);

/** Every parameter of a module with numbers that keep activations in range. */
function tensorsOf(root: Module, rename: (key: string) => string): RandomTensor[] {
  return [...namedModules(root)].flatMap(([at, module]) =>
    Object.entries(module).flatMap(([field, parameter]) => {
      if (!(parameter instanceof Parameter)) return [];
      const key = rename(at === "" ? field : `${at}.${field}`);
      const { shape } = parameter;
      // The 1x1 convolutions of timm's encoder, which run as matrices.
      const stored = key.includes(".timm_model.") && shape.length === 2 ? [...shape, 1, 1] : shape;
      return [{ name: key, shape: stored, ...spread(module, field, shape) }];
    }),
  );
}

function spread(
  module: Module,
  field: string,
  shape: readonly number[],
): Pick<RandomTensor, "value" | "constant"> {
  const constant = shape.length < 2;
  if (constant) return { value: field === "bias" || module instanceof GemmaRMSNorm ? 0 : 1, constant };
  // An embedding's rows are scaled by the root of their length, a linear layer sums over its input.
  const inputs =
    module instanceof Embedding ? shape[1]! : shape.slice(1).reduce((product, dim) => product * dim, 1);
  return { value: inputs ** -0.5, constant };
}

async function writeShards(folder: string, tensors: readonly RandomTensor[]): Promise<void> {
  const shards: RandomTensor[][] = [[]];
  let bytes = 0;
  for (const tensor of tensors) {
    const size = 2 * elements(tensor.shape);
    if (bytes > 0 && bytes + size > SHARD_BYTES) {
      shards.push([]);
      bytes = 0;
    }
    shards.at(-1)!.push(tensor);
    bytes += size;
  }
  const weight_map: Record<string, string> = {};
  let total_size = 0;
  const pool = randomPool(Number(values.seed));
  for (const [i, shard] of shards.entries()) {
    const number = (n: number): string => String(n).padStart(5, "0");
    const file = `model-${number(i + 1)}-of-${number(shards.length)}.safetensors`;
    const written: TensorToWrite[] = shard.map((tensor) => {
      weight_map[tensor.name] = file;
      total_size += 2 * elements(tensor.shape);
      return { name: tensor.name, dtype: "BF16", shape: tensor.shape, data: randomBytes(tensor, pool) };
    });
    await writeSafetensors(path.join(folder, file), written, { format: "pt" });
    console.log(`${file}: ${shard.length} tensors`);
  }
  const index = { metadata: { total_size }, weight_map };
  await writeFile(path.join(folder, "model.safetensors.index.json"), `${JSON.stringify(index, null, 2)}\n`);
}

function elements(shape: readonly number[]): number {
  return shape.reduce((product, dim) => product * dim, 1);
}

/** Standard normal numbers and a generator of places to start in them: drawing billions anew would take minutes. */
function randomPool(seed: number): { readonly values: Float32Array; readonly next: () => number } {
  let state = seed >>> 0;
  // mulberry32
  const next = (): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
  const normal = (): number => Math.sqrt(-2 * Math.log(1 - next())) * Math.cos(2 * Math.PI * next());
  return { values: Float32Array.from({ length: CHUNK_ELEMENTS + 65_521 }, normal), next };
}

function* randomBytes(
  { shape, value, constant }: RandomTensor,
  pool: ReturnType<typeof randomPool>,
): Generator<Uint8Array> {
  const total = elements(shape);
  const scaled = constant ? undefined : bfloat16(pool.values.map((number) => number * value));
  for (let done = 0; done < total; done += CHUNK_ELEMENTS) {
    const count = Math.min(CHUNK_ELEMENTS, total - done);
    if (scaled === undefined) yield new Uint8Array(bfloat16(new Float32Array(count).fill(value)).buffer);
    else {
      const start = Math.floor(pool.next() * (scaled.length - count));
      yield new Uint8Array(scaled.buffer, 2 * start, 2 * count);
    }
  }
}

/** The upper halves of float32 numbers. */
function bfloat16(numbers: Float32Array): Uint16Array {
  const bits = new Uint32Array(numbers.buffer, numbers.byteOffset, numbers.length);
  return Uint16Array.from(bits, (word) => word >>> 16);
}

async function copyTokenizer(from: string, to: string): Promise<void> {
  const wanted = /^(tokenizer|special_tokens_map|added_tokens|chat_template|preprocessor|processor)/;
  for (const file of await readdir(from))
    if (wanted.test(file)) await cp(path.join(from, file), path.join(to, file));
}
