import type { GraphVariant } from "../graph-variant.ts";
import type { Binding, Session } from "../runtime/session.ts";
import {
  allocateLengths,
  type CacheLengths,
  feedCache,
  feedLengths,
  fillCounts,
  fillLengths,
} from "./cache-feeds.ts";
import type { DecoderStep, StepOptions } from "./decoder.ts";
import { type DecoderModel, float32, type RopeInputs, RunValues } from "./decoder-model.ts";
import { fetchLogits, fetchStates, joinParts, type PartResult } from "./fetches.ts";
import { CHUNK, type KeyValueCache, ROLLBACK } from "./kv-cache.ts";
import type { CandidateWish } from "./split-head.ts";
import { feedTokens, type Part, slicePart, variantOf } from "./step-input.ts";

/** More tokens than this in one run of a batch go row by row, so that activations stay small. */
const MAX_BATCH_TOKENS = 2048;

/** Steps with logits of so many tokens at most, as checks of guesses are, get the same memory again each time. */
const KEPT_LOGITS = ROLLBACK + 1;

/**
 * Tokens of a stepwise run: each number is a graph of its own, and fewer tokens are padded. More go in several runs.
 */
const STEPS: readonly number[] = [4, 16];

/** One run of the graph over consecutive rows of the cache. */
interface CausalRun {
  readonly session: Session;
  readonly variant: GraphVariant;
  readonly part: Part;
  readonly cache: KeyValueCache;
  /** Memory for the logits. */
  readonly allocate: (elements: number) => Float32Array;
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
  /** Where the output layer runs apart. */
  readonly head: BoundHead | undefined;
  release(): void;
}

/** The whole output layer over the memory of a step. */
interface BoundHead {
  /** [wanted, hidden_size] */
  readonly hidden: Float32Array;
  readonly binding: Binding;
  release(): void;
}

interface StepInputs {
  readonly input_ids: BigInt64Array;
  readonly position_ids: BigInt64Array;
  readonly logits_positions: BigInt64Array;
  readonly lengths: CacheLengths;
}

/** A cache that was dropped without dispose() gives the engine's handles back when it is collected. */
const forgotten = new FinalizationRegistry<() => void>((release) => release());

/** Steps in which every token sees what its row holds: the attention kernel appends to the cache in place. */
export class CausalSteps {
  readonly #model: DecoderModel;
  readonly #rope: RopeInputs;
  readonly #bound: WeakMap<KeyValueCache, BoundStep> = new WeakMap();
  readonly #logits: WeakMap<KeyValueCache, Float32Array> = new WeakMap();
  /** Key under which caches keep the release of what this decoder bound to them. */
  readonly #released: object = {};

  constructor(model: DecoderModel, rope: RopeInputs) {
    this.#model = model;
    this.#rope = rope;
  }

