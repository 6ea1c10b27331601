import { InputError } from "../errors.ts";
import type { DecoderModel } from "../generation/decoder-model.ts";
import type { RopeSpec } from "../generation/rope-tables.ts";
import { SplitHead } from "../generation/split-head.ts";
import { Graph } from "../graph/graph.ts";
import { serializeOnnx } from "../graph/onnx/serialize.ts";
import { staysOnDisk, type WeightSource } from "../graph/weights.ts";
import type { GraphVariant } from "../graph-variant.ts";
import type { LayerCacheSpec } from "../models/decoder-inputs.ts";
import type { HeadedModule, TextModule } from "../models/heads.ts";
import { keySources, layerCaches, type TextConfig } from "../models/text-config.ts";
import { alignHeadDim } from "../nn/head-dim.ts";
import { bind } from "../nn/module.ts";
import type { Device, Engine, Session } from "../runtime/session.ts";
import type { Adapters } from "./adapters.ts";
import { HeadParts } from "./head-parts.ts";
import { createPreparedSession, preparable } from "./prepared-session.ts";
import { commonFolder, sessionConfig } from "./weight-files.ts";

/** What a decoder is built from. */
export interface DecoderParts {
  readonly config: TextConfig;
  readonly module: HeadedModule;
  /** Numbers per position of `logits`. */
  readonly logits_size: number;
  readonly weights: WeightSource;
  /** The pack that the quantised weights lie in. */
  readonly pack?: string | undefined;
  readonly adapters: Adapters;
}

export interface EngineOptions {
  readonly engine: Engine;
  readonly device: Device;
  readonly threads?: number;
}

/** The graph that generation runs, token after token. */
export const GENERATION: GraphVariant = {
  attention: "causal",
  steps: 0,
  cache: "float32",
  input: "input_ids",
  logits: true,
  hidden_states: "none",
  attentions: false,
};

/** The sessions of one decoder: one per variant of its graph, made when first needed, sharing the weights' files. */
export class DecoderSessions implements DecoderModel {
  readonly logits_size: number;
  readonly vocab_size: number;
  readonly hidden_size: number;
  readonly num_attention_heads: number;
  readonly bidirectional: boolean;
  readonly quantised: boolean;
  readonly layers: readonly LayerCacheSpec[];
  readonly keysOf: readonly number[];
  readonly streams: number;
  readonly usesIds: boolean;
  readonly rope: Readonly<Record<string, RopeSpec>>;
  readonly head: SplitHead | undefined;
  readonly #headParts: HeadParts | undefined;
  readonly #parts: DecoderParts;
  readonly #options: EngineOptions;
  readonly #sessions: Map<string, Promise<Session>> = new Map();
  #disposed = false;
  /** The layers that the sessions have room for an adapter beside. */
  #slots: ReadonlySet<string>;

  constructor(parts: DecoderParts, options: EngineOptions) {
    bind(parts.module, parts.weights);
    const { config } = parts;
    this.logits_size = parts.logits_size;
    this.vocab_size = config.vocab_size;
    this.hidden_size = config.hidden_size;
    this.num_attention_heads = config.num_attention_heads;
    this.quantised = [...parts.weights.values()].some(({ kind }) => kind === "nbits" || kind === "int8");
    this.bidirectional = config.use_bidirectional_attention;
    this.layers = layerCaches(config);
    this.keysOf = keySources(config);
    this.streams = parts.module.model.streams;
    this.usesIds = parts.module.model.usesIds;
    this.rope = ropeSpecs(config);
    this.#parts = parts;
    this.#options = options;
    this.#slots = parts.adapters.slots;
    this.#headParts = HeadParts.of(this, parts, options);
    this.head = this.#headParts && new SplitHead(this.#headParts);
  }

