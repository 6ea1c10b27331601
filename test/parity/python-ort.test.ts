import path from "node:path";
import { describe, expect, it } from "vitest";
import { RopeTables } from "../../src/generation/rope-tables.ts";
import { Gemma3ForCausalLM, Tensor } from "../../src/index.ts";
import { alignHeadDim } from "../../src/nn/head-dim.ts";
import { loadEngine } from "../../src/runtime/engine.ts";
import type { ValueInfo } from "../../src/runtime/session.ts";
import { findPythonOrt, type PythonTensor, runPythonOrt } from "../../tools/python-ort.ts";

/** The graphs are plain ONNX: Python's onnxruntime runs the same bytes, with the same weight files, to equal outputs. */
const FIXTURES = path.join(import.meta.dirname, "../fixtures");
const IDS = [2, 17, 300, 5, 41, 99, 230, 8, 77, 401, 12, 13];
/** Positions in the cache beyond the prompt: the graph must not depend on the buffer's size. */
const SPARE = 5;

const found = findPythonOrt();

describe("the exported graph in Python's onnxruntime", () => {
  if (found === undefined) {
    it.skip("needs a Python with onnxruntime and numpy (LAPIDARY_PYTHON names another than python3)", () =>
      undefined);
    return;
  }
  for (const name of ["golden-h12", "golden-h16", "golden-h20"]) {
    it(`gives the logits that lapidary gives: ${name}`, async () => {
      const model = await Gemma3ForCausalLM.from_pretrained(path.join(FIXTURES, name, "gemma3_text/model"), {
        dtype: "fp32",
      });
      try {
        const input_ids = new Tensor("int64", BigInt64Array.from(IDS, BigInt), [1, IDS.length]);
        const { logits } = await model({ input_ids });
        const graph = model.exportOnnx();
        const inputs = await promptInputs(graph, model.config);
        const got = (await runPythonOrt(found.python, { ...graph, inputs, outputs: ["logits"] })).logits!;
        expect(got.dims).toEqual([IDS.length, logits.dims[2]]);
        expect(largestDifference(got.data as Float32Array, logits.data as Float32Array)).toBeLessThan(1e-5);
      } finally {
        await model.dispose();
      }
    });
  }
});

interface RopeConfig {
  readonly head_dim: number;
  readonly rope_parameters: Readonly<
    Record<string, { readonly rope_theta: number; readonly factor: number }>
  >;
}

/** What the graph takes for a prompt on an empty cache, by the names and shapes that it declares. */
async function promptInputs(
  graph: { model: Uint8Array; externalDataFolder: string },
  config: RopeConfig,
): Promise<Record<string, PythonTensor>> {
  const session = await (await loadEngine()).createSession({ ...graph, threads: 1 });
  try {
    return Object.fromEntries(session.inputs.map((info) => [info.name, promptInput(info, config)]));
  } finally {
    await session.dispose();
  }
}

function promptInput({ name, dims }: ValueInfo, config: RopeConfig): PythonTensor {
  const length = IDS.length;
  const [kind, part] = name.split(".") as [string, string?];
  const positions = BigInt64Array.from(IDS, (_, i) => BigInt(i));
  if (name === "input_ids")
    return { type: "int64", dims: [1, length], data: BigInt64Array.from(IDS, BigInt) };
  if (name === "position_ids") return { type: "int64", dims: [1, length], data: positions };
  if (name === "logits_positions") return { type: "int64", dims: [length], data: positions };
  if (part === "seqlens_k") return { type: "int32", dims: [1], data: Int32Array.of(length - 1) };
  if (part === "total_sequence_length") return { type: "int32", dims: [], data: Int32Array.of(length) };
  if (kind === "past_key_values") {
    const shape = dims!.map((dim, axis) => (axis === 0 ? 1 : typeof dim === "number" ? dim : length + SPARE));
    return { type: "float32", dims: shape, data: new Float32Array(shape.reduce((a, b) => a * b, 1)) };
  }
  const { head_dim } = config;
  const { rope_theta, factor } = config.rope_parameters[kind]!;
  const tables = new RopeTables({ rope_theta, factor, head_dim, aligned_head_dim: alignHeadDim(head_dim) });
  tables.ensure(length);
  const data = part === "cos" ? tables.cos : tables.sin;
  return { type: "float32", dims: [tables.positions, tables.width], data };
}

function largestDifference(a: Float32Array, b: Float32Array): number {
  expect(a.length).toBe(b.length);
  return a.reduce((largest, value, i) => Math.max(largest, Math.abs(value - b[i]!)), 0);
}
