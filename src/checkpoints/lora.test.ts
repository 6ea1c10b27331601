import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type LoraAdapter, openLora } from "./lora.ts";
import { mergeLora } from "./lora-merge.ts";
import { openSafetensors } from "./safetensors.ts";
import { writeSafetensors } from "./write-safetensors.ts";

let folder: string;
let made = 0;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "lapidary-lora-"));
});
afterAll(() => rm(folder, { recursive: true }));

/** Two layers of [3, 2], and a table. */
const BASE = {
  parameters: new Map<string, readonly number[]>([
    ["model.layers.0.up.weight", [3, 2]],
    ["model.layers.1.up.weight", [3, 2]],
    ["model.embed_tokens.weight", [4, 2]],
  ]),
  tables: new Set(["model.embed_tokens.weight"]),
};
const PLAIN = { peft_type: "LORA", r: 1, lora_alpha: 2, target_modules: ["up"] };

type Tensors = Readonly<Record<string, readonly [shape: readonly number[], values: readonly number[]]>>;

async function write(path: string, tensors: Tensors): Promise<void> {
  await writeSafetensors(
    path,
    Object.entries(tensors).map(([name, [shape, values]]) => {
      return { name, dtype: "F32", shape, data: [new Uint8Array(Float32Array.from(values).buffer)] };
    }),
  );
}

/** A ⊗ B of one layer, of rank 1 unless told. */
function layer(path: string, A: readonly number[] = [1, 10], B: readonly number[] = [1, 2, 3]): Tensors {
  const name = `base_model.model.${path}`;
  return {
    [`${name}.lora_A.weight`]: [[A.length / 2, 2], A],
    [`${name}.lora_B.weight`]: [[3, B.length / 3], B],
  };
}

const BOTH: Tensors = { ...layer("model.layers.0.up"), ...layer("model.layers.1.up") };

async function adapter(config: object, tensors: Tensors = BOTH): Promise<LoraAdapter> {
  const path = await mkdtemp(join(folder, `${made++}-`));
  await writeFile(join(path, "adapter_config.json"), JSON.stringify(config));
  await write(join(path, "adapter_model.safetensors"), tensors);
  return openLora(path, BASE);
}

async function scales(config: object, tensors: Tensors = BOTH): Promise<Record<string, number>> {
  const { layers, checkpoint } = await adapter(config, tensors);
  await checkpoint.close();
  return Object.fromEntries([...layers].map(([path, { scale }]) => [path, scale]));
}

