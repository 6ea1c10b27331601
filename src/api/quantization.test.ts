import { copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openCheckpoint } from "../checkpoints/open.ts";
import { writeSafetensors } from "../checkpoints/write-safetensors.ts";
import { ConfigError, InputError } from "../errors.ts";
import { dequantize_4bit, dequantize_int4, quantize_4bit, quantize_int4 } from "../quantization/public.ts";
import { Tensor } from "../tensor.ts";
import { Gemma3ForCausalLM } from "./gemma3.ts";
import type { PretrainedOptions } from "./options.ts";
import { BitsAndBytesConfig, TorchAoConfig } from "./quantization-config.ts";

const FIXTURES = resolve(import.meta.dirname, "../../test/fixtures");
/** Written by tools/oracle/quantized_checkpoints.py. */
const SAVED = join(FIXTURES, "quantized");
/** Rows of 24 and 36: no whole blocks. */
const FLOAT = join(SAVED, "float");

interface Expected {
  readonly input_ids: readonly number[];
  readonly logits: Readonly<Record<string, readonly number[]>>;
}

/** Logits of one call, and bytes by storage. */
async function run(
  folder: string,
  options: PretrainedOptions = {},
  ids: readonly number[] = expected.input_ids,
): Promise<{ logits: Float32Array; weights: Readonly<Record<string, number>> }> {
  const model = await Gemma3ForCausalLM.from_pretrained(folder, options);
  try {
    const input_ids = new Tensor("int64", ids.map(BigInt), [1, ids.length]);
    const { logits } = await model({ input_ids, use_cache: false });
    return { logits: logits.data as Float32Array, weights: model.memory().weights };
  } finally {
    await model.dispose();
  }
}

/** The largest difference, relative to the largest magnitude. */
function difference(got: ArrayLike<number>, wanted: ArrayLike<number>): number {
  expect(got.length).toBe(wanted.length);
  let [worst, largest] = [0, 0];
  for (let i = 0; i < got.length; i++) {
    worst = Math.max(worst, Math.abs(got[i]! - wanted[i]!));
    largest = Math.max(largest, Math.abs(wanted[i]!));
  }
  return worst / largest;
}

let expected: Expected;
let folder: string;
beforeAll(async () => {
  expected = JSON.parse(await readFile(join(SAVED, "expected.json"), "utf8")) as Expected;
  folder = await mkdtemp(join(tmpdir(), "lapidary-quantization-"));
});
afterAll(() => rm(folder, { recursive: true }));

const bnb = (quant_type: "nf4" | "fp4", double_quant = false): PretrainedOptions => ({
  quantization_config: new BitsAndBytesConfig({
    load_in_4bit: true,
    bnb_4bit_quant_type: quant_type,
    bnb_4bit_use_double_quant: double_quant,
  }),
});

