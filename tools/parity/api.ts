import type { Numbers } from "./compare.ts";
import type { StoredTensor } from "./safetensors.ts";

/** The exports of the package under test. Only names of its public contract are looked up in it. */
export type PublicApi = Readonly<Record<string, unknown>>;

/** Thrown where the package (or this runner) has no way to make a call yet: the test is then neither pass nor fail. */
export class NotYet extends Error {
  override readonly name = "NotYet";
}

/** Something that can be called, awaited and asked for fields: models, tokenizers, processors. */
export interface Loaded {
  (...args: unknown[]): unknown;
  readonly [key: string]: unknown;
}

/** An exported class or function; NotYet when it is missing. */
export function exported(api: PublicApi, name: string): Loaded {
  const value = api[name];
  if (typeof value !== "function") throw new NotYet(`${name} is not exported`);
  return value as Loaded;
}

/** `name.from_pretrained(folder, options)`. */
export async function fromPretrained(
  api: PublicApi,
  name: string,
  folder: string,
  options: Readonly<Record<string, unknown>>,
): Promise<Loaded> {
  const owner = exported(api, name);
  return (await method(owner, "from_pretrained", name)(folder, options)) as Loaded;
}

/** The method of an object, bound; NotYet when it is missing. */
export function method(owner: unknown, name: string, ownerName: string): (...args: unknown[]) => unknown {
  const value = (owner as Record<string, unknown> | null | undefined)?.[name];
  if (typeof value !== "function") throw new NotYet(`${ownerName} has no ${name}`);
  return (...args) => (value as (...args: unknown[]) => unknown).apply(owner, args);
}

/** Constructs an exported class. */
export function construct(api: PublicApi, name: string, ...args: unknown[]): unknown {
  const Constructor = exported(api, name) as unknown as new (...args: unknown[]) => unknown;
  return new Constructor(...args);
}

/** A stored tensor as the package's Tensor: floats as float32, everything else as int64. */
export function toTensor(api: PublicApi, stored: StoredTensor): unknown {
  const shape = [...stored.shape];
  return stored.kind === "float"
    ? construct(api, "Tensor", "float32", Float32Array.from(stored.data), shape)
    : construct(api, "Tensor", "int64", BigInt64Array.from(stored.data, BigInt), shape);
}

/** Whole numbers as an int64 Tensor. */
export function idTensor(api: PublicApi, rows: readonly (readonly number[])[]): unknown {
  const data = BigInt64Array.from(rows.flat(), BigInt);
  return construct(api, "Tensor", "int64", data, [rows.length, rows[0]?.length ?? 0]);
}

/** A Tensor's numbers. Half-precision outputs are widened by the Tensor itself. */
export function toNumbers(value: unknown, name: string): Numbers {
  const tensor = value as {
    type?: string;
    dims?: readonly number[];
    data?: ArrayLike<number | bigint>;
    to?: (type: string) => unknown;
  } | null;
  if (tensor === null || typeof tensor !== "object" || !Array.isArray(tensor.dims) || !tensor.data) {
    throw new Error(
      `${name}: got ${value === undefined ? "nothing" : typeof value} where a Tensor was expected`,
    );
  }
  if (tensor.type === "float16" || tensor.type === "bfloat16") {
    return toNumbers(method(tensor, "to", "Tensor")("float32"), name);
  }
  return { shape: tensor.dims as readonly number[], data: tensor.data };
}

/** A Tensor's or nested array's numbers as nested arrays of JS numbers. */
export function toNested(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(toNested);
  if (typeof value === "bigint") return Number(value);
  if (typeof value === "object" && value !== null && "dims" in value) {
    return toNested(method(value, "tolist", "Tensor")());
  }
  return value;
}

/** The field of a call's result. */
export function field(result: unknown, name: string): unknown {
  return (result as Record<string, unknown> | null | undefined)?.[name];
}