describe("openLora", () => {
  it("scales by alpha and rank, by pattern where one fits", async () => {
    expect(await scales(PLAIN)).toEqual({ "model.layers.0.up": 2, "model.layers.1.up": 2 });
    const patterns = {
      ...PLAIN,
      use_rslora: true,
      rank_pattern: { "layers.1.up": 4 },
      alpha_pattern: { "layers\\.[02]\\.up": 3, up: 6 },
    };
    const wide = layer("model.layers.1.up", [1, 2, 3, 4, 5, 6, 7, 8], new Array(12).fill(1));
    expect(await scales(patterns, { ...layer("model.layers.0.up"), ...wide })).toEqual({
      "model.layers.0.up": 3,
      "model.layers.1.up": 3,
    });
  });

  it("knows the layers of models whose text part has another name", async () => {
    const tensors = layer("model.language_model.layers.0.up");
    expect(await scales({ ...PLAIN, layers_to_transform: 0 }, tensors)).toEqual({ "model.layers.0.up": 2 });
    expect(await scales({ ...PLAIN, target_modules: undefined }, layer("layers.1.up"))).toEqual({
      "model.layers.1.up": 2,
    });
  });

  it.each([
    ["another kind of adapter", { peft_type: "IA3" }, /peft_type: only "LORA" is supported, not "IA3"/],
    ["biases", { bias: "all" }, /bias: only "none"/],
    ["what changes the numbers in ways unknown here", { trainable_token_indices: [1] }, /trainable_token/],
    ["a changed base", { init_lora_weights: "pissa_niter_4" }, /changed the base weights too/],
    ["a rank that is none", { r: 0 }, /r: expected a positive integer, got 0/],
    ["a rank other than the file's", { r: 2 }, /lora_A.*\[1, 2\]; rank 2 .* ask for \[2, 2\]/],
    ["a scale that is none", { lora_alpha: "2" }, /lora_alpha: expected a number, got "2"/],
    ["modules that are not targeted", { target_modules: ["down"] }, /layers\.0\.up, which target_modules/],
    ["excluded modules", { exclude_modules: ".*0\\.up" }, /layers\.0\.up, which target_modules does not/],
    ["layers that are not transformed", { layers_to_transform: [1] }, /holds model\.layers\.0\.up/],
    ["a pattern that is none", { target_modules: "(up" }, /Invalid regular expression/],
    ["a pattern without end", { target_modules: "((.+)+)+,|.*up" }, /take too long/],
  ])("refuses %s", async (_, change, message) => {
    await expect(adapter({ ...PLAIN, ...change })).rejects.toThrow(message);
  });

  it.each([
    [
      "unknown modules",
      layer("model.layers.7.up"),
      /layers\.7\.up\.lora_A\.weight: the model has no such module/,
    ],
    [
      "half a pair",
      {
        "base_model.model.model.layers.0.up.lora_A.weight": [
          [1, 2],
          [1, 2],
        ],
      },
      /lacks lora_B/,
    ],
    ["missing layers", layer("model.layers.0.up"), /names model\.layers\.1\.up, which .* lacks/],
    ["other sizes", layer("model.layers.0.up", [1, 2], [1, 2, 3, 4, 5, 6]), /lora_B.*\[3, 2\]; .* \[3, 1\]/],
    ["unknown weights", { "base_model.model.lm_head.weight": [[1], [1]] }, /no such weight of its own/],
  ] as [string, Tensors, RegExp][])("refuses %s", async (name, tensors, message) => {
    const all = name === "other sizes" ? { ...BOTH, ...tensors } : tensors;
    const config = name === "half a pair" ? { ...PLAIN, layers_to_transform: 0 } : PLAIN;
    await expect(adapter(config, all)).rejects.toThrow(message);
  });

  it("asks for the files that PEFT writes", async () => {
    const path = await mkdtemp(join(folder, "empty-"));
    await expect(openLora(path, BASE)).rejects.toThrow(/adapter_config\.json: no such file/);
    await writeFile(join(path, "adapter_config.json"), JSON.stringify(PLAIN));
    await writeFile(join(path, "adapter_model.bin"), "");
    await expect(openLora(path, BASE)).rejects.toThrow(/adapter_model\.bin: a pickle can't be read/);
  });
});

describe("mergeLora", () => {
  it("adds the products to whatever part is read", async () => {
    const file = join(folder, "base.safetensors");
    await write(file, {
      "model.layers.0.up.weight": [
        [3, 2],
        [100, 200, 300, 400, 500, 600],
      ],
      "model.layers.1.up.weight": [
        [3, 2],
        [0, 0, 0, 0, 0, 0],
      ],
      "model.embed_tokens.weight": [
        [4, 2],
        [1, 1, 1, 1, 1, 1, 1, 1],
      ],
    });
    const base = await openSafetensors(file);
    const lora = await adapter(
      { ...PLAIN, target_modules: ["layers.0.up", "embed_tokens"] },
      {
        ...layer("model.layers.0.up"),
        "base_model.model.model.embed_tokens.lora_embedding_A": [
          [1, 4],
          [1, 2, 3, 4],
        ],
        "base_model.model.model.embed_tokens.lora_embedding_B": [
          [2, 1],
          [10, 100],
        ],
      },
    );
    const merged = mergeLora(base, lora);
    const read = async (key: string, start?: number, end?: number): Promise<number[]> => {
      const slice = merged.tensors.get(key)!;
      const bytes = await merged.read(slice, start, end);
      return [...new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4)];
    };
    expect(await read("model.layers.0.up.weight")).toEqual([102, 220, 304, 440, 506, 660]);
    expect(await read("model.layers.0.up.weight", 4, 16)).toEqual([220, 304, 440]);
    expect(await read("model.layers.1.up.weight")).toEqual([0, 0, 0, 0, 0, 0]);
    expect(await read("model.embed_tokens.weight")).toEqual([21, 201, 41, 401, 61, 601, 81, 801]);
    expect(merged.tensors.get("model.layers.0.up.weight")?.computed?.from).toBe("F32");
    await Promise.all([base.close(), lora.checkpoint.close()]);
  });
});