describe("quantising on load", () => {
  it.each([
    ["nf4", bnb("nf4")],
    ["nf4", { dtype: "nf4" as const }],
    ["nf4", { dtype: { decoder: "nf4" as const } }],
    ["nf4_double", bnb("nf4", true)],
    ["fp4", bnb("fp4")],
  ])("gives bitsandbytes' logits in %s", async (name, options) => {
    const { logits, weights } = await run(FLOAT, options);
    expect(difference(logits, expected.logits[name]!)).toBeLessThan(1e-5);
    // The test could not tell a format from another otherwise.
    expect(difference(logits, expected.logits.float!)).toBeGreaterThan(1e-2);
    const label = {
      nf4: "nf4 (block 64)",
      nf4_double: "nf4 (block 64, double quant)",
      fp4: "fp4 (block 64)",
    };
    // 10,368 elements of linear layers in 4 bits, a scale for each block of a matrix.
    const matrices = [1152, 576, 576, 1152, 864, 864, 864];
    const scales = 4 * matrices.reduce((sum, elements) => sum + Math.ceil(elements / 64), 0);
    expect(weights[label[name as keyof typeof label]]).toBe(2 * (6048 / 2 + scales));
    expect(weights.float32).toBeGreaterThan(4 * 80 * 24);
  });

  it("leaves the modules of llm_int8_skip_modules alone", async () => {
    const all = (skip: string[]) => ({
      quantization_config: new BitsAndBytesConfig({ load_in_4bit: true, llm_int8_skip_modules: skip }),
    });
    const { weights } = await run(FLOAT, all(["mlp", "model.layers.1", "[kv]_proj", "v_proj"]));
    // All of layer 0 but v_proj: patterns match from the start of a name, or are its end.
    const scales = 4 * (18 + 9 + 18 + 3 * 14);
    expect(weights["fp4 (block 64)"]).toBe((1152 + 576 + 1152 + 3 * 864) / 2 + scales);
    await expect(run(FLOAT, all(["("]))).rejects.toThrow(InputError);
  });

  it("refuses what would be ignored or can't be had", async () => {
    const load = (options: object) => run(FLOAT, options as PretrainedOptions);
    const int8 = { quantization_config: new BitsAndBytesConfig({ load_in_8bit: true }) };
    await expect(load(int8)).rejects.toThrow(/LLM\.int8\(\).*dtype: "q8"/);
    await expect(load({ quantization_config: new BitsAndBytesConfig() })).rejects.toThrow(/asks for nothing/);
    await expect(load({ ...bnb("nf4"), dtype: "q4" })).rejects.toThrow(/both quantise/);
    await expect(load({ dtype: { embed_tokens: "nf4" } })).rejects.toThrow(/linear layers/);
    await expect(load({ quantization_config: "nf4" })).rejects.toThrow(InputError);
    await expect(load({ quantization_config: { load_in_4bits: true } })).rejects.toThrow(
      /did you mean "load_in_4bit"/,
    );
    expect(() => new BitsAndBytesConfig({ load_in_4bit: true, load_in_8bit: true })).toThrow(/exclude/);
    expect(() => new BitsAndBytesConfig({ bnb_4bit_quant_type: "int4" as "nf4" })).toThrow(/one of nf4, fp4/);
    expect(() => new BitsAndBytesConfig({ bnb_4bit_compute_dtype: "int8" })).toThrow(InputError);
    expect(() => new TorchAoConfig("float8_weight_only" as "int4_weight_only")).toThrow(/not supported/);
    expect(() => new TorchAoConfig("int4_weight_only", { group_size: 48 })).toThrow(/32, 64, 128, 256/);
    expect(() => new TorchAoConfig("int8_weight_only", { group_size: 32 })).toThrow(/unknown option/);
  });
});

