import { InputError } from "../errors.ts";
import type { Binding, HostTensor, RuntimeValue, Session } from "../runtime/session.ts";
import type { Decoder, DecoderCache, DecoderStep, LogitsWanted } from "./decoder.ts";
import { type CacheLayer, CHUNK, KeyValueCache } from "./kv-cache.ts";
import { type RopeSpec, RopeTables } from "./rope-tables.ts";

/** A traced decoder and how to run it. */
export interface DecoderModel {
  readonly vocab_size: number;
  readonly hidden_size: number;
  readonly layers: readonly CacheLayer[];
  /** By kind of layer. */
  readonly rope: Readonly<Record<string, RopeSpec>>;
  /** The session of the graph variant that gives what is asked for; made on first use. */
  session(variant: { output_hidden_states: boolean }): Promise<Session>;
}

/** More tokens than this in one run of a batch go row by row, so that activations stay small. */
const MAX_BATCH_TOKENS = 2048;

interface StepOptions {
  readonly logits?: LogitsWanted;
  readonly output_hidden_states?: boolean;
  readonly signal?: AbortSignal;
}

/** One run of the graph: consecutive rows of the cache, their new tokens right-padded to a rectangle. */
interface Run {
  readonly session: Session;
  readonly cache: KeyValueCache;
  readonly firstRow: number;
  /** New tokens per row; an empty row runs a dummy token that is not kept. */
  readonly tokens: readonly (readonly number[])[];
  /** Indices into the rectangle [rows * longest] of the positions whose logits are wanted. */
  readonly logitsPositions: readonly number[];
  /** Receives them. */
  readonly logits: Float32Array;
  readonly output_hidden_states: boolean;
  readonly signal: AbortSignal | undefined;
}

/** What a decode step keeps bound from one token to the next. */
interface BoundStep {
  readonly binding: Binding;
  readonly session: Session;
  readonly cacheVersion: number;
  readonly ropeVersion: number;
  readonly logits: Float32Array;
  readonly inputs: StepInputs;
  release(): void;
}

interface StepInputs {
  readonly input_ids: BigInt64Array;
  readonly position_ids: BigInt64Array;
  readonly logits_positions: BigInt64Array;
  readonly seqlens_k: ReadonlyMap<string, Int32Array>;
  readonly total_sequence_length: ReadonlyMap<string, Int32Array>;
}

/** A cache that was dropped without dispose() gives the engine's handles back when it is collected. */
const forgotten = new FinalizationRegistry<() => void>((release) => release());

/** Runs a decoder graph over caches that the engine writes in place. */
export class TransformerDecoder implements Decoder {
  readonly vocab_size: number;
  readonly #model: DecoderModel;
  readonly #rope: ReadonlyMap<string, RopeTables>;
  #ropeVersion = 0;
  readonly #bound: WeakMap<KeyValueCache, BoundStep> = new WeakMap();
  /** Key under which caches keep the release of what this decoder bound to them. */
  readonly #released: object = {};

  constructor(model: DecoderModel) {
    this.#model = model;
    this.vocab_size = model.vocab_size;
    this.#rope = new Map(Object.entries(model.rope).map(([kind, spec]) => [kind, new RopeTables(spec)]));
  }

