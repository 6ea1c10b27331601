import { execFile, execFileSync } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { promisify } from "node:util";

/** The TypeScript side of run_python_ort.py: hands it a graph and inputs, and reads what comes back. */

const SCRIPT = path.join(import.meta.dirname, "run_python_ort.py");

const ARRAYS = {
  float32: Float32Array,
  float64: Float64Array,
  int64: BigInt64Array,
  int32: Int32Array,
  uint8: Uint8Array,
  int8: Int8Array,
  bool: Uint8Array,
  float16: Uint16Array,
  bfloat16: Uint16Array,
} as const satisfies Record<PythonType, unknown>;

/** Element types that both sides know, by numpy's names. */
export type PythonType =
  | "float32"
  | "float64"
  | "int64"
  | "int32"
  | "uint8"
  | "int8"
  | "bool"
  | "float16"
  | "bfloat16";

/** A tensor on its way to or from Python. Half-precision floats are raw bits, booleans 0 and 1. */
export interface PythonTensor {
  readonly type: PythonType;
  readonly dims: readonly number[];
  readonly data:
    | Float32Array
    | Float64Array
    | BigInt64Array
    | Int32Array
    | Int8Array
    | Uint8Array
    | Uint16Array;
}

/** What Python is to run. */
export interface PythonRun {
  /** The serialised ONNX model. */
  readonly model: Uint8Array;
  /** Folder that its external data locations are relative to. */
  readonly externalDataFolder?: string;
  readonly inputs: Readonly<Record<string, PythonTensor>>;
  /** All outputs where it is missing. */
  readonly outputs?: readonly string[];
  readonly config?: Readonly<Record<string, string>>;
  readonly threads?: number;
}

/** A Python that has onnxruntime (LAPIDARY_PYTHON, else python3 or python), with onnxruntime's version. */
export function findPythonOrt(): { readonly python: string; readonly version: string } | undefined {
  const chosen = process.env.LAPIDARY_PYTHON;
  for (const python of chosen === undefined ? ["python3", "python"] : [chosen]) {
    try {
      const version = execFileSync(python, [SCRIPT, "--check"], {
        encoding: "utf8",
        stdio: ["ignore", "pipe", "ignore"],
      });
      return { python, version: version.trim() };
    } catch {
      // not there, or without onnxruntime
    }
  }
  return undefined;
}

/** Runs a graph in Python and gives its outputs. */
export async function runPythonOrt(python: string, run: PythonRun): Promise<Record<string, PythonTensor>> {
  const folder = await mkdtemp(path.join(tmpdir(), "lapidary-python-"));
  try {
    const request = path.join(folder, "request.json");
    await writeFile(path.join(folder, "model.onnx"), run.model);
    const inputs: Record<string, object> = {};
    for (const [i, [name, { type, dims, data }]] of Object.entries(run.inputs).entries()) {
      const file = `input-${i}.bin`;
      await writeFile(path.join(folder, file), data);
      inputs[name] = { dtype: type, shape: dims, file };
    }
    const { externalDataFolder, config, threads, outputs } = run;
    await writeFile(
      request,
      JSON.stringify({
        model: "model.onnx",
        external_data_folder: externalDataFolder === undefined ? undefined : path.resolve(externalDataFolder),
        inputs,
        outputs,
        session_config: config,
        threads,
      }),
    );
    await promisify(execFile)(python, [SCRIPT, request, path.join(folder, "out")]);
    return await readOutputs(path.join(folder, "out"));
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function readOutputs(folder: string): Promise<Record<string, PythonTensor>> {
  const { outputs } = JSON.parse(await readFile(path.join(folder, "response.json"), "utf8")) as {
    outputs: Record<string, { dtype: PythonType; shape: number[]; file: string }>;
  };
  const tensors: Record<string, PythonTensor> = {};
  for (const [name, { dtype, shape, file }] of Object.entries(outputs)) {
    const bytes = new Uint8Array(await readFile(path.join(folder, file)));
    tensors[name] = { type: dtype, dims: shape, data: new ARRAYS[dtype](bytes.buffer) };
  }
  return tensors;
}
