/**
 * The pack: the weights of one checkpoint in the layout that the engine maps, kept in the cache so that only the
 * first start converts. It is a safetensors file: codes as U8 `<key>#codes`, scales as F32 `<key>#scales` and, where
 * there are, `<key>#zeros`, plain numbers under their key, scales before codes so that every tensor is aligned.
 */
import { createHash } from "node:crypto";
import { mkdir, stat, unlink } from "node:fs/promises";
import { join } from "node:path";
import { CheckpointError } from "../errors.ts";
import {
  type FileRange,
  fileRanges,
  type InlineWeight,
  type Weight,
  type WeightSource,
} from "../graph/weights.ts";
import { blocksPerRow, rowBytes } from "../quantization/matmul-nbits.ts";
import type { Checkpoint, TensorSlice } from "./checkpoint.ts";
import { withLock } from "./file-lock.ts";
import { kernelBlock, type LinearTarget, linearEntries, nbitsLayout } from "./pack-linear.ts";
import { formName, type PlannedWeight, planWeights, type Target, type WeightRequest } from "./pack-plan.ts";
import { packedNames, readInline, writePack } from "./pack-write.ts";
import { openSafetensors } from "./safetensors.ts";

/** Raise it when the layout of packs or the arithmetic that makes them changes. */
const FORMAT_VERSION = 2;

export interface PackOptions {
  /** Folder of packs; created when needed. */
  readonly folder: string;
  readonly signal?: AbortSignal;
  /** Told how much of the conversion is done, in bytes of the pack. */
  readonly onProgress?: (done: number, total: number) => void;
}

export interface LoadedWeights {
  readonly weights: WeightSource;
  /** The pack's file, or undefined where the checkpoint is used as it lies. */
  readonly pack: string | undefined;
  /** Bytes by way of storage ("q8b32", "float32", …), for reports; without those that stay on disk. */
  readonly bytesByStorage: ReadonlyMap<string, number>;
  /** The same of tables that stay in their file and are read by row. */
  readonly bytesOnDisk: ReadonlyMap<string, number>;
}

/** Finds every weight that `request` asks for, converting those that the engine can't use where they lie. */
export async function loadWeights(
  checkpoint: Checkpoint,
  request: WeightRequest,
  options: PackOptions,
): Promise<LoadedWeights> {
  const plan = planWeights(checkpoint, request);
  const converted = plan.some(({ target }) => target.kind !== "inline" && target.kind !== "direct");
  const pack = converted ? await findOrWritePack(checkpoint, plan, options) : undefined;
  const weights = new Map<string, Weight>();
  const inline = await readInline(pack?.checkpoint ?? checkpoint, plan);
  for (const weight of plan) weights.set(weight.key, locate(weight, inline, pack?.checkpoint));
  await pack?.checkpoint.close();
  return {
    weights,
    pack: pack?.path,
    bytesByStorage: countBytes(
      plan.filter(({ byRow }) => !byRow),
      weights,
    ),
    bytesOnDisk: countBytes(
      plan.filter(({ byRow }) => byRow),
      weights,
    ),
  };
}

async function findOrWritePack(
  checkpoint: Checkpoint,
  plan: readonly PlannedWeight[],
  options: PackOptions,
): Promise<{ path: string; checkpoint: Checkpoint }> {
  const path = join(options.folder, `${await packKey(checkpoint, plan)}.safetensors`);
  const found = await openPack(path, plan);
  if (found !== undefined) return { path, checkpoint: found };
  await mkdir(options.folder, { recursive: true });
  return withLock(
    `${path}.lock`,
    async () => {
      const meanwhile = await openPack(path, plan);
      if (meanwhile !== undefined) return { path, checkpoint: meanwhile };
      await writePack(path, checkpoint, plan, options);
      const written = await openPack(path, plan);
      if (written === undefined)
        throw new CheckpointError("the pack just written can't be read back", { file: path });
      return { path, checkpoint: written };
    },
    options.signal,
  );
}

/** An existing pack, if it is whole; a damaged one is removed and made again. */
async function openPack(path: string, plan: readonly PlannedWeight[]): Promise<Checkpoint | undefined> {
  const exists = await stat(path).catch(() => undefined);
  if (exists === undefined) return undefined;
  try {
    const pack = await openSafetensors(path);
    if (plan.flatMap(packedNames).every((name) => pack.tensors.has(name))) return pack;
    await pack.close();
  } catch (error) {
    if (!(error instanceof CheckpointError)) throw error;
  }
  await unlink(path).catch(() => undefined);
  return undefined;
}

