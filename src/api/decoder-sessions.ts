import { dirname, parse, sep } from "node:path";
import type { RopeSpec } from "../generation/rope-tables.ts";
import type { DecoderModel } from "../generation/transformer-decoder.ts";
import { Graph } from "../graph/graph.ts";
import { serializeOnnx } from "../graph/onnx/serialize.ts";
import type { WeightSource } from "../graph/weights.ts";
import type { LayerCacheSpec } from "../models/decoder-inputs.ts";
import type { DecoderGraphOptions } from "../models/gemma3/text.ts";
import { bind, type Module } from "../nn/module.ts";
import type { Device, Engine, Session } from "../runtime/session.ts";
import { createPreparedSession } from "./prepared-session.ts";

/** A model's module that can trace itself whole. */
export interface TraceableDecoder extends Module {
  trace(graph: Graph, options: DecoderGraphOptions): void;
}

/** What a decoder is built from. */
export interface DecoderParts {
  readonly module: TraceableDecoder;
  readonly weights: WeightSource;
  /** The pack that the quantised weights lie in. */
  readonly pack?: string | undefined;
  readonly vocab_size: number;
  readonly hidden_size: number;
  readonly layers: readonly LayerCacheSpec[];
  readonly rope: Readonly<Record<string, RopeSpec>>;
}

export interface EngineOptions {
  readonly engine: Engine;
  readonly device: Device;
  readonly threads?: number;
}

/** The sessions of one decoder: one per variant of its graph, made when first needed, sharing the weights' files. */
export class DecoderSessions implements DecoderModel {
  readonly vocab_size: number;
  readonly hidden_size: number;
  readonly layers: readonly LayerCacheSpec[];
  readonly rope: Readonly<Record<string, RopeSpec>>;
  readonly #parts: DecoderParts;
  readonly #options: EngineOptions;
  readonly #sessions: Map<boolean, Promise<Session>> = new Map();

  constructor(parts: DecoderParts, options: EngineOptions) {
    bind(parts.module, parts.weights);
    this.vocab_size = parts.vocab_size;
    this.hidden_size = parts.hidden_size;
    this.layers = parts.layers;
    this.rope = parts.rope;
    this.#parts = parts;
    this.#options = options;
  }

  session({ output_hidden_states }: DecoderGraphOptions): Promise<Session> {
    let session = this.#sessions.get(output_hidden_states);
    if (session === undefined) {
      session = this.#create({ output_hidden_states });
      this.#sessions.set(output_hidden_states, session);
    }
    return session;
  }

  /** The ONNX model of a variant, and the folder that its external data locations are relative to. */
  serialize(options: DecoderGraphOptions): { model: Uint8Array; externalDataFolder: string } {
    const { model, externalDataFolder } = this.#build(options);
    return { model, externalDataFolder };
  }

  async dispose(): Promise<void> {
    const sessions = [...this.#sessions.values()];
    this.#sessions.clear();
    for (const session of await Promise.allSettled(sessions))
      if (session.status === "fulfilled") await session.value.dispose();
  }

  #build(options: DecoderGraphOptions): { graph: Graph; model: Uint8Array; externalDataFolder: string } {
    const graph = new Graph("lapidary");
    this.#parts.module.trace(graph, options);
    const externalDataFolder = commonFolder(this.#parts.weights);
    return { graph, model: serializeOnnx(graph, externalDataFolder), externalDataFolder };
  }

  #create(options: DecoderGraphOptions): Promise<Session> {
    const { engine, device, threads } = this.#options;
    const { weights, pack } = this.#parts;
    const { graph, model, externalDataFolder } = this.#build(options);
    const session = {
      model,
      externalDataFolder,
      device,
      ...(threads === undefined ? {} : { threads }),
      config: sessionConfig(weights),
    };
    const bytes = quantisedBytes(weights);
    const worthwhile =
      engine.native === true &&
      device === "cpu" &&
      process.platform !== "win32" &&
      bytes >= MIN_PREPARED_BYTES;
    if (!worthwhile || pack === undefined) return engine.createSession(session);
    return createPreparedSession(engine, session, { pack, initializers: graph.initializers, bytes });
  }
}

/** Small models start as fast without a preparation. */
const MIN_PREPARED_BYTES = 32 * 2 ** 20;

function quantisedBytes(weights: WeightSource): number {
  return [...weights.values()].reduce(
    (sum, weight) => sum + (weight.kind === "nbits" ? weight.codes.length + weight.scales.length : 0),
    0,
  );
}

/**
 * Casts of weights that are stored in half precision must not be folded: the folded constants would hold the whole
 * model as float32 in memory, which is what half-precision storage is to avoid.
 */
function sessionConfig(weights: WeightSource): Record<string, string> {
  const half = [...weights.values()].some((weight) => weight.kind === "float" && weight.dtype !== "float32");
  return half ? { "optimization.disable_specified_optimizers": "ConstantFolding" } : {};
}

/** The deepest folder above all weight files: locations in the graph can't climb out of their folder. */
function commonFolder(weights: WeightSource): string {
  const files = new Set<string>();
  for (const weight of weights.values()) {
    if (weight.kind === "float") files.add(weight.range.file);
    if (weight.kind === "nbits") files.add(weight.codes.file).add(weight.scales.file);
  }
  const folders = [...files].map((file) => dirname(file));
  const [first] = folders;
  if (first === undefined) return process.cwd();
  const { root } = parse(first);
  const parts = first.slice(root.length).split(sep);
  while (
    parts.length > 0 &&
    !folders.every((folder) => `${folder}${sep}`.startsWith(`${root}${parts.join(sep)}${sep}`))
  )
    parts.pop();
  return root + parts.join(sep);
}