describe("checkpoints saved by bitsandbytes", () => {
  it.each(["nf4", "nf4_double", "fp4"])("run in %s as they are", async (name) => {
    const { logits, weights } = await run(join(SAVED, name));
    expect(difference(logits, expected.logits[name]!)).toBeLessThan(1e-5);
    expect(Object.keys(weights).some((storage) => storage.startsWith(name.slice(0, 3)))).toBe(true);
    const unpacked = await run(join(SAVED, name), { dtype: "fp32" });
    expect(difference(unpacked.logits, expected.logits[name]!)).toBeLessThan(1e-5);
    expect(Object.keys(unpacked.weights)).toEqual(["float32"]);
  });

  it("run in int8 with the same weights", async () => {
    const exact = await run(join(SAVED, "int8"), { dtype: "fp32" });
    expect(difference(exact.logits, expected.logits.int8!)).toBeLessThan(1e-5);
    const { logits, weights } = await run(join(SAVED, "int8"));
    expect(weights["int8 (row)"]).toBeGreaterThan(0);
    // Inputs are rounded to 8 bits, which shows in so small a model.
    expect(difference(logits, expected.logits.int8!)).toBeLessThan(0.1);
  });

  it("can be quantised in another way, but not twice by option", async () => {
    const { logits } = await run(join(SAVED, "nf4"), { dtype: "q8" });
    expect(difference(logits, expected.logits.nf4!)).toBeLessThan(0.1);
    const same = await run(join(SAVED, "nf4"), bnb("nf4"));
    expect(difference(same.logits, expected.logits.nf4!)).toBeLessThan(1e-5);
    await expect(run(join(SAVED, "nf4"), bnb("fp4"))).rejects.toThrow(/already quantised \(nf4/);
  });

  it("name the method that can't be read", async () => {
    const config = JSON.parse(await readFile(join(FLOAT, "config.json"), "utf8")) as object;
    const saved = (quant_method: string): object => ({ ...config, quantization_config: { quant_method } });
    await expect(run(FLOAT, { config: saved("gptq") })).rejects.toThrow(ConfigError);
    await expect(run(FLOAT, { config: saved("torchao") })).rejects.toThrow(/new TorchAoConfig/);
  });
});

/** A checkpoint like `source` with its linear layers changed. */
async function rewrite(source: string, name: string, change: (weight: Tensor) => Tensor): Promise<string> {
  const checkpoint = await openCheckpoint(source);
  const tensors = await Promise.all(
    [...checkpoint.tensors.values()].map(async (slice) => {
      const bytes = new Uint8Array(await checkpoint.read(slice));
      const values = new Tensor("float32", new Float32Array(bytes.buffer), slice.shape);
      const data = (slice.name.endsWith("_proj.weight") ? change(values) : values).data as Float32Array;
      return {
        name: slice.name,
        dtype: "F32" as const,
        shape: slice.shape,
        data: [new Uint8Array(data.buffer, data.byteOffset, data.byteLength)],
      };
    }),
  );
  await checkpoint.close();
  const target = join(folder, name);
  await mkdir(target);
  await writeSafetensors(join(target, "model.safetensors"), tensors);
  await copyFile(join(source, "config.json"), join(target, "config.json"));
  return target;
}

/** A LoRA adapter of rank 2 on the first query projection. */
async function writeAdapter(): Promise<string> {
  const path = join(folder, "adapter");
  await mkdir(path);
  const matrix = (name: string, shape: [number, number]) => ({
    name: `base_model.model.model.layers.0.self_attn.q_proj.lora_${name}.weight`,
    dtype: "F32" as const,
    shape,
    data: [new Uint8Array(Float32Array.from({ length: shape[0] * shape[1] }, (_, i) => Math.sin(i)).buffer)],
  });
  await writeSafetensors(join(path, "adapter_model.safetensors"), [
    matrix("A", [2, 24]),
    matrix("B", [48, 2]),
  ]);
  const config = { peft_type: "LORA", r: 2, lora_alpha: 2, target_modules: ["q_proj"] };
  await writeFile(join(path, "adapter_config.json"), JSON.stringify({ ...config, layers_to_transform: [0] }));
  return path;
}

it("an adapter goes onto what saved 4-bit weights stand for, merged or beside them", async () => {
  const path = await writeAdapter();
  const restored = await rewrite(FLOAT, "restored", (weight) => {
    const { packed, quant_state } = quantize_4bit(weight, { quant_type: "nf4", compress_statistics: true });
    return dequantize_4bit(packed, quant_state);
  });
  const wanted = await run(restored, { adapter: path });
  expect(difference(wanted.logits, expected.logits.nf4_double!)).toBeGreaterThan(1e-2);
  for (const merge of [true, false]) {
    const { logits, weights } = await run(join(SAVED, "nf4_double"), { adapter: { path, merge } });
    expect(difference(logits, wanted.logits)).toBeLessThan(1e-5);
    expect(weights["nf4 (block 64, double quant)"]).toBeGreaterThan(0);
  }
});

describe("against a float32 run of the dequantised weights", () => {
  const GOLDEN = join(FIXTURES, "golden-h16/gemma3_text/model");
  const ids = [2, 17, 230, 41, 99, 305, 6, 77, 18, 250, 31, 12, 401];

  it("nf4 agrees for a model of seven layers", async () => {
    const options = { quant_type: "nf4", compress_statistics: true } as const;
    const changed = await rewrite(GOLDEN, "nf4", (weight) => {
      const { packed, quant_state } = quantize_4bit(weight, options);
      return dequantize_4bit(packed, quant_state);
    });
    const reference = await run(changed, { dtype: "fp32" }, ids);
    const { logits } = await run(GOLDEN, bnb("nf4", true), ids);
    expect(difference(logits, reference.logits)).toBeLessThan(1e-5);
  });

  it("int4 agrees where groups fill the rows, and other layers stay as they are", async () => {
    // Rows of 32 only: those of o_proj; q_proj, k_proj, v_proj, gate and up have 20, down has 28.
    const quantise = (weight: Tensor): Tensor =>
      weight.dims[1]! % 32 === 0 ? dequantize_int4(quantize_int4(weight, { group_size: 32 })) : weight;
    const changed = await rewrite(GOLDEN, "int4", quantise);
    const reference = await run(changed, { dtype: "fp32" }, ids);
    const quantization_config = new TorchAoConfig("int4_weight_only", { group_size: 32 });
    const { logits, weights } = await run(GOLDEN, { quantization_config }, ids);
    expect(difference(logits, reference.logits)).toBeLessThan(1e-5);
    expect(weights["int4 (group 32)"]).toBe(7 * (20 * 16 + 2 * 20 * 4));
    const exact = await run(GOLDEN, { dtype: "fp32" }, ids);
    expect(difference(logits, exact.logits)).toBeGreaterThan(1e-3);
  });

  it("int8 differs by the rounding of inputs", async () => {
    const quantization_config = new TorchAoConfig("int8_weight_only");
    const { logits, weights } = await run(GOLDEN, { quantization_config }, ids);
    const exact = await run(GOLDEN, { dtype: "fp32" }, ids);
    expect(difference(logits, exact.logits)).toBeLessThan(0.15);
    expect(weights["int8 (row)"]).toBeGreaterThan(0);
  });
});
