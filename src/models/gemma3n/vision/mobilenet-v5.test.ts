import { readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { EncoderPart } from "../../../api/encoder-part.ts";
import { openCheckpoint } from "../../../checkpoints/open.ts";
import { withPointwiseMatrices } from "../../../checkpoints/pointwise.ts";
import { ConfigError } from "../../../errors.ts";
import { float32, RunValues } from "../../../generation/decoder-model.ts";
import { transpose } from "../../../graph/ops/shape.ts";
import { loadEngine } from "../../../runtime/engine.ts";
import type { JsonObject } from "../../config-reader.ts";
import { Gemma3nVisionConfig } from "../vision-config.ts";
import { Gemma3nVisionTower } from "./tower.ts";

/** Written by tools/oracle/make_vision_towers.py. */
const FOLDER = resolve(import.meta.dirname, "../../../../test/fixtures/vision-towers");

interface Recorded {
  readonly model_args: JsonObject & { readonly block_args: readonly (readonly JsonObject[])[] };
  readonly strings: readonly (readonly string[])[];
  readonly maps: number;
}

const TOWERS = JSON.parse(readFileSync(join(FOLDER, "towers.json"), "utf8")) as Record<string, Recorded>;

let packs: string;
beforeAll(async () => {
  packs = await mkdtemp(join(tmpdir(), "lapidary-towers-"));
});
afterAll(() => rm(packs, { recursive: true }));

describe.each(Object.entries(TOWERS))("the tower %s", (name, { model_args, strings, maps }) => {
  it.each(["objects", "strings"])("gives timm's feature maps, with blocks as %s", async (spelling) => {
    const block_args = spelling === "strings" ? strings : model_args.block_args;
    const config = new Gemma3nVisionConfig({ model_args: { ...model_args, block_args } });
    const recorded = await readFloats(join(FOLDER, `${name}.safetensors`));
    const got = await runTower(config, join(FOLDER, `${name}.safetensors`), recorded.get("pixel_values")!);
    const names = [...Array.from({ length: maps }, (_, i) => `map.${i}`), "fused"];
    expect(new Set(got.keys())).toEqual(new Set(names));
    for (const output of names) {
      const [a, b] = [got.get(output)!, recorded.get(output)!];
      expect(a.dims, output).toEqual(b.dims);
      expect(worst(a.data, b.data), output).toBeLessThan(1e-4);
    }
  });
});

describe("the tower in 8 bits", () => {
  it("stays near", async () => {
    const path = join(FOLDER, "odd.safetensors");
    const config = new Gemma3nVisionConfig({ model_args: TOWERS.odd!.model_args });
    const recorded = await readFloats(path);
    const got = await runTower(config, path, recorded.get("pixel_values")!, "q8");
    const [a, b] = [got.get("fused")!.data, recorded.get("fused")!.data];
    const error = a.reduce((sum, value, i) => sum + (value - b[i]!) ** 2, 0);
    const total = b.reduce((sum, value) => sum + value ** 2, 0);
    expect(error).toBeGreaterThan(0);
    expect(Math.sqrt(error / total)).toBeLessThan(0.2);
  });
});

describe("Gemma3nVisionConfig", () => {
  it("has timm's architecture where nothing else is said", () => {
    const { tower, hidden_size } = new Gemma3nVisionConfig({});
    expect(tower.stages.map((stage) => stage.length)).toEqual([3, 5, 37, 39]);
    expect(tower.stages[2]![9]).toEqual({
      block_type: "mqa",
      out_chs: 640,
      stride: 1,
      noskip: false,
      dw_kernel_size: 3,
      num_heads: 12,
      key_dim: 64,
      value_dim: 64,
      kv_stride: 2,
    });
    expect([hidden_size, tower.stem_size, tower.msfa_output_resolution]).toEqual([2048, 64, [16, 16]]);
    expect([tower.msfa_indices, tower.pad_type]).toEqual([[3, 4], "same"]);
  });

  it.each([
    [{ architecture: "resnet50" }, /resnet50.*not supported/],
    [{ hidden_size: 1024 }, /2048 channels, not 1024/],
    [{ model_args: { se_layer: "eca" } }, /model_args.se_layer.*not supported/],
    [{ model_args: { block_args: [["ir_r1_k3_s2_e1_c8"]] } }, /block_args.0.0.*er, uir, mqa/],
    [{ model_args: { block_args: [["uir_r1_a0_k0_s2_e1_c8"]] } }, /cannot have a stride/],
    [{ model_args: { block_args: [["er_r1_k3_s1_e1_c8"]] } }, /begin with a block of stride 2/],
    [{ model_args: { block_args: [["er_r1_k3_s2_e1_c8_se0.25"]] } }, /"se0.25" is no option/],
    [
      { model_args: { block_args: [[{ block_type: "er", stride: 2, out_chs: 8, se_ratio: 0.25 }]] } },
      /se_ratio/,
    ],
    [{ model_args: { block_args: [] } }, /block_args.*list of stages/],
    [{ model_args: { msfa_indices: [-9] } }, /msfa_indices.*from -5 to 4/],
    [{ model_args: { pad_type: "reflect" } }, /pad_type/],
  ])("refuses %j", (config, message) => {
    expect(() => new Gemma3nVisionConfig(config)).toThrow(ConfigError);
    expect(() => new Gemma3nVisionConfig(config)).toThrow(message);
  });
});

interface Floats {
  readonly dims: readonly number[];
  readonly data: Float32Array;
}

async function runTower(
  config: Gemma3nVisionConfig,
  path: string,
  pixels: Floats,
  dtype: "fp32" | "q8" = "fp32",
): Promise<Map<string, Floats>> {
  const part = new EncoderPart(new Gemma3nVisionTower(config), {
    path,
    reader: { checkpoint: withPointwiseMatrices },
    weights: { dtype, tablesDtype: dtype },
    pack: { folder: packs },
    engine: { engine: await loadEngine({}), device: "cpu" },
  });
  const got = new Map<string, Floats>();
  const session = await part.session("test", ({ timm_model }, graph) => {
    const { fused, maps } = timm_model.forward(graph.input("pixel_values", "float32", pixels.dims));
    for (const [name, map] of [
      ["fused", fused] as const,
      ...maps.map((map, i) => [`map.${i}`, map] as const),
    ]) {
      const planes = transpose(map, [0, 3, 1, 2]);
      const dims = planes.shape as readonly number[];
      got.set(name, { dims, data: new Float32Array(dims.reduce((size, dim) => size * dim, 1)) });
      graph.output(name, planes);
    }
  });
  const run = new RunValues(session);
  run.feed("pixel_values", float32(pixels.data, pixels.dims));
  for (const [name, { dims, data }] of got) run.fetch(name, float32(data, dims));
  await run.run(undefined);
  await part.dispose();
  return got;
}

async function readFloats(path: string): Promise<Map<string, Floats>> {
  const checkpoint = await openCheckpoint(path);
  const found = new Map<string, Floats>();
  for (const [name, slice] of checkpoint.tensors) {
    if (slice.dtype !== "F32") continue;
    const bytes = Uint8Array.from(await checkpoint.read(slice));
    found.set(name, { dims: slice.shape, data: new Float32Array(bytes.buffer) });
  }
  await checkpoint.close();
  return found;
}

function worst(a: Float32Array, b: Float32Array): number {
  return a.reduce((most, value, i) => Math.max(most, Math.abs(value - b[i]!)), 0);
}
