import { join, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { type GgufTensor, ggufBytes, temporaryFolder, write } from "../../test/checkpoints/files.ts";
import { tinyGemma3n } from "../../test/checkpoints/tiny-gemma3n-gguf.ts";
import { float32ToFloat16 } from "../quantization/half.ts";
import { AutoModelForCausalLM } from "./auto.ts";
import type { PretrainedOptions } from "./options.ts";

const NESTED = resolve(import.meta.dirname, "../../test/fixtures/gemma3n/nested");
const INPUT = { input_ids: [[2, 40, 7, 33, 21, 60, 12, 9, 51, 18]] };

describe("a GGUF file of gemma3n", () => {
  const folder = temporaryFolder();
  beforeAll(() => void vi.stubEnv("LAPIDARY_CACHE", join(folder, "cache")));
  afterAll(() => void vi.unstubAllEnvs());

  async function run(path: string, options: PretrainedOptions = {}) {
    const model = await AutoModelForCausalLM.from_pretrained(path, options);
    const logits = (await model(INPUT)).logits.data as Float32Array;
    const { config } = model;
    const { on_disk } = model.memory();
    await model.dispose();
    return { logits, config, on_disk };
  }

  it("gives the numbers and the configuration of the safetensors; the table stays in it", async () => {
    const file = write(join(folder, "model.gguf"), ggufBytes(await tinyGemma3n()));
    const [safetensors, gguf] = [await run(NESTED), await run(file)];
    expect(largest(gguf.logits, safetensors.logits)).toBeLessThan(1e-4);
    const { architectures: _, ...config } = safetensors.config;
    expect(gguf.config).toMatchObject(config);
    expect(gguf.on_disk).toEqual({ float32: 64 * 36 * 4 });
    const slice = { skip_layers: [4], intermediate_size: 32 };
    const sliced = [await run(NESTED, { slice }), await run(file, { slice })];
    expect(largest(sliced[1]!.logits, sliced[0]!.logits)).toBeLessThan(1e-4);
  });

  it("may have the table in half precision, which is read as it lies whatever the dtype", async () => {
    const content = await tinyGemma3n();
    const tensors = content.tensors!.map((tensor) =>
      tensor.name === "per_layer_token_embd.weight" ? inHalf(tensor) : tensor,
    );
    const file = write(join(folder, "half.gguf"), ggufBytes({ ...content, tensors }));
    const whole = (await run(NESTED)).logits;
    for (const dtype of ["auto", "fp32"] as const) {
      const { logits, on_disk } = await run(file, { dtype });
      expect(on_disk).toEqual({ float16: 64 * 36 * 2 });
      expect(largest(logits, whole)).toBeLessThan(0.05);
      expect(largest(logits, whole)).toBeGreaterThan(0);
    }
  });

  it("is refused where its lists do not fit its layers", async () => {
    for (const key of ["gemma3n.activation_sparsity_scale", "gemma3n.feed_forward_length"]) {
      const content = await tinyGemma3n({ [key]: { array: [{ f32: 1 }] } });
      const file = write(join(folder, "wrong.gguf"), ggufBytes(content));
      await expect(AutoModelForCausalLM.from_pretrained(file)).rejects.toThrow(`GGUF ${key}`);
    }
  });
});

function inHalf(tensor: GgufTensor): GgufTensor {
  const bytes = tensor.data!;
  const values = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
  const halves = new Uint16Array(values.length);
  float32ToFloat16(values, halves);
  return { ...tensor, type: 1, data: new Uint8Array(halves.buffer) };
}

function largest(a: Float32Array, b: Float32Array): number {
  return a.reduce((worst, value, i) => Math.max(worst, Math.abs(value - b[i]!)), 0);
}
