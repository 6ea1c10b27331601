import { InputError } from "../errors.ts";
import { Embedding, type Linear } from "../nn/linear.ts";
import { loraInputs } from "../nn/lora.ts";
import type { HostTensor, Session } from "../runtime/session.ts";
import { AdaptedSession } from "./adapted-session.ts";

/** A layer that an adapter can stand beside. */
export type AdaptableLayer = Linear | Embedding;

/** What an adapter adds to one layer, in memory. */
export interface LowRank {
  readonly table: boolean;
  readonly rank: number;
  /** [rank, in], of a table [rows, rank] */
  readonly A: Float32Array;
  /** [out, rank], scale included */
  readonly B: Float32Array;
}

/** An adapter in memory: its matrices by path of the layer. */
export type AdapterWeights = ReadonlyMap<string, LowRank>;

/**
 * The adapters beside one model and which of them are on, after HF's PeftAdapterMixin. A graph has room for an adapter
 * beside every layer that one of them changes; where the chosen ones change nothing, zeros of rank 1 are fed.
 */
export class Adapters {
  readonly #layers: ReadonlyMap<string, AdaptableLayer>;
  readonly #loaded: Map<string, AdapterWeights> = new Map();
  #chosen: readonly string[] = [];
  #enabled = true;
  #slots: ReadonlySet<string> = new Set();
  #matrices: ReadonlyMap<string, HostTensor> | undefined;
  readonly #sessions: Map<Session, AdaptedSession> = new Map();

  /** `layers` are those of the model that the sessions are made of, by path. */
  constructor(layers: ReadonlyMap<string, AdaptableLayer>) {
    this.#layers = layers;
  }

  /** The layers that a graph needs room beside; another object whenever they are others. */
  get slots(): ReadonlySet<string> {
    return this.#slots;
  }

  /** Names of the adapters that were chosen, even while they are disabled. */
  get active(): string[] {
    this.#requireAny();
    return [...this.#chosen];
  }

  /** Reads an adapter under a name that is free, and chooses it. */
  async load(name: string, read: () => Promise<AdapterWeights>): Promise<void> {
    if (typeof name !== "string" || name === "")
      throw new InputError("load_adapter: expected a name for the adapter", { option: "adapter_name" });
    this.#requireFree(name);
    const weights = await read();
    this.#requireFree(name);
    this.add(name, weights);
  }

  /** Adds an adapter and chooses it. */
  add(name: string, weights: AdapterWeights): void {
    this.#loaded.set(name, weights);
    this.#chosen = [name];
    this.#changed();
  }

  choose(names: readonly string[]): void {
    this.#requireKnown(names);
    if (names.length === 0) throw new InputError("set_adapter: expected the name of an adapter");
    this.#chosen = [...new Set(names)];
    this.#changed();
  }

  enable(enabled: boolean): void {
    this.#requireAny();
    this.#enabled = enabled;
    this.#changed();
  }

  /** Removes adapters; where none of the chosen is left, the first of the others is chosen. */
  remove(names: readonly string[]): void {
    this.#requireKnown(names);
    for (const name of names) this.#loaded.delete(name);
    const left = this.#chosen.filter((name) => this.#loaded.has(name));
    this.#chosen = left.length > 0 ? left : [...this.#loaded.keys()].slice(0, 1);
    if (this.#loaded.size === 0) this.#enabled = true;
    this.#changed();
  }

  /** Gives the layers room for an adapter, or takes it, in the graph that is traced next. */
  prepareTrace(): void {
    for (const [path, layer] of this.#layers) layer.adapted = this.#slots.has(path);
  }

  /** `session`, of a graph with room beside `slots`, with the chosen matrices as its inputs. */
  over(session: Session): Session {
    if (this.#slots.size === 0) return session;
    let adapted = this.#sessions.get(session);
    if (adapted === undefined) {
      this.#matrices ??= this.#chooseMatrices();
      adapted = new AdaptedSession(session, this.#matrices);
      this.#sessions.set(session, adapted);
    }
    return adapted;
  }

  #requireAny(): void {
    if (this.#loaded.size === 0) throw new InputError("no adapter is loaded; load one with load_adapter");
  }

  #requireFree(name: string): void {
    if (!this.#loaded.has(name)) return;
    throw new InputError(`there is an adapter ${JSON.stringify(name)} already; choose another name`, {
      option: "adapter_name",
    });
  }

  #requireKnown(names: readonly string[]): void {
    this.#requireAny();
    const unknown = names.find((name) => !this.#loaded.has(name));
    if (unknown === undefined) return;
    const known = [...this.#loaded.keys()].join(", ");
    throw new InputError(`there is no adapter ${JSON.stringify(unknown)}; loaded are ${known}`, {
      option: "adapter_name",
    });
  }

  #changed(): void {
    for (const session of this.#sessions.values()) void session.dispose();
    this.#sessions.clear();
    this.#matrices = undefined;
    const slots = new Set([...this.#loaded.values()].flatMap((weights) => [...weights.keys()]));
    if (slots.size !== this.#slots.size || [...slots].some((path) => !this.#slots.has(path)))
      this.#slots = slots;
  }

  #chooseMatrices(): Map<string, HostTensor> {
    const chosen = this.#enabled ? this.#chosen.map((name) => this.#loaded.get(name)!) : [];
    const matrices = new Map<string, HostTensor>();
    const zeros = new Zeros();
    for (const path of this.#slots) {
      const layer = this.#layers.get(path)!;
      const [rows, columns] = layer.weight.shape as [number, number];
      const parts = chosen.flatMap((weights) => weights.get(path) ?? []);
      const table = layer instanceof Embedding;
      const [wide, out] = table ? [rows, columns] : [columns, rows];
      const rank = parts.reduce((sum, part) => sum + part.rank, 0) || 1;
      const A = parts.length === 0 ? zeros.of(wide) : joinA(parts, wide);
      const B = parts.length === 0 ? zeros.of(out) : joinColumns(parts, out, "B");
      const names = loraInputs(path);
      matrices.set(names.A, { type: "float32", data: A, dims: table ? [wide, rank] : [rank, wide] });
      matrices.set(names.B, { type: "float32", data: B, dims: [out, rank] });
    }
    return matrices;
  }
}

/** One run of zeros for all. */
class Zeros {
  #values = new Float32Array(0);

  of(length: number): Float32Array {
    if (this.#values.length < length) this.#values = new Float32Array(length);
    return this.#values.subarray(0, length);
  }
}

/** Several adapters at once are one of the sum of their ranks. */
function joinA(parts: readonly LowRank[], wide: number): Float32Array {
  const [first] = parts;
  if (parts.length === 1) return first!.A;
  if (first!.table) return joinColumns(parts, wide, "A");
  const joined = new Float32Array(parts.reduce((sum, { A }) => sum + A.length, 0));
  let at = 0;
  for (const { A } of parts) {
    joined.set(A, at);
    at += A.length;
  }
  return joined;
}

/** Matrices [rows, rank] side by side. */
function joinColumns(parts: readonly LowRank[], rows: number, side: "A" | "B"): Float32Array {
  if (parts.length === 1) return parts[0]![side];
  const rank = parts.reduce((sum, part) => sum + part.rank, 0);
  const joined = new Float32Array(rows * rank);
  let at = 0;
  for (const part of parts) {
    for (let row = 0; row < rows; row++)
      joined.set(part[side].subarray(row * part.rank, (row + 1) * part.rank), row * rank + at);
    at += part.rank;
  }
  return joined;
}
