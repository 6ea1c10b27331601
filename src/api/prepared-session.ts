/**
 * Sessions whose weights are mapped in the form that the engine computes with. ONNX Runtime re-lays quantised
 * weights when it makes a session, into memory of its own: more than the weights themselves. Saved once, behind the
 * weights in their pack, they are mapped instead: pages of a file, which the system can take back.
 */
import { createHash, randomUUID } from "node:crypto";
import { mkdir, readdir, readFile, rm } from "node:fs/promises";
import { cpus } from "node:os";
import { basename, dirname, join } from "node:path";
import { checkRoom } from "../checkpoints/disk.ts";
import { withLock } from "../checkpoints/file-lock.ts";
import { appendPrepared, type Stretch } from "../checkpoints/pack-append.ts";
import { replaceFile, writeAll } from "../checkpoints/write-safetensors.ts";
import { GraphError, HubError } from "../errors.ts";
import type { Initializer } from "../graph/graph.ts";
import { type ExternalEntries, mapExternalData, mapExternalTensors } from "../graph/onnx/external-data.ts";
import { relativeLocation } from "../graph/onnx/serialize.ts";
import type { Device, Engine, Session, SessionOptions } from "../runtime/session.ts";

const FORMAT_VERSION = 1;
const SAVED_MODEL = "saved.onnx";
const SAVED_DATA = "saved.data";

/** Session config keys of onnxruntime_session_options_config_keys.h. */
const SAVE = {
  "session.optimized_model_external_initializers_file_name": SAVED_DATA,
  "session.optimized_model_external_initializers_min_size_in_bytes": "4096",
  "session.save_external_prepacked_constant_initializers": "1",
};

/** A graph as it was traced, and the pack that its weights lie in. */
export interface PreparedSource {
  readonly pack: string;
  readonly initializers: ReadonlyMap<string, Initializer>;
  /** Bytes of the quantised weights. */
  readonly bytes: number;
  /** A graph of all weights of the pack, where this one has but a part of them: what the pack's preparation is made of. */
  readonly whole?: () => {
    readonly model: Uint8Array;
    readonly initializers: ReadonlyMap<string, Initializer>;
  };
}

/** Small models start as fast without a preparation. */
const MIN_PREPARED_BYTES = 32 * 2 ** 20;

/** Whether weights of so many bytes can be prepared, and should be. */
export function preparable(engine: Engine, device: Device, bytes: number): boolean {
  return (
    engine.native === true && device === "cpu" && process.platform !== "win32" && bytes >= MIN_PREPARED_BYTES
  );
}

type LocatedOptions = SessionOptions & { readonly externalDataFolder: string };

/**
 * A session over prepared weights, which are prepared first where they are not. A pack keeps one preparation; other
 * graphs of the same weights (with room for adapters, say) borrow it.
 */
export async function createPreparedSession(
  engine: Engine,
  options: LocatedOptions,
  source: PreparedSource,
): Promise<Session> {
  const machine = `${source.pack}.${machineKey(engine, options)}-`;
  const file = `${machine}${shortHash(options.model)}.onnx`;
  const open = (): Promise<Session | undefined> =>
    source.whole === undefined ? openPrepared(engine, options, file) : openBorrowed(engine, options, machine);
  const found = await open();
  if (found !== undefined) return found;
  return withLock(
    `${source.pack}.lock`,
    async () => {
      const meanwhile =
        (await openPrepared(engine, options, file)) ?? (await openBorrowed(engine, options, machine));
      if (meanwhile !== undefined) return meanwhile;
      const { model, initializers } = source.whole?.() ?? { ...options, ...source };
      const target = `${machine}${shortHash(model)}.onnx`;
      await prepare(engine, { ...options, model }, { ...source, initializers }, target);
      return (await open()) ?? engine.createSession(options);
    },
    options.signal,
  );
}

async function openPrepared(
  engine: Engine,
  options: LocatedOptions,
  file: string,
): Promise<Session | undefined> {
  const model = await readFile(file).catch(() => undefined);
  if (model === undefined) return undefined;
  try {
    return await engine.createSession({ ...options, model });
  } catch {
    options.signal?.throwIfAborted();
    // Damaged, or of a pack that was made anew since: the session is made from the weights themselves.
    await rm(file, { force: true });
    return undefined;
  }
}

/** A session of this graph over what another graph of the same weights was prepared with. */
async function openBorrowed(
  engine: Engine,
  options: LocatedOptions,
  machine: string,
): Promise<Session | undefined> {
  const names = await readdir(dirname(machine)).catch((): string[] => []);
  const lender = names.find((name) => name.startsWith(basename(machine)) && name.endsWith(".onnx"));
  if (lender === undefined) return undefined;
  try {
    const lent = new Map<string, ExternalEntries>();
    mapExternalData(await readFile(join(dirname(machine), lender)), (name, entries) => {
      lent.set(name, entries);
      return entries;
    });
    const model = mapExternalData(options.model, (name, entries) => lent.get(name) ?? entries);
    return await engine.createSession({ ...options, model });
  } catch {
    options.signal?.throwIfAborted();
    return undefined;
  }
}

