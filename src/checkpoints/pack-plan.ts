import { CheckpointError, InputError } from "../errors.ts";
import type { FloatDtype } from "../graph/weights.ts";
import { BLOCK_GEOMETRY } from "../quantization/gguf-blocks.ts";
import type { NBitsLayout } from "../quantization/matmul-nbits.ts";
import { layoutOf } from "../quantization/repack.ts";
import type { Checkpoint, CheckpointDtype, TensorSlice } from "./checkpoint.ts";
import type { LinearTarget } from "./pack-linear.ts";

/**
 * How weights are stored while a model runs. "auto" keeps a GGUF file's own precision and makes half-precision
 * numbers float32; "fp16" and "bf16" are storage, arithmetic stays float32; "q8" and "q4" quantise on load.
 */
export type StorageDtype = "auto" | "fp32" | "fp16" | "bf16" | "q8" | "q4";

/** "nf4" is bitsandbytes' format for linear layers; everything else is stored as with "auto". */
export type WeightDtype = StorageDtype | "nf4";

export const WEIGHT_DTYPES: readonly WeightDtype[] = ["auto", "fp32", "fp16", "bf16", "q8", "q4", "nf4"];

/** What HF's quantisation configurations ask for; each linear layer's weights decide the precision. */
export type LinearQuantization = {
  [Kind in LinearTarget as Kind["kind"]]: Omit<Kind, "precision">;
}[LinearTarget["kind"]];

/** What a model asks of a checkpoint. */
export interface WeightRequest {
  /** Shape by checkpoint key, in the order in which they should lie in a pack. */
  readonly parameters: ReadonlyMap<string, readonly number[]>;
  /** Keys of layers that take the same input and can run as one if their layouts agree. */
  readonly groups: readonly (readonly string[])[];
  /** Keys of embedding tables: read by row, often shared with the output layer. */
  readonly tables: ReadonlySet<string>;
  /** Keys of tables that are only looked up: plain numbers stay where they lie, in their own precision. */
  readonly byRow: ReadonlySet<string>;
  /** Keys of layers that "q4" keeps in 8 bits. */
  readonly sensitive: ReadonlySet<string>;
  /** Keys of weights that are never quantised: convolutions, tables that are added whole. */
  readonly plain: ReadonlySet<string>;
  /** How layers that always get many rows round their inputs to 8 bits: "q8" stores them for another kernel. */
  readonly manyRows?: ReadonlyMap<string, "row" | "columns" | "none">;
  /** Storage of the layers, and of tables. */
  readonly dtype: StorageDtype;
  readonly tablesDtype: StorageDtype;
  /** Linear layers that are stored in another way, by key. */
  readonly linears?: ReadonlyMap<string, LinearQuantization>;
}

export type Target =
  /** Small: read into memory as float32. */
  | { readonly kind: "inline" }
  /** Used where it lies. */
  | { readonly kind: "direct"; readonly dtype: FloatDtype }
  | { readonly kind: "float"; readonly dtype: FloatDtype }
  | ({ readonly kind: "nbits" } & NBitsLayout)
  /** For many rows of inputs, so many of which share a scale. */
  | { readonly kind: "int8"; readonly columns: number }
  | { readonly kind: "linear"; readonly form: LinearTarget };

export interface PlannedWeight {
  readonly key: string;
  readonly shape: readonly number[];
  readonly slice: TensorSlice;
  readonly target: Target;
  /** Only single rows are read. */
  readonly byRow: boolean;
}

/** Few enough that an outlier spoils the rounding of not too many, and many enough for the kernel. */
const SHARED_COLUMNS = 384;
const Q8: NBitsLayout = { bits: 8, block_size: 32 };
const Q4: NBitsLayout = { bits: 4, block_size: 32 };
const FLOATS: Partial<Record<CheckpointDtype, FloatDtype>> = {
  F32: "float32",
  F16: "float16",
  BF16: "bfloat16",
};
const STORAGE: Partial<Record<StorageDtype, FloatDtype>> = {
  fp32: "float32",
  fp16: "float16",
  bf16: "bfloat16",
};

/** Decides for every parameter where its numbers will come from. Keys that the checkpoint lacks are left out. */
export function planWeights(checkpoint: Checkpoint, request: WeightRequest): PlannedWeight[] {
  const planned = new Map<string, PlannedWeight>();
  for (const [key, shape] of request.parameters) {
    const slice = checkpoint.tensors.get(key);
    if (slice === undefined) continue;
    if (slice.shape.join() !== shape.join()) {
      const found = `[${slice.shape.join(", ")}], the configuration asks for [${shape.join(", ")}]`;
      throw new CheckpointError(`its shape is ${found}`, { file: slice.file, tensor: key });
    }
    const target = chooseTarget(slice, shape, request);
    planned.set(key, { key, shape, slice, target, byRow: request.byRow.has(key) });
  }
  for (const group of request.groups) harmonise(group, planned);
  return [...planned.values()];
}

