import { mkdir, mkdtemp, readdir, rm, stat, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { writeTinyModel } from "../../test/support/tiny-model.ts";
import { writeSafetensors } from "../checkpoints/write-safetensors.ts";
import { Tensor } from "../tensor.ts";
import { Gemma3ForCausalLM } from "./gemma3.ts";

/** Large enough to be prepared, with matrices on both sides of the size from which the engine aligns what it saves. */
const CONFIG = {
  model_type: "gemma3_text",
  vocab_size: 60_000,
  hidden_size: 512,
  intermediate_size: 2048,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 1,
  head_dim: 64,
  sliding_window: 16,
  layer_types: ["sliding_attention", "full_attention"],
};
const PROMPT = new Tensor("int64", [2, 17, 230, 41, 99, 305, 6, 77].map(BigInt), [1, 8]);

describe.skipIf(process.platform === "win32")("prepared sessions", () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "lapidary-prepared-"));
    vi.stubEnv("LAPIDARY_CACHE", join(folder, "cache"));
    await writeTinyModel(folder, CONFIG);
  });
  afterAll(async () => {
    vi.unstubAllEnvs();
    await rm(folder, { recursive: true });
  });

  async function logits(options: object, inputs: object = {}): Promise<Float32Array> {
    const model = await Gemma3ForCausalLM.from_pretrained(folder, { dtype: "q8", ...options });
    const { logits: result } = await model({ input_ids: PROMPT, logits_to_keep: 1, ...inputs });
    await model.dispose();
    return result.data as Float32Array;
  }

  it("give the same numbers as the weights themselves, from the first start on", async () => {
    const plain = await logits({ engine: "node" });
    const packs = join(folder, "cache", "packs");
    const [pack] = await readdir(packs);
    const before = (await stat(join(packs, pack!))).size;
    expect(await logits({})).toEqual(plain);
    const graph = (await readdir(packs)).find((name) => name.endsWith(".onnx"));
    expect(graph).toBeDefined();
    const after = (await stat(join(packs, pack!))).size;
    expect(after).toBeGreaterThan(before + 32 * 2 ** 20);
    expect(await logits({})).toEqual(plain);
    expect((await stat(join(packs, pack!))).size).toBe(after);
    // A damaged graph is dropped, and the session made from the weights.
    await truncate(join(packs, graph!), 100);
    expect(await logits({})).toEqual(plain);
    expect((await readdir(packs)).filter((name) => name.includes(".tmp"))).toEqual([]);
  });

  it("are lent to other graphs of the same weights", async () => {
    const packs = join(folder, "cache", "packs");
    await rm(packs, { recursive: true });
    const plain = await logits({});
    const adapter = { path: await writeAdapter(), merge: false };
    expect(await logits({ adapter })).toEqual(plain);
    // A graph under masks.
    const masked = { output_attentions: true };
    const weighted = await logits({}, masked);
    expect(await logits({ engine: "node" }, masked)).toEqual(weighted);
    const names = await readdir(packs);
    expect(names.filter((name) => name.endsWith(".onnx"))).toHaveLength(1);
    // Without the prepared weights, which come last, the numbers are others.
    const pack = join(packs, names.find((name) => name.endsWith(".safetensors"))!);
    const { size } = await stat(pack);
    await truncate(pack, size - 32 * 2 ** 20);
    await truncate(pack, size);
    expect(await logits({ adapter })).not.toEqual(plain);
    expect(await logits({}, masked)).not.toEqual(weighted);
  });

  /** One whose B is zero, as before training. */
  async function writeAdapter(): Promise<string> {
    const path = join(folder, "adapter");
    await mkdir(path);
    await writeFile(
      join(path, "adapter_config.json"),
      JSON.stringify({ peft_type: "LORA", r: 2, target_modules: ["layers.0.self_attn.q_proj"] }),
    );
    const tensor = (part: string, shape: [number, number], value: number) => ({
      name: `base_model.model.model.layers.0.self_attn.q_proj.lora_${part}.weight`,
      dtype: "F32" as const,
      shape,
      data: [new Uint8Array(new Float32Array(shape[0] * shape[1]).fill(value).buffer)],
    });
    await writeSafetensors(join(path, "adapter_model.safetensors"), [
      tensor("A", [2, CONFIG.hidden_size], 1),
      tensor("B", [CONFIG.num_attention_heads * CONFIG.head_dim, 2], 0),
    ]);
    return path;
  }
});
