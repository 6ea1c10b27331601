import { existsSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import path from "node:path";
import { readStoredTensors, type StoredTensor } from "./safetensors.ts";

/** One test of a case, as cases.json has it. */
export interface ParityTest {
  readonly name: string;
  readonly checkpoint: string | null;
  readonly class: string;
  readonly call: string;
  readonly arguments: Readonly<Record<string, unknown>>;
  readonly inputs: Readonly<Record<string, string>>;
  readonly expected: Readonly<Record<string, string>>;
  readonly expected_values?: Readonly<Record<string, unknown>>;
  readonly tolerance: Tolerance;
  readonly compare_where?: string;
  readonly notes?: string;
}

/** A float passes when |got - expected| <= atol + rtol * |expected|. */
export interface Tolerance {
  readonly atol: number;
  readonly rtol: number;
}

/** A case folder: its tests and their tensors. */
export interface ParityCase {
  readonly name: string;
  readonly folder: string;
  readonly tests: readonly ParityTest[];
  readonly tensors: ReadonlyMap<string, StoredTensor>;
}

/** Folders of the cases in `directory`: itself when it is a case, else its subfolders that are, by name. */
export async function findCases(directory: string, names: readonly string[] = []): Promise<string[]> {
  if (existsSync(path.join(directory, "cases.json"))) {
    const own = path.basename(path.resolve(directory));
    const other = names.find((name) => name !== own);
    if (other !== undefined) throw new Error(`${directory} is the case ${own}; it has no case ${other}`);
    return [directory];
  }
  const entries = await readdir(directory, { withFileTypes: true });
  const found = entries
    .map((entry) => entry.name)
    .filter((name) => existsSync(path.join(directory, name, "cases.json")))
    .sort();
  const missing = names.find((name) => !found.includes(name));
  if (missing !== undefined)
    throw new Error(`${directory} has no case ${missing}; it has ${found.join(", ") || "none"}`);
  const chosen = names.length === 0 ? found : found.filter((name) => names.includes(name));
  if (chosen.length === 0) throw new Error(`${directory} holds no cases.json and no folder with one`);
  return chosen.map((name) => path.join(directory, name));
}

/** Reads a case folder. */
export async function readCase(folder: string): Promise<ParityCase> {
  const document = JSON.parse(await readFile(path.join(folder, "cases.json"), "utf8")) as {
    case: string;
    tests: ParityTest[];
  };
  const stored = path.join(folder, "io.safetensors");
  const tensors = existsSync(stored) ? await readStoredTensors(stored) : new Map<string, StoredTensor>();
  return { name: document.case, folder, tests: document.tests, tensors };
}

/** The stored tensor that a test names. */
export function storedTensor(source: ParityCase, name: string): StoredTensor {
  const tensor = source.tensors.get(name);
  if (tensor === undefined) throw new Error(`${source.name}: io.safetensors has no tensor ${name}`);
  return tensor;
}
