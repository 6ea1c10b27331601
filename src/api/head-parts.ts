/** The output layer of a quantised model in sessions of its own, and its screen. */
import { dirname } from "node:path";
import { findOrWriteScreen, type Screen } from "../checkpoints/screen-file.ts";
import type { HeadScreen, HeadSessions } from "../generation/split-head.ts";
import { Graph } from "../graph/graph.ts";
import { serializeOnnx } from "../graph/onnx/serialize.ts";
import { concat, pickLast } from "../graph/ops/shape.ts";
import type { NBitsWeight } from "../graph/weights.ts";
import type { HeadedModule, TextModule } from "../models/heads.ts";
import { GemmaRMSNorm } from "../nn/gemma-rms-norm.ts";
import { type Embedding, nbitsMatrix } from "../nn/linear.ts";
import { namedModules } from "../nn/module.ts";
import { boundFactor, refinedCount, SCREENED_LAYOUT } from "../quantization/screen.ts";
import type { Session } from "../runtime/session.ts";
import type { DecoderParts, DecoderSessions, EngineOptions } from "./decoder-sessions.ts";
import { createPreparedSession, preparable } from "./prepared-session.ts";

/** "1": tokens are chosen in two passes; without it all logits are computed for every token. */
const TWO_PASS_VARIABLE = "LAPIDARY_TWO_PASS";

/** The sessions of a split head. */
export class HeadParts implements HeadSessions {
  readonly hidden_size: number;
  readonly logits_size: number;
  readonly #sessions: DecoderSessions;
  readonly #module: HeadedModule;
  readonly #table: Embedding;
  readonly #weight: NBitsWeight;
  readonly #pack: string;
  readonly #options: EngineOptions;
  #screen: Promise<HeadScreen> | undefined;

  private constructor(
    sessions: DecoderSessions,
    module: HeadedModule,
    table: Embedding,
    weight: NBitsWeight,
    pack: string,
    options: EngineOptions,
  ) {
    this.hidden_size = sessions.hidden_size;
    this.logits_size = sessions.logits_size;
    this.#sessions = sessions;
    this.#module = module;
    this.#table = table;
    this.#weight = weight;
    this.#pack = pack;
    this.#options = options;
  }

  /** Undefined where the whole layer is the better way, or the only one. */
  static of(
    sessions: DecoderSessions,
    { module, pack }: DecoderParts,
    options: EngineOptions,
  ): HeadParts | undefined {
    const table = module.headTable;
    const weight = table?.weight.weight;
    if (table === undefined || weight?.kind !== "nbits" || weight.zeros !== undefined) return undefined;
    const { bits, block_size } = SCREENED_LAYOUT;
    const suits =
      weight.bits === bits && weight.block_size === block_size && weight.shape[1]! % block_size === 0;
    // Small output layers are as fast whole.
    const worthwhile = preparable(options.engine, options.device, weight.codes.length);
    if (!suits || !worthwhile) return undefined;
    if (pack === undefined || process.env[TWO_PASS_VARIABLE] !== "1") return undefined;
    return new HeadParts(sessions, module, table, weight, pack, options);
  }

  /** Makes what the first token needs, and the screen's file. */
  async prepare(): Promise<void> {
    await Promise.all([this.full(), this.#file()]);
  }

  full(): Promise<Session> {
    return this.#sessions.piece("head", (graph) => this.#module.traceHead(graph, this.hidden_size), true);
  }

  rows(): Promise<Session> {
    return this.#sessions.piece("head_rows", (graph) => {
      const { codes, scales } = this.#table.stored(graph.input("ids", "int64", ["count"]));
      graph.output("codes", codes);
      graph.output("scales", scales);
    });
  }

  screen(): Promise<HeadScreen> {
    this.#screen ??= this.#openScreen();
    return this.#screen;
  }

  async dispose(): Promise<void> {
    await this.#screen?.then(
      ({ session }) => session.dispose(),
      () => undefined,
    );
  }

  #file(): Promise<Screen> {
    const columns = loudColumns(this.#module.model, refinedCount(this.hidden_size));
    return findOrWriteScreen(this.#pack, this.#weight, columns);
  }

  async #openScreen(): Promise<HeadScreen> {
    const { file, weight, bounds, refined } = await this.#file();
    const graph = new Graph("lapidary");
    const x = graph.input("head_inputs", "float32", [1, this.hidden_size]);
    const input = concat([x, pickLast(x, [...refined])]);
    graph.output("scores", nbitsMatrix(input, "screen", weight));
    const externalDataFolder = dirname(file);
    const { engine, device, threads } = this.#options;
    const options = {
      model: serializeOnnx(graph, externalDataFolder),
      externalDataFolder,
      device,
      ...(threads === undefined ? {} : { threads }),
    };
    const source = { pack: file, initializers: graph.initializers, bytes: weight.codes.length };
    const session = await createPreparedSession(engine, options, source);
    return { session, bounds, refined, factor: (a, b) => boundFactor(a, b, refined) };
  }
}

/**
 * The columns of the output layer whose inputs are the largest, ascending: those with the largest gains on the way,
 * squared, of the last norm and of the norms whose results the layers add up. On the 270M the first 64 carry 63 % of the
 * energy, the best 64 carry 66.
 */
function loudColumns(model: TextModule, count: number): Int32Array {
  const added = [...namedModules(model)].filter(([path]) => path.endsWith("post_feedforward_layernorm"));
  const norms = added.flatMap(([, norm]) => (norm instanceof GemmaRMSNorm ? [norm.gains()] : []));
  const last = model.norm instanceof GemmaRMSNorm ? model.norm.gains() : undefined;
  const size = model.embed_tokens.weight.shape[1]!;
  const energy = Array.from({ length: size }, (_, i) => {
    const sum = norms.reduce((total, gains) => total + gains[i]! ** 2, 0);
    return (last?.[i] ?? 1) ** 2 * (norms.length === 0 ? 1 : sum);
  });
  const order = Array.from(energy.keys()).sort((a, b) => energy[b]! - energy[a]! || a - b);
  return Int32Array.from(order.slice(0, count)).sort();
}
