import type { Checkpoint } from "../checkpoints/checkpoint.ts";
import { type AdaptedBase, type LoraAdapter, openLora, readFloat32 } from "../checkpoints/lora.ts";
import { mergeLora, transpose } from "../checkpoints/lora-merge.ts";
import { resolveModel } from "../checkpoints/resolve.ts";
import { CheckpointError, HubError, InputError, rejectUnknownOptions } from "../errors.ts";
import { Embedding, Linear } from "../nn/linear.ts";
import { type Module, namedModules } from "../nn/module.ts";
import type { AdaptableLayer, AdapterWeights, LowRank } from "./adapters.ts";
import type { PretrainedOptions } from "./options.ts";

/** The option `adapter` of `from_pretrained`, in full. */
export interface AdapterOption {
  /** A folder as PEFT saves it, or a repository of the hub. */
  readonly path: string;
  /** Whether the weights take the adapter in when they are packed (default), or it stays beside them. */
  readonly merge?: boolean;
  /** Its name beside the model; "default" unless told. */
  readonly adapter_name?: string;
  readonly revision?: string;
  readonly subfolder?: string;
}

/** Where an adapter that is loaded later may come from. */
export type LoadAdapterOptions = Pick<
  PretrainedOptions,
  "revision" | "subfolder" | "cache_dir" | "local_files_only" | "signal"
>;

type AdapterSource = {
  readonly [Key in keyof LoadAdapterOptions | "progress_callback"]?: PretrainedOptions[Key] | undefined;
};

export const LOAD_ADAPTER_OPTIONS: readonly (keyof LoadAdapterOptions)[] = [
  "revision",
  "subfolder",
  "cache_dir",
  "local_files_only",
  "signal",
];

export const DEFAULT_ADAPTER = "default";

/** Checks the option; a path alone means a merged adapter. */
function adapterOption(value: PretrainedOptions["adapter"], call: string): AdapterOption | undefined {
  if (value === undefined || value === null) return undefined;
  const given: AdapterOption = typeof value === "string" ? { path: value } : value;
  if (typeof given !== "object" || typeof given.path !== "string" || given.path.trim() === "")
    throw new InputError(`${call}: adapter: expected a path, or { path, merge }`, { option: "adapter" });
  rejectUnknownOptions(given, ["path", "merge", "adapter_name", "revision", "subfolder"], `${call}: adapter`);
  return given;
}

/** The adapter that `from_pretrained` was asked for. */
export interface FoundAdapter {
  readonly lora: LoraAdapter;
  readonly merge: boolean;
  readonly name: string;
}

/** Finds the adapter of the option `adapter`; undefined where there is none. close() its checkpoint afterwards. */
export async function findAdapterOption(
  options: PretrainedOptions,
  base: AdaptedBase,
  call: string,
): Promise<FoundAdapter | undefined> {
  const wanted = adapterOption(options.adapter, call);
  if (wanted === undefined) return undefined;
  const { path, merge = true, adapter_name: name = DEFAULT_ADAPTER, revision, subfolder } = wanted;
  return { lora: await findAdapter(path, base, { ...options, revision, subfolder }), merge, name };
}

/** Finds an adapter, fetching it if it must, and checks it against the base. close() its checkpoint afterwards. */
export async function findAdapter(
  path: string,
  base: AdaptedBase,
  options: AdapterSource,
): Promise<LoraAdapter> {
  const { revision, subfolder, cache_dir, local_files_only, progress_callback, signal } = options;
  const resolved = await resolveModel(path, {
    revision,
    subfolder,
    cache_dir,
    local_files_only,
    progress_callback: progress_callback ?? undefined,
    signal,
  }).catch((cause: unknown) => {
    throw cause instanceof HubError ? new HubError(`adapter: ${cause.message}`, { cause }) : cause;
  });
  return openLora(resolved.path, base);
}

/** `checkpoint` with the adapter merged into it, where that gives what PEFT gives. */
export function mergeAdapter(checkpoint: Checkpoint, adapter: LoraAdapter, module: Module): Checkpoint {
  const tables = [...namedModules(module)].flatMap(([path, part]) =>
    part instanceof Embedding ? [`${path}.weight`] : [],
  );
  const changed = [...adapter.saved.keys(), ...[...adapter.layers.values()].map(({ key }) => key)];
  const table = changed.find((key) => tables.includes(key));
  if (table === undefined || !sharesTable(module)) return mergeLora(checkpoint, adapter);
  throw new CheckpointError(
    `changes ${table}, which is the model's output layer too: merged it would change both; keep it beside the model, with adapter: { path, merge: false }`,
    { file: adapter.folder },
  );
}

/** A language model without an output layer of its own uses its embedding table. */
function sharesTable(module: Module): boolean {
  return "lm_head" in module && module.lm_head === undefined;
}

/** The layers of a model that an adapter can stand beside, by path. */
export function adaptableLayers(module: Module): Map<string, AdaptableLayer> {
  const found = new Map<string, AdaptableLayer>();
  for (const [path, part] of namedModules(module))
    if (part instanceof Linear || part instanceof Embedding) found.set(path, part);
  return found;
}

/** An adapter's matrices, read into memory. Throws for what can't stand beside a model. */
export async function readAdapter(
  adapter: LoraAdapter,
  layers: ReadonlyMap<string, AdaptableLayer>,
): Promise<AdapterWeights> {
  const [saved] = adapter.saved.keys();
  if (saved !== undefined) throw onlyMerged(adapter, `replaces ${saved}`);
  const weights = new Map<string, LowRank>();
  for (const [path, { A, B, magnitude, table, rank, scale }] of adapter.layers) {
    if (magnitude !== undefined) throw onlyMerged(adapter, "uses DoRA");
    if (!layers.has(path)) throw onlyMerged(adapter, `changes ${path}, which runs apart from the decoder`);
    const read = await readFloat32(adapter.checkpoint, A);
    const scaled = (await readFloat32(adapter.checkpoint, B)).map((value) => value * scale);
    weights.set(path, { table, rank, A: table ? transpose(read, rank) : read, B: scaled });
  }
  return weights;
}

function onlyMerged(adapter: LoraAdapter, reason: string): CheckpointError {
  return new CheckpointError(`${reason}: it can only be merged, with adapter: { path, merge: true }`, {
    file: adapter.folder,
  });
}
