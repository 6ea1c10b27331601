import { readFile, rm, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { env } from "../env.ts";
import { HubError } from "../errors.ts";
import { diskError } from "./disk.ts";
import { download, type ProgressCallback, progressOf } from "./download.ts";
import { withLock } from "./file-lock.ts";
import type { NetworkLimits } from "./http.ts";
import { HubApi, type Listing, type RemoteFile } from "./hub-api.ts";
import { type Linker, RepoCache } from "./hub-cache.ts";
import {
  type Choice,
  checkFileName,
  chooseFiles,
  EXPECTED_FILES,
  folderPrefix,
  shardsOf,
  type Wanted,
} from "./hub-files.ts";
import { inParallel } from "./parallel.ts";

/** A model of the hub, and how to get it. */
export interface HubRequest extends Wanted {
  /** `owner/name`. */
  id: string;
  /** Branch, tag or commit; `main` unless told. */
  revision?: string | undefined;
  /** The hub cache; env.cacheDir unless told. */
  cacheDir?: string | undefined;
  progress_callback?: ProgressCallback | undefined;
  signal?: AbortSignal | undefined;
  limits?: Readonly<NetworkLimits> | undefined;
  linker?: Linker | undefined;
}

/** A revision's files in the cache. */
export interface HubSnapshot {
  /** The model's folder, or its (first) .gguf file. */
  readonly path: string;
  readonly commit: string;
  readonly kind: Choice["kind"];
  /** False where the weights are there but it isn't known whether small files are missing. */
  readonly complete: boolean;
  /** Whether bytes came over the network for it. */
  readonly fetched: boolean;
}

const CONNECTIONS = 4;
/** For the rare server that tells no size. */
const MAX_SMALL_FILE = 512 * 2 ** 20;
const MAX_INDEX = 64 * 2 ** 20;

/** What the cache holds of a model, without any network. */
export async function cachedSnapshot(request: HubRequest): Promise<HubSnapshot | undefined> {
  const cache = cacheOf(request);
  const commit = await cache.commitOf(request.revision ?? "main");
  if (commit === undefined) return undefined;
  const names = await cache.files(commit);
  const choice = await usableChoice(cache, commit, names, request);
  if (choice === undefined) return undefined;
  const path = pathOf(cache, commit, choice, request);
  const complete = choice.kind === "gguf" || (await allKnown(cache, commit, names, request));
  return { path, commit, kind: choice.kind, complete, fetched: false };
}

/** Brings a model into the cache, as far as it is not there, and returns where it is. */
export async function fetchSnapshot(request: HubRequest): Promise<HubSnapshot> {
  const cache = cacheOf(request);
  try {
    return await bringIn(cache, request);
  } catch (error) {
    request.signal?.throwIfAborted();
    throw diskError(error, { label: request.id, target: cache.root });
  }
}

async function bringIn(cache: RepoCache, request: HubRequest): Promise<HubSnapshot> {
  const { id, revision = "main", signal, limits } = request;
  checkFileName(revision, "revision");
  const api = new HubApi(id, signal, limits);
  const listing = await api.list(revision);
  const choice = chooseFiles(listing.names, request, id);
  if (choice === undefined) throw noWeights(listing, request);
  const { commit } = listing;
  let fetched = false;
  const get = async (names: readonly string[]): Promise<void> => {
    for (const name of names) checkFileName(name, id);
    await inParallel(names, CONNECTIONS, signal, async (name, either) => {
      const file = await listing.facts(name);
      if (await fetchFile(file, commit, cache, api, { ...request, signal: either })) fetched = true;
    });
  };
  if (choice.kind === "gguf") await get(choice.files);
  else if (choice.kind === "small") await get(choice.small);
  else {
    const index = choice.sharded ? [choice.weights] : [];
    await get([...choice.small, ...index]);
    await get(choice.sharded ? await listedShards(cache, listing, choice.weights, id) : [choice.weights]);
  }
  const present = new Set(listing.names);
  for (const name of EXPECTED_FILES.map((file) => folderPrefix(request) + file)) {
    if (!present.has(name)) await cache.markMissing(commit, name);
  }
  // Last: an interrupted update leaves the revision that worked, and so does one without weights.
  if (choice.kind !== "small" || (await cache.commitOf(revision)) === undefined)
    await cache.writeRef(revision, commit);
  return { path: pathOf(cache, commit, choice, request), commit, kind: choice.kind, complete: true, fetched };
}

/** Fetches one file unless the cache has it; true where bytes had to come. */
async function fetchFile(
  file: RemoteFile,
  commit: string,
  cache: RepoCache,
  api: HubApi,
  request: HubRequest,
): Promise<boolean> {
  const { id, progress_callback: report, signal, limits } = request;
  const { name, etag, size, digest } = file;
  report?.({ status: "initiate", name: id, file: name });
  const target = cache.blob(etag);
  const fetched = await withLock(
    cache.lock(etag),
    async () => {
      if (await isWhole(target, size)) return false;
      const partial = await cache.partial(etag, signal);
      const shared = partial === `${target}.incomplete`;
      report?.({ status: "download", name: id, file: name });
      try {
        await download({
          url: api.address(commit, name),
          target,
          partial,
          label: `${id}: ${name}`,
          size,
          maxSize: /\.(safetensors|gguf|msgpack)$/i.test(name) ? undefined : MAX_SMALL_FILE,
          digest,
          authorization: api.authorization,
          signal,
          limits,
          onProgress: progressOf(report, id, name),
          onRefusal: api.refused,
        });
      } finally {
        if (!shared) await rm(partial, { force: true });
      }
      return true;
    },
    signal,
  );
  if (fetched || !(await isWhole(cache.pointer(commit, name), size))) await cache.link(commit, name, etag);
  report?.({ status: "done", name: id, file: name });
  return fetched;
}

async function isWhole(path: string, size: number | undefined): Promise<boolean> {
  const entry = await stat(path).catch(() => undefined);
  return entry?.isFile() === true && (size === undefined || entry.size === size);
}

async function listedShards(
  cache: RepoCache,
  listing: Listing,
  index: string,
  id: string,
): Promise<string[]> {
  const shards = await readShards(cache, listing.commit, index, id);
  const present = new Set(listing.names);
  const missing = shards.find((name) => !present.has(name));
  if (missing !== undefined)
    throw new HubError(`${id}: ${index} names ${missing}, which is not in the repository`);
  return shards;
}

async function readShards(cache: RepoCache, commit: string, index: string, id: string): Promise<string[]> {
  const path = cache.pointer(commit, index);
  if ((await stat(path)).size > MAX_INDEX)
    throw new HubError(`${id}: ${index} is larger than ${MAX_INDEX} bytes`);
  const shards = shardsOf(await readFile(path, "utf8"), `${id}: ${index}`);
  const folder = index.slice(0, index.lastIndexOf("/") + 1);
  return shards.map((shard) => folder + shard);
}

/** The model that a snapshot's files make up, if all of its weights are there. */
async function usableChoice(
  cache: RepoCache,
  commit: string,
  names: readonly string[],
  request: HubRequest,
): Promise<Choice | undefined> {
  try {
    const choice = chooseFiles(names, request, request.id);
    if (choice === undefined || !("weights" in choice)) return choice;
    const prefix = folderPrefix(request);
    const configs = [`${prefix}config.json`, `${prefix}adapter_config.json`];
    if (!choice.small.some((name) => configs.includes(name))) return undefined;
    if (!choice.sharded) return choice;
    const shards = await readShards(cache, commit, choice.weights, request.id);
    return shards.every((name) => names.includes(name)) ? choice : undefined;
  } catch (error) {
    if (error instanceof HubError) return undefined; // not here: the hub may have it
    throw error;
  }
}

async function allKnown(
  cache: RepoCache,
  commit: string,
  names: readonly string[],
  request: HubRequest,
): Promise<boolean> {
  const prefix = folderPrefix(request);
  const unknown = EXPECTED_FILES.map((file) => prefix + file).filter((file) => !names.includes(file));
  const marks = await Promise.all(unknown.map((file) => cache.isMarkedMissing(commit, file)));
  return marks.every((mark) => mark);
}

function pathOf(cache: RepoCache, commit: string, choice: Choice, wanted: Wanted): string {
  const [gguf] = choice.kind === "gguf" ? choice.files : [];
  if (gguf !== undefined) return cache.pointer(commit, gguf);
  return join(cache.snapshot(commit), dirname(`${folderPrefix(wanted)}config.json`));
}

function noWeights(listing: Listing, request: HubRequest): HubError {
  const prefix = folderPrefix(request);
  const names = listing.names.filter((name) => name.startsWith(prefix));
  const place = prefix === "" ? request.id : `${request.id}, folder ${prefix}`;
  const found =
    names.length === 0 ? "nothing" : names.slice(0, 12).join(", ") + (names.length > 12 ? ", …" : "");
  return new HubError(
    `${place}: no weights that lapidary reads (safetensors, GGUF or Flax); it holds ${found}`,
  );
}

function cacheOf(request: HubRequest): RepoCache {
  return new RepoCache(request.cacheDir ?? env.cacheDir, request.id, request.linker);
}