/** Changes whenever the source files or what is made of them do. */
async function packKey(checkpoint: Checkpoint, plan: readonly PlannedWeight[]): Promise<string> {
  const hash = createHash("sha256").update(`lapidary pack ${FORMAT_VERSION}\n`);
  for (const file of checkpoint.files) {
    const { size, mtimeMs } = await stat(file);
    hash.update(`${file}\n${size}\n${mtimeMs}\n`);
  }
  for (const { key, shape, slice, target } of plan) {
    const { offset, dtype, computed, pieces } = slice;
    hash.update(JSON.stringify([key, shape, offset, pieces, dtype, target]));
    if (computed !== undefined) hash.update(computed.identity);
  }
  return hash.digest("hex").slice(0, 40);
}

function locate(
  weight: PlannedWeight,
  inline: ReadonlyMap<string, InlineWeight>,
  pack: Checkpoint | undefined,
): Weight {
  const { key, shape, slice, target, byRow } = weight;
  if (target.kind === "inline") return inline.get(key)!;
  if (target.kind === "direct" || target.kind === "float") {
    const range = rangeOf(target.kind === "direct" ? slice : packed(pack, key));
    return { kind: "float", dtype: target.dtype, shape, range, byRow };
  }
  if (target.kind === "linear") return locateLinear(key, shape as [number, number], target.form, pack);
  if (target.kind === "int8") return locateInt8(key, shape as [number, number], target.columns, pack);
  const { bits, block_size } = target;
  const [codes, scales] = [rangeOf(packed(pack, `${key}#codes`)), rangeOf(packed(pack, `${key}#scales`))];
  const [N, K] = shape as [number, number];
  if (codes.length !== N * rowBytes(K, target) || scales.length !== 4 * N * blocksPerRow(K, target)) {
    throw new CheckpointError("codes or scales have another length than the layout", {
      file: codes.file,
      tensor: key,
    });
  }
  return { kind: "nbits", bits, block_size, shape, codes, scales, byRow };
}

function locateInt8(
  key: string,
  shape: readonly [number, number],
  columns: number,
  pack: Checkpoint | undefined,
): Weight {
  const [codes, scales] = [rangeOf(packed(pack, `${key}#codes`)), rangeOf(packed(pack, `${key}#scales`))];
  if (codes.length !== shape[0] * shape[1] || scales.length !== 4 * shape[0])
    throw new CheckpointError("codes or scales have another length than the weight", {
      file: codes.file,
      tensor: key,
    });
  return { kind: "int8", shape, codes, scales, columns };
}

function locateLinear(
  key: string,
  shape: readonly [number, number],
  form: LinearTarget,
  pack: Checkpoint | undefined,
): Weight {
  const ranges = linearEntries(form, shape).map(({ role, shape: dims }) => {
    const range = rangeOf(packed(pack, `${key}#${role}`));
    const elements = dims.reduce((product, dim) => product * dim, 1);
    if (range.length === (role === "codes" ? elements : 4 * elements)) return [role, range] as const;
    throw new CheckpointError(`the length of its ${role} is not that of ${formName(form)}`, {
      file: range.file,
      tensor: key,
    });
  });
  const { codes, scales, zeros } = Object.fromEntries(ranges) as Record<string, FileRange>;
  const places = { shape, codes: codes!, scales: scales! };
  if (form.kind === "bnb4")
    return { kind: "bnb4", quant_type: form.quant_type, block_size: kernelBlock(form.block_size), ...places };
  const layout = nbitsLayout(form);
  return { kind: "nbits", ...layout, ...places, ...(zeros === undefined ? {} : { zeros }) };
}

function packed(pack: Checkpoint | undefined, name: string): TensorSlice {
  const slice = pack?.tensors.get(name);
  if (slice === undefined) throw new CheckpointError("missing in the pack", { tensor: name });
  return slice;
}

function rangeOf({ file, offset, length }: TensorSlice): FileRange {
  return { file, offset, length };
}

function countBytes(plan: readonly PlannedWeight[], weights: WeightSource): Map<string, number> {
  const counts = new Map<string, number>();
  for (const { key, target } of plan) {
    const weight = weights.get(key)!;
    const bytes =
      weight.kind === "inline"
        ? weight.data.byteLength
        : fileRanges(weight).reduce((sum, range) => sum + range.length, 0);
    const name = storageName(target);
    counts.set(name, (counts.get(name) ?? 0) + bytes);
  }
  return counts;
}

function storageName(target: Target): string {
  if (target.kind === "inline") return "float32";
  if (target.kind === "nbits") return `q${target.bits} (block ${target.block_size})`;
  if (target.kind === "int8") return "int8 (many rows)";
  return target.kind === "linear" ? formName(target.form) : target.dtype;
}