/** Has the engine save what it re-lays, and moves that into the pack. Without room on the disk nothing is prepared. */
async function prepare(
  engine: Engine,
  options: LocatedOptions,
  source: PreparedSource,
  file: string,
): Promise<void> {
  const temporary = `${file}.${randomUUID()}.tmp`;
  try {
    await mkdir(temporary);
    await checkRoom(temporary, 5 * source.bytes, "preparing the weights");
    const config = { ...options.config, ...SAVE };
    const session = await engine.createSession({
      ...options,
      model: shortenTables(options.model, source),
      optimizedModelPath: join(temporary, SAVED_MODEL),
      config,
    });
    await session.dispose();
    await move(temporary, options.externalDataFolder, source, file);
  } catch (error) {
    if (!(error instanceof HubError)) throw error;
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
}

/** Takes from the engine's copy of all weights what the pack does not have, and lets the saved graph refer to the pack. */
async function move(
  saved: string,
  externalDataFolder: string,
  source: PreparedSource,
  file: string,
): Promise<void> {
  const model = await readFile(join(saved, SAVED_MODEL));
  const stretches: Stretch[] = [];
  // Collects in the order in which the second pass asks for the offsets.
  relocate(model, source, externalDataFolder, (stretch) => stretches.push(stretch));
  const offsets = await appendPrepared(source.pack, join(saved, SAVED_DATA), stretches);
  if (offsets === undefined) return;
  const result = relocate(model, source, externalDataFolder, () => offsets.shift()!);
  await replaceFile(file, (handle) => writeAll(handle, result));
}

/** Bytes from which on the engine saves a constant outside the graph, and some more. */
const SAVED_OUTSIDE = 8192;

/**
 * The graph with only the first rows of the tables that stay on disk: the engine would copy them whole, through its
 * memory, to save a graph that refers to the originals in the end.
 */
function shortenTables(model: Uint8Array, { initializers }: PreparedSource): Uint8Array {
  return mapExternalTensors(model, (name, { entries, dims }) => {
    if (initializers.get(name)?.byRow !== true) return { entries, dims };
    const [rows, ...rest] = dims as [number, ...number[]];
    const rowBytes = byteCount(entries, "length") / rows;
    const kept = Math.min(rows, Math.ceil(SAVED_OUTSIDE / rowBytes));
    return {
      entries: new Map(entries).set("length", String(kept * rowBytes)),
      dims: [kept, ...rest],
    };
  });
}

/** `place` says where a stretch of the saved data lies in the pack. */
function relocate(
  model: Uint8Array,
  source: PreparedSource,
  folder: string,
  place: (stretch: Stretch) => number,
): Uint8Array {
  return mapExternalTensors(model, (name, { entries, dims }) => {
    const moved = new Map(entries);
    const original = source.initializers.get(name);
    const data = original?.data;
    if (data === undefined || data instanceof Uint8Array) {
      // A constant that was inside the graph, or that the engine made.
      const [offset, length] = [byteCount(entries, "offset"), byteCount(entries, "length")];
      moved
        .set("location", relativeLocation(source.pack, folder))
        .set("offset", String(place({ offset, length })));
    } else {
      moved
        .set("location", relativeLocation(data.file, folder))
        .set("offset", String(data.offset))
        .set("length", String(data.length));
    }
    for (const [key, value] of entries)
      if (key.startsWith("prepacked_")) moved.set(key, moveBlobs(value, place));
    return { entries: moved, dims: original?.byRow === true ? original.shape : dims };
  });
}

/** `kernel|offset;length;flag[|…]` with other offsets. */
function moveBlobs(value: string, place: (stretch: Stretch) => number): string {
  const [kernel, ...blobs] = value.split("|");
  const moved = blobs.map((blob) => {
    const [offset, length, ...rest] = blob.split(";");
    return [place({ offset: Number(offset), length: Number(length) }), length, ...rest].join(";");
  });
  return [kernel, ...moved].join("|");
}

function byteCount(entries: ExternalEntries, key: string): number {
  const value = Number(entries.get(key));
  if (Number.isSafeInteger(value) && value >= 0) return value;
  throw new GraphError(`the engine saved an initialiser whose ${key} is ${entries.get(key)}`);
}

/** Re-laid weights suit one engine build and one kind of processor. */
function machineKey(engine: Engine, { optimization, config }: SessionOptions): string {
  const machine = [engine.name, process.arch, cpus()[0]?.model, optimization, config];
  return shortHash(`lapidary prepared ${FORMAT_VERSION}\n${JSON.stringify(machine)}`);
}

function shortHash(data: string | Uint8Array): string {
  return createHash("sha256").update(data).digest("hex").slice(0, 16);
}