  createCache(batch: number, capacity: number): KeyValueCache {
    return new KeyValueCache(this.#model.layers, batch, capacity);
  }

  async step(
    rows: readonly (readonly number[])[],
    cache: DecoderCache,
    options: StepOptions = {},
  ): Promise<DecoderStep> {
    if (!(cache instanceof KeyValueCache) || cache.layers !== this.#model.layers) {
      throw new InputError("the cache was made by another model");
    }
    if (rows.length !== cache.batch)
      throw new InputError(`${rows.length} rows of tokens for a cache of ${cache.batch} rows`);
    this.#checkTokens(rows);
    const session = await this.#model.session({
      output_hidden_states: options.output_hidden_states === true,
    });
    const longest = Math.max(...rows.map((row) => row.length));
    if (longest === 0) throw new InputError("no row has a new token");
    if (longest === 1 && options.output_hidden_states !== true)
      return this.#decode(session, rows, cache, options.signal);
    const together = rows.length === 1 ? longest <= CHUNK : this.#fitsOneRun(rows, cache, longest);
    return together
      ? this.#runTogether(session, rows, cache, options)
      : this.#runByRow(session, rows, cache, options);
  }

  #checkTokens(rows: readonly (readonly number[])[]): void {
    for (const [r, row] of rows.entries()) {
      for (const [i, id] of row.entries()) {
        if (!Number.isInteger(id) || id < 0 || id >= this.vocab_size) {
          throw new InputError(
            `token ${id} at row ${r}, position ${i} is outside the vocabulary of ${this.vocab_size}`,
            { option: "input_ids" },
          );
        }
      }
    }
  }

  /** The kernel takes several tokens on a past at batch 1 only; a batch goes together into an empty cache. */
  #fitsOneRun(rows: readonly (readonly number[])[], cache: KeyValueCache, longest: number): boolean {
    if (longest === 1) return true;
    return (
      cache.lengths.every((length) => length === 0) &&
      longest <= CHUNK &&
      rows.length * longest <= MAX_BATCH_TOKENS
    );
  }

  /** One token a row: everything stays bound from step to step. */
  async #decode(
    session: Session,
    rows: readonly (readonly number[])[],
    cache: KeyValueCache,
    signal: AbortSignal | undefined,
  ): Promise<DecoderStep> {
    cache.reserve(rows.map(() => 1));
    this.#ensureRope(Math.max(...cache.lengths) + 1);
    const active = rows.flatMap((row, r) => (row.length === 0 ? [] : [r]));
    const bound = this.#bindStep(session, cache, active.length);
    this.#fill(bound.inputs, rows, cache, 0, 1);
    bound.inputs.logits_positions.set(active.map(BigInt));
    await bound.binding.run(signal === undefined ? {} : { signal });
    cache.commit(rows.map((row) => row.length));
    return { logits: bound.logits };
  }

  #bindStep(session: Session, cache: KeyValueCache, wanted: number): BoundStep {
    const held = this.#bound.get(cache);
    const fresh =
      held?.session === session &&
      held.cacheVersion === cache.version &&
      held.ropeVersion === this.#ropeVersion &&
      held.inputs.logits_positions.length === wanted;
    if (held !== undefined && fresh) return held;
    held?.release();
    const inputs = this.#allocate(cache.batch, 1, wanted);
    const logits = new Float32Array(wanted * this.vocab_size);
    const { binding, release } = this.#bind(
      session,
      cache,
      0,
      cache.batch,
      inputs,
      1,
      new Map([["logits", float32(logits, [wanted, this.vocab_size])]]),
    );
    const bound = {
      binding,
      session,
      cacheVersion: cache.version,
      ropeVersion: this.#ropeVersion,
      logits,
      inputs,
      release,
    };
    this.#bound.set(cache, bound);
    forgotten.unregister(cache);
    forgotten.register(cache, release, cache);
    cache.onDispose(this.#released, release);
    return bound;
  }

  async #runTogether(
    session: Session,
    rows: readonly (readonly number[])[],
    cache: KeyValueCache,
    options: StepOptions,
  ): Promise<DecoderStep> {
    const longest = Math.max(...rows.map((row) => row.length));
    const logitsPositions = rows.flatMap((row, r) =>
      wantedPositions(row.length, options.logits).map((i) => r * longest + i),
    );
    const logits = new Float32Array(logitsPositions.length * this.vocab_size);
    const output_hidden_states = options.output_hidden_states === true;
    const states = await this.#run({
      session,
      cache,
      firstRow: 0,
      tokens: rows,
      logitsPositions,
      logits,
      output_hidden_states,
      signal: options.signal,
    });
    return output_hidden_states
      ? {
          logits,
          hidden_states: states.map((state) => dropPadding(state, rows, longest, this.#model.hidden_size)),
        }
      : { logits };
  }

  /** Long prompts, and prompts on a past in a batch: a row at a time, a chunk at a time. */
  async #runByRow(
    session: Session,
    rows: readonly (readonly number[])[],
    cache: KeyValueCache,
    options: StepOptions,
  ): Promise<DecoderStep> {
    const { vocab_size } = this;
    const output_hidden_states = options.output_hidden_states === true;
    const total = rows.reduce((sum, row) => sum + wantedPositions(row.length, options.logits).length, 0);
    const logits = new Float32Array(total * vocab_size);
    const hidden: Float32Array[][] = [];
    let done = 0;
    for (const [firstRow, row] of rows.entries()) {
      for (let start = 0; start < row.length; start += CHUNK) {
        const tokens = row.slice(start, start + CHUNK);
        const logitsPositions = wantedPositions(row.length, options.logits)
          .map((position) => position - start)
          .filter((position) => position >= 0 && position < tokens.length);
        const part = logits.subarray(done * vocab_size, (done + logitsPositions.length) * vocab_size);
        const states = await this.#run({
          session,
          cache,
          firstRow,
          tokens: [tokens],
          logitsPositions,
          logits: part,
          output_hidden_states,
          signal: options.signal,
        });
        for (const [i, state] of states.entries()) {
          hidden[i] ??= [];
          hidden[i].push(state);
        }
        done += logitsPositions.length;
      }
    }
    return output_hidden_states ? { logits, hidden_states: hidden.map(concatenate) } : { logits };
  }

  /** Returns the hidden states that were asked for, [rows, longest, hidden_size] each. */
  async #run(run: Run): Promise<Float32Array[]> {
    const { session, cache, firstRow, tokens } = run;
    const longest = Math.max(...tokens.map((row) => row.length));
    const counts = cache.lengths.map((_, row) => tokens[row - firstRow]?.length ?? 0);
    cache.reserve(
      counts.map((count, row) =>
        row >= firstRow && row < firstRow + tokens.length ? Math.max(1, count) : 0,
      ),
    );
    this.#ensureRope(Math.max(...cache.lengths) + longest);
    // An empty selection is not worth the risk of an engine's corner case: one row too many is thrown away.
    const wanted = Math.max(1, run.logitsPositions.length);
    const inputs = this.#allocate(tokens.length, longest, wanted);
    this.#fill(inputs, tokens, cache, firstRow, longest);
    inputs.logits_positions.set(run.logitsPositions.map(BigInt));
    const logits = run.logitsPositions.length === 0 ? new Float32Array(this.vocab_size) : run.logits;
    const outputs = new Map([["logits", float32(logits, [wanted, this.vocab_size])]]);
    const states = run.output_hidden_states ? this.#hiddenStates(tokens.length, longest, outputs) : [];
    const { binding, release } = this.#bind(
      session,
      cache,
      firstRow,
      tokens.length,
      inputs,
      longest,
      outputs,
    );
    try {
      await binding.run(run.signal === undefined ? {} : { signal: run.signal });
    } finally {
      release();
    }
    cache.commit(counts);
    return states;
  }

  #hiddenStates(rows: number, longest: number, outputs: Map<string, HostTensor>): Float32Array[] {
    const { hidden_size, layers } = this.#model;
    return Array.from({ length: layers.length + 1 }, (_, i) => {
      const state = new Float32Array(rows * longest * hidden_size);
      outputs.set(`hidden_states.${i}`, float32(state, [rows, longest, hidden_size]));
      return state;
    });
  }

  #allocate(rows: number, longest: number, wanted: number): StepInputs {
    const kinds = [...this.#rope.keys()];
    return {
      input_ids: new BigInt64Array(rows * longest),
      position_ids: new BigInt64Array(rows * longest),
      logits_positions: new BigInt64Array(wanted),
      seqlens_k: new Map(kinds.map((kind) => [kind, new Int32Array(rows)])),
      total_sequence_length: new Map(kinds.map((kind) => [kind, new Int32Array(1)])),
    };
  }

  #fill(
    inputs: StepInputs,
    tokens: readonly (readonly number[])[],
    cache: KeyValueCache,
    firstRow: number,
    longest: number,
  ): void {
    for (const [r, row] of tokens.entries()) {
      const past = cache.lengths[firstRow + r]!;
      for (let i = 0; i < longest; i++) {
        inputs.input_ids[r * longest + i] = BigInt(row[i] ?? 0);
        inputs.position_ids[r * longest + i] = BigInt(past + i);
      }
    }
    for (const [kind, seqlens_k] of inputs.seqlens_k) {
      const held = cache.held(kind);
      let total = 0;
      for (const [r, row] of tokens.entries()) {
        const after = held[firstRow + r]! + Math.max(1, row.length);
        seqlens_k[r] = after - 1;
        total = Math.max(total, after);
      }
      inputs.total_sequence_length.get(kind)![0] = total;
    }
  }

  #bind(
    session: Session,
    cache: KeyValueCache,
    firstRow: number,
    rows: number,
    inputs: StepInputs,
    longest: number,
    outputs: ReadonlyMap<string, HostTensor>,
  ): { binding: Binding; release: () => void } {
    const values: RuntimeValue[] = [];
    const value = (tensor: HostTensor): RuntimeValue => {
      const created = session.createValue(tensor);
      values.push(created);
      return created;
    };
    const feeds: Record<string, RuntimeValue> = {
      input_ids: value({ type: "int64", data: inputs.input_ids, dims: [rows, longest] }),
      position_ids: value({ type: "int64", data: inputs.position_ids, dims: [rows, longest] }),
      logits_positions: value({
        type: "int64",
        data: inputs.logits_positions,
        dims: [inputs.logits_positions.length],
      }),
    };
    for (const [kind, table] of this.#rope) {
      feeds[`${kind}.cos`] = value(float32(table.cos, [table.positions, table.width]));
      feeds[`${kind}.sin`] = value(float32(table.sin, [table.positions, table.width]));
      feeds[`${kind}.seqlens_k`] = value({ type: "int32", data: inputs.seqlens_k.get(kind)!, dims: [rows] });
      feeds[`${kind}.total_sequence_length`] = value({
        type: "int32",
        data: inputs.total_sequence_length.get(kind)!,
        dims: [],
      });
    }
    const fetches: Record<string, RuntimeValue> = {};
    for (const [name, tensor] of outputs) fetches[name] = value(tensor);
    for (const [i, layer] of cache.layers.entries()) {
      const size = cache.rowElements(layer);
      const dims = [rows, layer.kv_heads, cache.capacity(layer.kind), layer.head_dim];
      for (const [j, part] of (["key", "value"] as const).entries()) {
        const data = cache.buffers[2 * i + j]!.subarray(firstRow * size, (firstRow + rows) * size);
        // The same memory on both sides: the kernel appends in place.
        feeds[`past_key_values.${i}.${part}`] = fetches[`present.${i}.${part}`] = value(float32(data, dims));
      }
    }
    const binding = session.bind(feeds, fetches);
    const release = (): void => {
      binding.dispose();
      for (const created of values.splice(0)) created.dispose();
    };
    return { binding, release };
  }

  #ensureRope(positions: number): void {
    for (const table of this.#rope.values()) if (table.ensure(positions)) this.#ropeVersion++;
  }
}

function float32(data: Float32Array, dims: readonly number[]): HostTensor {
  return { type: "float32", data, dims };
}

/** Positions, of `length` new ones, whose logits are wanted: the last so many. */
function wantedPositions(length: number, logits: LogitsWanted = "last"): number[] {
  const count = logits === "all" ? length : Math.min(length, logits === "last" ? 1 : logits);
  return Array.from({ length: count }, (_, i) => length - count + i);
}

/** [rows, longest, width] → [all tokens, width]. */
function dropPadding(
  state: Float32Array,
  rows: readonly (readonly number[])[],
  longest: number,
  width: number,
): Float32Array {
  return concatenate(
    rows.map((row, r) => state.subarray(r * longest * width, (r * longest + row.length) * width)),
  );
}

function concatenate(parts: readonly Float32Array[]): Float32Array {
  const result = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let offset = 0;
  for (const part of parts) {
    result.set(part, offset);
    offset += part.length;
  }
  return result;
}