  async step(
    rows: readonly (readonly number[])[],
    cache: KeyValueCache,
    options: StepOptions,
  ): Promise<DecoderStep> {
    const asked = variantOf(options, "causal", cache.quantized ? "int8" : "float32");
    const longest = Math.max(...rows.map((row) => row.length));
    const plain = asked.logits === true && asked.hidden_states === "none" && asked.input === "input_ids";
    const stepwise = options.stepwise === true && this.#model.quantised && cache.lengths.length === 1;
    const apart = plain && !stepwise && asked.cache === "float32" && this.#model.head !== undefined;
    const variant: GraphVariant = apart ? { ...asked, logits: "inputs" } : asked;
    if (longest === 1 && plain && this.#alike(rows, cache, options))
      return this.#decode(variant, rows, cache, options);
    const parts = stepwise ? this.#steps(rows, cache, options) : this.#parts(rows, cache, longest, options);
    const allocate = (elements: number): Float32Array =>
      parts.length === 1 ? this.#logitsMemory(cache, elements) : new Float32Array(elements);
    const results: PartResult[] = [];
    for (const part of parts) {
      const steps = stepwise ? part.longest : 0;
      const wanted: GraphVariant = stepwise ? { ...variant, attention: "stepwise", steps } : variant;
      const run = { session: await this.#model.session(wanted), variant: wanted, part, cache, allocate };
      results.push(await this.#run({ ...run, signal: options.signal }));
    }
    return joinParts(variant, this.#model, results);
  }

  /**
   * The kernel takes several tokens on a past at batch 1 only: a batch goes together into an empty cache, else a row
   * at a time, as does a row that is alone in having tokens. Long prompts go a chunk at a time.
   */
  #parts(
    rows: readonly (readonly number[])[],
    cache: KeyValueCache,
    longest: number,
    options: StepOptions,
  ): Part[] {
    const { hidden_size } = this.#model;
    const empty = cache.lengths.every((length) => length === 0);
    const alone = rows.length > 1 && rows.filter((row) => row.length > 0).length === 1;
    const fits = longest === 1 || (longest <= CHUNK && (rows.length === 1 || (empty && !alone)));
    if (fits && rows.length * longest <= MAX_BATCH_TOKENS && this.#alike(rows, cache, options))
      return [slicePart({ rows, cache, options, hidden_size }, 0, rows.length, 0, longest)];
    return rows.flatMap((row, r) => {
      const parts: Part[] = [];
      for (let start = 0; start < row.length; ) {
        const given = start === 0 && cache.lengths[r] === 0 ? options.position_ids?.[r] : undefined;
        const end = Math.min(row.length, start + CHUNK, given === undefined ? row.length : firstJump(given));
        parts.push(slicePart({ rows, cache, options, hidden_size }, r, r + 1, start, end));
        start = end;
      }
      return parts;
    });
  }

  /** Parts of a row for stepwise runs, of as many columns as their graphs have. */
  #steps(rows: readonly (readonly number[])[], cache: KeyValueCache, options: StepOptions): Part[] {
    const request = { rows, cache, options, hidden_size: this.#model.hidden_size };
    const most = STEPS.at(-1)!;
    return Array.from({ length: Math.ceil(rows[0]!.length / most) }, (_, i) => {
      const part = slicePart(request, 0, 1, i * most, (i + 1) * most);
      return { ...part, longest: STEPS.find((steps) => steps >= part.longest)! };
    });
  }

  /**
   * Whether the rows' positions can go to the kernel together: on an empty cache it takes the first row's first one
   * and counts on from it in all rows.
   */
  #alike(rows: readonly (readonly number[])[], cache: KeyValueCache, { position_ids }: StepOptions): boolean {
    if (position_ids === undefined || cache.lengths.some((length) => length > 0)) return true;
    const first = position_ids[0]?.[0] ?? 0;
    return rows.every((row, r) => {
      const given = position_ids[r]!;
      return row.length === 0 || (given[0] === first && firstJump(given) === row.length);
    });
  }

  /** One token a row: everything stays bound from step to step. */
  async #decode(
    variant: GraphVariant,
    rows: readonly (readonly number[])[],
    cache: KeyValueCache,
    { position_ids, signal, candidates }: StepOptions,
  ): Promise<DecoderStep> {
    const session = await this.#model.session(variant);
    cache.reserve(rows.map(() => 1));
    const positions = cache.nextPositions.map((next, row) => position_ids?.[row]?.[0] ?? next);
    this.#rope.cover([positions]);
    const active = rows.flatMap((row, r) => (row.length === 0 ? [] : [r]));
    const bound = await this.#bindStep(session, variant, cache, active.length);
    const { inputs } = bound;
    for (const [r, row] of rows.entries()) {
      inputs.input_ids[r] = BigInt(row[0] ?? 0);
      inputs.position_ids[r] = BigInt(positions[r]!);
    }
    fillLengths(inputs.lengths, rows, cache, 0);
    inputs.logits_positions.set(active.map(BigInt));
    await bound.binding.run(signal === undefined ? {} : { signal });
    const step = await (candidates !== undefined && rows.length === 1 && bound.head !== undefined
      ? this.#choose(bound, bound.head, candidates, signal)
      : this.#allLogits(bound, signal));
    cache.commit(
      rows.map((row) => row.length),
      position_ids ?? [],
    );
    return step;
  }

  /** The tokens that matter, or all logits where it takes those to tell. */
  async #choose(
    bound: BoundStep,
    { hidden }: BoundHead,
    wish: CandidateWish,
    signal: AbortSignal | undefined,
  ): Promise<DecoderStep> {
    const candidates = await this.#model.head?.candidates(hidden, wish, signal);
    return candidates === undefined
      ? this.#allLogits(bound, signal)
      : { logits: new Float32Array(0), candidates };
  }

  async #allLogits({ head, logits }: BoundStep, signal: AbortSignal | undefined): Promise<DecoderStep> {
    await head?.binding.run(signal === undefined ? {} : { signal });
    return { logits };
  }

  async #bindHead(logits: Float32Array, wanted: number): Promise<BoundHead | undefined> {
    const hidden = new Float32Array(wanted * this.#model.hidden_size);
    const head = await this.#model.head?.bind(hidden, logits);
    return head && { hidden, ...head };
  }

  async #bindStep(
    session: Session,
    variant: GraphVariant,
    cache: KeyValueCache,
    wanted: number,
  ): Promise<BoundStep> {
    const held = this.#bound.get(cache);
    const fresh =
      held?.session === session &&
      held.cacheVersion === cache.version &&
      held.ropeVersion === this.#rope.version &&
      held.inputs.logits_positions.length === wanted;
    if (held !== undefined && fresh) return held;
    held?.release();
    const { batch } = cache;
    const inputs: StepInputs = {
      input_ids: new BigInt64Array(batch),
      position_ids: new BigInt64Array(batch),
      logits_positions: new BigInt64Array(wanted),
      lengths: allocateLengths(this.#rope.kinds, batch),
    };
    const logits = new Float32Array(wanted * this.#model.logits_size);
    const run = new RunValues(session);
    run.feed("input_ids", { type: "int64", data: inputs.input_ids, dims: [batch, 1] });
    run.feed("position_ids", { type: "int64", data: inputs.position_ids, dims: [batch, 1] });
    run.feed("logits_positions", { type: "int64", data: inputs.logits_positions, dims: [wanted] });
    const head = variant.logits === "inputs" ? await this.#bindHead(logits, wanted) : undefined;
    if (head === undefined) run.fetch("logits", float32(logits, [wanted, this.#model.logits_size]));
    else run.fetch("head_inputs", float32(head.hidden, [wanted, this.#model.hidden_size]));
    this.#rope.feed(run);
    feedLengths(run, inputs.lengths);
    feedCache(run, cache, 0, batch, variant);
    const { binding, release: releaseStep } = run.bind();
    const release = (): void => {
      releaseStep();
      head?.release();
    };
    const bound = {
      binding,
      session,
      cacheVersion: cache.version,
      ropeVersion: this.#rope.version,
      logits,
      inputs,
      head,
      release,
    };
    this.#bound.set(cache, bound);
    forgotten.unregister(cache);
    forgotten.register(cache, release, cache);
    cache.onDispose(this.#released, release);
    return bound;
  }

  /** Memory for logits, until the next step on this cache. */
  #logitsMemory(cache: KeyValueCache, elements: number): Float32Array {
    const { logits_size } = this.#model;
    if (elements <= logits_size || elements > KEPT_LOGITS * logits_size) return new Float32Array(elements);
    let kept = this.#logits.get(cache);
    if (kept === undefined || kept.length < elements) {
      kept = new Float32Array(elements);
      this.#logits.set(cache, kept);
    }
    return kept.subarray(0, elements);
  }

  async #run({ session, variant, part, cache, allocate, signal }: CausalRun): Promise<PartResult> {
    const { firstRow, tokens, logitsPositions } = part;
    const counts = cache.lengths.map((_, row) => tokens[row - firstRow]?.length ?? 0);
    const taken = (row: number): boolean => row >= firstRow && row < firstRow + tokens.length;
    // An empty row runs a dummy token that is not kept; so do the columns that a stepwise run has too many.
    cache.reserve(counts.map((count, row) => (taken(row) ? Math.max(1, variant.steps, count) : 0)));
    this.#rope.cover(part.position_ids);
    const run = new RunValues(session);
    feedTokens(run, part, this.#model.hidden_size);
    this.#rope.feed(run);
    if (variant.attention === "stepwise") {
      for (let step = 0; step < variant.steps; step++) {
        const lengths = allocateLengths(this.#rope.kinds, 1);
        fillCounts(lengths, cache, 0, [step + 1]);
        feedLengths(run, lengths, `.${step}`);
      }
    } else {
      const lengths = allocateLengths(this.#rope.kinds, tokens.length);
      fillLengths(lengths, tokens, cache, firstRow);
      feedLengths(run, lengths);
    }
    feedCache(run, cache, firstRow, tokens.length, variant);
    const logits = fetchLogits(run, variant, logitsPositions, this.#model, allocate);
    const states = fetchStates(run, variant, part, this.#model);
    await run.run(signal);
    await logits.finish(signal);
    const positions = new Array<readonly number[] | undefined>(firstRow).fill(undefined);
    cache.commit(counts, [...positions, ...part.position_ids]);
    return { logits: logits.values, states: states() };
  }
}

/** Where positions stop counting up by one: an index, or their number. */
function firstJump(positions: readonly number[]): number {
  const jump = positions.findIndex((position, i) => position !== positions[0]! + i);
  return jump === -1 ? positions.length : jump;
}