  session(variant: GraphVariant): Promise<Session> {
    return this.#once(JSON.stringify(Object.entries(variant).sort()), () => {
      const { graph, ...model } = this.#build(variant);
      // Encoders run one variant, and it is another one.
      const others = this.bidirectional ? "none" : "part";
      return this.#create(graph, model, sameVariant(variant, GENERATION) ? "whole" : others);
    });
  }

  /** Makes what generation runs. */
  async prepare(): Promise<void> {
    if (this.#headParts === undefined) await this.session(GENERATION);
    else await Promise.all([this.session({ ...GENERATION, logits: "inputs" }), this.#headParts.prepare()]);
  }

  /** The session of the embedding alone: `input_ids` [batch, seq] to `inputs_embeds` [batch, seq, hidden_size]. */
  embedding(): Promise<Session> {
    return this.piece("embedding", (graph) => this.#parts.module.traceEmbedding(graph));
  }

  /** The session of a small graph over the same weights, such as an embedding; `multiplies`: with quantised matrices. */
  piece(
    name: string,
    trace: (graph: Graph, model: TextModule) => void,
    multiplies = false,
  ): Promise<Session> {
    return this.#once(name, () => {
      const graph = this.#newGraph();
      trace(graph, this.#parts.module.model);
      return this.#create(graph, this.#serialize(graph), multiplies ? "part" : "none");
    });
  }

  /** The ONNX model of a variant, and the folder that its external data locations are relative to. */
  serialize(variant: GraphVariant): { model: Uint8Array; externalDataFolder: string } {
    const { model, externalDataFolder } = this.#build(variant);
    return { model, externalDataFolder };
  }

  /** For good: the model can't run any more. */
  async dispose(): Promise<void> {
    this.#disposed = true;
    await this.#headParts?.dispose();
    await this.#release();
  }

  async #release(): Promise<void> {
    const sessions = [...this.#sessions.values()];
    this.#sessions.clear();
    for (const session of await Promise.allSettled(sessions))
      if (session.status === "fulfilled") await session.value.dispose();
  }

  async #once(key: string, make: () => Promise<Session>): Promise<Session> {
    const { adapters } = this.#parts;
    if (adapters.slots !== this.#slots) {
      this.#slots = adapters.slots;
      // Before the next is made, so that the weights are in memory once.
      await this.#release();
    }
    if (this.#disposed) throw new InputError("the model was disposed");
    let session = this.#sessions.get(key);
    if (session === undefined) {
      session = make();
      this.#sessions.set(key, session);
      // A failure is not for good: the next call tries again.
      session.catch(() => this.#sessions.delete(key));
    }
    return adapters.over(await session);
  }

  #build(variant: GraphVariant): { graph: Graph; model: Uint8Array; externalDataFolder: string } {
    const graph = this.#newGraph();
    this.#parts.module.trace(graph, this.hidden_size, variant);
    return { graph, ...this.#serialize(graph) };
  }

  #newGraph(): Graph {
    this.#parts.adapters.prepareTrace();
    return new Graph("lapidary");
  }

  #serialize(graph: Graph): { model: Uint8Array; externalDataFolder: string } {
    const externalDataFolder = commonFolder(this.#parts.weights);
    return { model: serializeOnnx(graph, externalDataFolder), externalDataFolder };
  }

  /** A pack keeps one preparation: that of the graph which runs most. */
  #create(
    graph: Graph,
    serialized: { model: Uint8Array; externalDataFolder: string },
    prepared: "none" | "whole" | "part",
  ): Promise<Session> {
    const { engine, device, threads } = this.#options;
    const { weights, pack } = this.#parts;
    const session = {
      ...serialized,
      device,
      ...(threads === undefined ? {} : { threads }),
      config: sessionConfig(weights),
    };
    const bytes = quantisedBytes(weights);
    const worthwhile = prepared !== "none" && preparable(engine, device, bytes);
    if (!worthwhile || pack === undefined) return engine.createSession(session);
    const whole = (): { model: Uint8Array; initializers: Graph["initializers"] } => {
      const { graph: all, model } = this.#build(GENERATION);
      return { model, initializers: all.initializers };
    };
    return createPreparedSession(engine, session, {
      pack,
      initializers: graph.initializers,
      bytes,
      ...(prepared === "part" ? { whole } : {}),
    });
  }
}

function sameVariant(a: GraphVariant, b: GraphVariant): boolean {
  return (Object.keys(b) as (keyof GraphVariant)[]).every((name) => a[name] === b[name]);
}

function ropeSpecs(config: TextConfig): Record<string, RopeSpec> {
  const { head_dim } = config;
  const kinds = [...new Set(config.layer_types)];
  return Object.fromEntries(
    kinds.map((kind) => {
      const { rope_theta, factor } = config.ropeOf(kind);
      return [kind, { rope_theta, factor, head_dim, aligned_head_dim: alignHeadDim(head_dim) }];
    }),
  );
}

function quantisedBytes(weights: WeightSource): number {
  return [...weights.values()].reduce(
    (sum, weight) =>
      sum +
      (weight.kind === "nbits" && !staysOnDisk(weight) ? weight.codes.length + weight.scales.length : 0),
    0,
  );
}