function chooseTarget(slice: TensorSlice, shape: readonly number[], request: WeightRequest): Target {
  if (shape.length < 2) return { kind: "inline" };
  if (request.byRow.has(slice.name)) return asStored(slice, shape);
  const form = linearForm(slice, shape, request);
  if (form !== undefined) return { kind: "linear", form };
  if (request.plain.has(slice.name)) return asFloat(slice, STORAGE[request.dtype] ?? "float32");
  const table = request.tables.has(slice.name);
  const dtype = table ? request.tablesDtype : request.dtype;
  if (dtype === "auto") return keepPrecision(slice, shape, table);
  const storage = STORAGE[dtype];
  if (storage !== undefined) return asFloat(slice, storage);
  const rounding = dtype === "q8" && !table ? request.manyRows?.get(slice.name) : undefined;
  if (rounding === "none") return asFloat(slice, "float32");
  if (rounding !== undefined)
    return { kind: "int8", columns: rounding === "columns" ? SHARED_COLUMNS : shape[1]! };
  // Four bits cost the output layer far more than the others, so that the shared table keeps eight.
  const fourBits = dtype === "q4" && !table && !request.sensitive.has(slice.name);
  return quantised(fourBits ? Q4 : Q8, shape, table);
}

/** The form of a linear layer that HF's configuration, or the checkpoint itself, wants quantised. */
function linearForm(
  slice: TensorSlice,
  shape: readonly number[],
  request: WeightRequest,
): LinearTarget | undefined {
  if (request.tables.has(slice.name)) return undefined;
  const wanted = request.linears?.get(slice.name);
  const saved = savedForm(slice);
  if (wanted === undefined) return request.dtype === "auto" ? saved : undefined;
  if (saved !== undefined) {
    const [a, b] = [saved, wanted];
    if (a.kind === "bnb4" && b.kind === "bnb4" && a.quant_type === b.quant_type) return saved;
    throw new InputError(
      `the checkpoint is already quantised (${formName(saved)}); load it without quantization_config`,
      { option: "quantization_config" },
    );
  }
  // torchao leaves layers alone whose rows are no whole number of groups.
  if (wanted.kind === "int4" && shape[1]! % wanted.group_size !== 0) return undefined;
  return {
    ...wanted,
    precision: STORAGE[request.dtype] ?? FLOATS[slice.computed?.from ?? slice.dtype] ?? "float32",
  };
}

function savedForm({ encoding }: TensorSlice): LinearTarget | undefined {
  if (encoding === undefined) return undefined;
  const precision = "float32";
  if (encoding.kind === "int8") return { kind: "int8", precision };
  const { quant_type, block_size, nested } = encoding;
  return { kind: "bnb4", quant_type, block_size, double_quant: nested !== undefined, precision };
}

/** A name for reports: "nf4 (block 64, double quant)". */
export function formName(form: LinearTarget): string {
  if (form.kind === "int8") return "int8 (row)";
  if (form.kind === "int4") return `int4 (group ${form.group_size})`;
  return `${form.quant_type} (block ${form.block_size}${form.double_quant ? ", double quant" : ""})`;
}

function keepPrecision(slice: TensorSlice, shape: readonly number[], table: boolean): Target {
  const layout = layoutOf(slice.computed?.from ?? slice.dtype);
  return layout === undefined ? asFloat(slice, "float32") : quantised(layout, shape, table);
}

/** Rows are read one by one, so that nothing is gained by other numbers than the file's. */
function asStored(slice: TensorSlice, shape: readonly number[]): Target {
  const dtype = FLOATS[slice.computed?.from ?? slice.dtype];
  return dtype === undefined ? keepPrecision(slice, shape, true) : asFloat(slice, dtype);
}

function asFloat(slice: TensorSlice, dtype: FloatDtype): Target {
  if (slice.storedPlusOne === true)
    throw new CheckpointError("a matrix with 1 added is not supported", {
      file: slice.file,
      tensor: slice.name,
    });
  return { kind: FLOATS[slice.dtype] === dtype && liesReady(slice) ? "direct" : "float", dtype };
}

/** Whether the file holds the very numbers, in PyTorch's order, in one piece, at an address that suits them. */
function liesReady({ transposed, pieces, computed, encoding, offset, dtype }: TensorSlice): boolean {
  if (transposed === true || pieces !== undefined) return false;
  if (computed !== undefined || encoding !== undefined) return false;
  return offset % BLOCK_GEOMETRY[dtype].blockBytes === 0;
}

/** Rows of a table must be whole blocks for the kernel that reads them. */
function quantised({ bits, block_size }: NBitsLayout, shape: readonly number[], table: boolean): Target {
  if (table && shape[1]! % block_size !== 0) return { kind: "float", dtype: "float32" };
  return { kind: "nbits", bits, block_size };
}

/** Gives quantised layers of one input one layout: the smaller block, into which the larger one goes exactly. */
function harmonise(group: readonly string[], planned: Map<string, PlannedWeight>): void {
  const members = group.map((key) => planned.get(key)).filter((weight) => weight !== undefined);
  const targets = members.map((weight) => weight.target);
  if (!targets.every((target) => target.kind === "nbits")) return;
  const bits = Math.max(...targets.map((target) => target.bits)) as 4 | 8;
  const block_size = Math.min(...targets.map((target) => target.block_size)) as NBitsLayout["block_size"];
  if (targets.some((target) => target.bits !== bits)) return;
  for (const weight of members)
    planned.set(weight.key, { ...weight, target: { kind: "nbits", bits, block_size } });
}

/** Checks a dtype option. */
export function checkWeightDtype(value: unknown, option = "dtype"): WeightDtype {
  if (WEIGHT_DTYPES.includes(value as WeightDtype)) return value as WeightDtype;
  throw new InputError(
    `${option}: unknown dtype ${JSON.stringify(value)}; expected one of ${WEIGHT_DTYPES.join(", ")}`,
    { option },
  );
}
