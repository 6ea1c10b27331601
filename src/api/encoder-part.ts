import { openCheckpoint } from "../checkpoints/open.ts";
import { type LoadedWeights, loadWeights, type PackOptions } from "../checkpoints/pack.ts";
import { InputError } from "../errors.ts";
import { Graph } from "../graph/graph.ts";
import { serializeOnnx } from "../graph/onnx/serialize.ts";
import { bind, type Module } from "../nn/module.ts";
import type { Session } from "../runtime/session.ts";
import type { EngineOptions } from "./decoder-sessions.ts";
import type { ModelOptions } from "./options.ts";
import { type ModelReader, weightRequest } from "./pretrained-model.ts";
import { commonFolder, sessionConfig } from "./weight-files.ts";

/** Where a part's weights come from. */
export interface PartSource {
  /** The folder or file of the checkpoint. */
  readonly path: string;
  readonly reader: Pick<ModelReader, "checkpoint">;
  /** Storage of the part's weights. */
  readonly weights: Pick<ModelOptions, "dtype" | "tablesDtype"> & Partial<Pick<ModelOptions, "quantization">>;
  readonly pack: PackOptions;
  readonly engine: EngineOptions;
}

/**
 * A part of a model with graphs of its own, such as the encoder of images: its weights are read when it first runs, so
 * that text alone never pays for it.
 */
export class EncoderPart<Part extends Module> {
  readonly module: Part;
  /** Bytes of its tensors in the checkpoint. */
  readonly bytes: number;
  readonly #source: PartSource;
  readonly #sessions: Map<string, Promise<Session>> = new Map();
  #weights: Promise<LoadedWeights> | undefined;
  #disposed = false;

  /** `module`'s field paths are the keys of the checkpoint that the source's reader gives. */
  constructor(module: Part, source: PartSource, bytes = 0) {
    this.module = module;
    this.bytes = bytes;
    this.#source = source;
  }

  /** Whether its weights were read: an image or a sound has come. */
  get loaded(): boolean {
    return this.#weights !== undefined;
  }

  /** The session of one graph of this part, which `trace` makes where it is not there yet. */
  async session(name: string, trace: (module: Part, graph: Graph) => void): Promise<Session> {
    if (this.#disposed) throw new InputError("the model was disposed");
    let session = this.#sessions.get(name);
    if (session === undefined) {
      session = this.#create(name, trace);
      this.#sessions.set(name, session);
      // A failure is not for good: the next call tries again.
      session.catch(() => this.#sessions.delete(name));
    }
    return session;
  }

  /** Bytes by way of storage; undefined while nothing was loaded. */
  async weightBytes(): Promise<ReadonlyMap<string, number> | undefined> {
    return (await this.#weights)?.bytesByStorage;
  }

  async dispose(): Promise<void> {
    this.#disposed = true;
    for (const session of await Promise.allSettled(this.#sessions.values()))
      if (session.status === "fulfilled") await session.value.dispose();
    this.#sessions.clear();
  }

  async #create(name: string, trace: (module: Part, graph: Graph) => void): Promise<Session> {
    this.#weights ??= this.#load();
    const { weights } = await this.#weights.catch((error: unknown) => {
      this.#weights = undefined;
      throw error;
    });
    const graph = new Graph(name);
    trace(this.module, graph);
    const externalDataFolder = commonFolder(weights);
    const { engine, ...options } = this.#source.engine;
    return engine.createSession({
      model: serializeOnnx(graph, externalDataFolder),
      externalDataFolder,
      config: sessionConfig(weights),
      ...options,
    });
  }

  async #load(): Promise<LoadedWeights> {
    const { path, reader, weights: storage, pack } = this.#source;
    const checkpoint = reader.checkpoint(await openCheckpoint(path));
    const loaded = await loadWeights(checkpoint, weightRequest(this.module, storage), pack).finally(() =>
      checkpoint.close(),
    );
    bind(this.module, loaded.weights);
    return loaded;
  }
}
