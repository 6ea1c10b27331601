import { RunQueue } from "../runtime/run-queue.ts";
import type { Session } from "../runtime/session.ts";
import { float32, RunValues } from "./decoder-model.ts";
import { allocateInput, BLOCK, inputValues, type RoundedInput, roundInput, scoreRows } from "./exact-rows.ts";
import { kthLargest } from "./logits-processors/selection.ts";
import { argmax } from "./math.ts";

/** Which tokens a caller has use for: those whose logit is at least the `count`-th largest minus `below`. */
export interface CandidateWish {
  readonly count: number;
  readonly below: number;
}

/** Tokens, ascending, with their logits: all that a wish asks for and some more. */
export interface ScoredTokens {
  readonly ids: Int32Array;
  readonly logits: Float32Array;
}

/** A 4-bit copy of the output layer that says which rows can matter: see src/quantization/screen.ts. */
export interface HeadScreen {
  /** `head_inputs` [1, hidden_size] to `scores` [1, rows]. */
  readonly session: Session;
  /** The error of a row's score is at most this times `factor`. */
  readonly bounds: Float32Array;
  /** Columns that the screen has twice. */
  readonly refined: Int32Array;
  factor(input: Float64Array, fineInput: Float64Array): number;
}

/** An output layer that runs apart from the layers before it. */
export interface HeadSessions {
  readonly hidden_size: number;
  readonly logits_size: number;
  /** `head_inputs` [rows, hidden_size] to `logits` [rows, logits_size]. */
  full(): Promise<Session>;
  /** `ids` [count] to `codes` uint8 [count, hidden_size] and `scales` [count, hidden_size / 32] of the layer's rows. */
  rows(): Promise<Session>;
  /** Undefined where the layer has none. */
  screen(): Promise<HeadScreen | undefined>;
}

/**
 * Rows that are scored exactly at most: beyond so many the whole layer is faster. JavaScript scores a row in 1 to 2 µs,
 * and the screen leaves 60 to 300 for the largest logit of the 270M, some thousands for the 64 largest.
 */
const MOST_ROWS = 2048;
/** Calls for which a kind of wish goes without the screen, at most, once it has left too many rows again and again. */
const LONGEST_PAUSE = 64;
/** Rows of one look-up: as few as suffice. */
const LOOK_UPS: readonly number[] = [32, 256, 2048];
/** The k-th largest of so many times k rows is a good guess at the k-th largest of all. */
const SEEDS = 4;
/** Rows whose numbers are compared with the engine's before the first use. */
const CHECKED = 256;

/**
 * Chooses tokens in two passes. The screen's scores and their bounds leave the few rows that can be among the wanted
 * ones; of these the very numbers are computed that the layer's kernel gives. Whether they are is checked against the
 * engine itself at the first use; where they are not (another kind of processor), or too many rows are left, the
 * answer is undefined and the whole layer has to run.
 */
export class SplitHead {
  readonly #sessions: HeadSessions;
  readonly #queue = new RunQueue();
  #passes: Promise<TwoPasses | undefined> | undefined;
  /** By how many tokens are wished for: calls still to be left out, and how many the next time. */
  readonly #pauses = new Map<number, { left: number; next: number }>();

  constructor(sessions: HeadSessions) {
    this.#sessions = sessions;
  }

  /** Binds the whole layer to memory: `hidden` [rows, hidden_size], `logits` [rows, logits_size]. */
  async bind(hidden: Float32Array, logits: Float32Array): Promise<ReturnType<RunValues["bind"]>> {
    return this.#values(await this.#sessions.full(), hidden, logits).bind();
  }

  /** The logits of all tokens. */
  async run(hidden: Float32Array, logits: Float32Array, signal: AbortSignal | undefined): Promise<void> {
    await this.#values(await this.#sessions.full(), hidden, logits).run(signal);
  }

  /** The tokens that matter after one hidden state; undefined where all have to be computed. */
  async candidates(
    hidden: Float32Array,
    wish: CandidateWish,
    signal: AbortSignal | undefined,
  ): Promise<ScoredTokens | undefined> {
    let result: ScoredTokens | undefined;
    const pause = this.#pauses.get(wish.count) ?? { left: 0, next: 1 };
    this.#pauses.set(wish.count, pause);
    if (pause.left-- > 0) return undefined;
    const task = async (): Promise<void> => {
      this.#passes ??= this.#open(hidden);
      const passes = await this.#passes;
      result = await passes?.select(hidden, wish, signal);
    };
    await this.#queue.run(task, signal);
    pause.next = result === undefined ? Math.min(2 * pause.next, LONGEST_PAUSE) : 1;
    pause.left = result === undefined ? pause.next : 0;
    return result;
  }

  /** A failure is no reason to stop: the whole layer gives the same. */
  async #open(hidden: Float32Array): Promise<TwoPasses | undefined> {
    const { hidden_size, logits_size } = this.#sessions;
    if (hidden_size % BLOCK !== 0 || logits_size % 4 !== 0) return undefined;
    const screen = await this.#sessions.screen();
    if (screen === undefined) return undefined;
    const passes = new TwoPasses(this.#sessions, screen);
    const logits = new Float32Array(logits_size);
    await this.run(hidden, logits, undefined);
    return (await passes.agreeWith(hidden, logits)) ? passes : undefined;
  }

  #values(session: Session, hidden: Float32Array, logits: Float32Array): RunValues {
    const { hidden_size, logits_size } = this.#sessions;
    const rows = hidden.length / hidden_size;
    const run = new RunValues(session);
    run.feed("head_inputs", float32(hidden, [rows, hidden_size]));
    run.fetch("logits", float32(logits, [rows, logits_size]));
    return run;
  }
}

/** The screen and the look-up of rows, bound to memory of their own. */
class TwoPasses {
  readonly #sessions: HeadSessions;
  readonly #screen: HeadScreen;
  readonly #hidden: Float32Array;
  readonly #scores: Float32Array;
  readonly #run: ReturnType<RunValues["bind"]>;
  readonly #input: RoundedInput;
  readonly #fineInput: RoundedInput;
  readonly #values: Float64Array;
  readonly #fineValues: Float64Array;
  #lookUps: { session: Session; sizes: Map<number, LookUp> } | undefined;

  constructor(sessions: HeadSessions, screen: HeadScreen) {
    const { hidden_size, logits_size } = sessions;
    this.#sessions = sessions;
    this.#screen = screen;
    this.#hidden = new Float32Array(hidden_size);
    this.#scores = new Float32Array(logits_size);
    this.#input = allocateInput(hidden_size);
    this.#fineInput = allocateInput(screen.refined.length);
    this.#values = new Float64Array(hidden_size);
    this.#fineValues = new Float64Array(screen.refined.length);
    const run = new RunValues(screen.session);
    run.feed("head_inputs", float32(this.#hidden, [1, hidden_size]));
    run.fetch("scores", float32(this.#scores, [1, logits_size]));
    this.#run = run.bind();
  }

  async select(
    hidden: Float32Array,
    { count, below }: CandidateWish,
    signal: AbortSignal | undefined,
  ): Promise<ScoredTokens | undefined> {
    const factor = await this.#firstPass(hidden, signal);
    // Where the hidden state holds NaN, nothing can be ruled out.
    if (!Number.isFinite(factor)) return undefined;
    const seeds = largestEntries(this.#scores, count === 1 ? 1 : SEEDS * count);
    const known = await this.#score(seeds, signal);
    const floor = (count === 1 ? known[0]! : kthLargest(known, known.length, count)) - below;
    const ids = entriesFrom(this.#scores, this.#screen.bounds, factor, floor);
    return ids && { ids, logits: await this.#score(ids, signal) };
  }

  /** Whether the bounds hold and the rows' numbers are the engine's, for the hidden state with these logits. */
  async agreeWith(hidden: Float32Array, logits: Float32Array): Promise<boolean> {
    const factor = await this.#firstPass(hidden, undefined);
    const { bounds } = this.#screen;
    for (let i = 0; i < logits.length; i++) {
      // Negated, so that NaN fails.
      if (!(Math.abs(this.#scores[i]! - logits[i]!) <= factor * bounds[i]!)) return false;
    }
    const checked = Math.min(CHECKED, logits.length);
    const spread = Int32Array.from({ length: checked }, (_, i) =>
      Math.floor(((i + 0.5) * logits.length) / checked),
    );
    for (const ids of [spread, largestEntries(logits, checked)]) {
      const scores = await this.#score(ids, undefined);
      if (scores.some((score, i) => score !== logits[ids[i]!])) return false;
    }
    return true;
  }

  /** Fills the scores; what their errors are at most, in units of the rows' bounds. */
  async #firstPass(hidden: Float32Array, signal: AbortSignal | undefined): Promise<number> {
    const { refined } = this.#screen;
    this.#hidden.set(hidden);
    await this.#run.binding.run(signal === undefined ? {} : { signal });
    roundInput(this.#hidden, this.#input);
    roundInput(
      Float32Array.from(refined, (column) => hidden[column]!),
      this.#fineInput,
    );
    inputValues(this.#input, this.#values);
    inputValues(this.#fineInput, this.#fineValues);
    return this.#screen.factor(this.#values, this.#fineValues);
  }

  /** The logits of rows, as the layer's kernel gives them. */
  async #score(ids: Int32Array, signal: AbortSignal | undefined): Promise<Float32Array> {
    const scores = new Float32Array(ids.length);
    const most = LOOK_UPS.at(-1)!;
    for (let start = 0; start < ids.length; start += most) {
      const part = ids.subarray(start, start + most);
      const rows = await this.#lookUp(part, signal);
      scoreRows(this.#input, rows.codes, rows.scales, part.length, scores.subarray(start));
    }
    return scores;
  }

  async #lookUp(ids: Int32Array, signal: AbortSignal | undefined): Promise<LookUp> {
    const session = await this.#sessions.rows();
    if (this.#lookUps?.session !== session) this.#lookUps = { session, sizes: new Map() };
    const { sizes } = this.#lookUps;
    const size = LOOK_UPS.find((rows) => rows >= ids.length)!;
    const lookUp = sizes.get(size) ?? bindLookUp(session, size, this.#hidden.length);
    sizes.set(size, lookUp);
    for (let i = 0; i < ids.length; i++) lookUp.ids[i] = BigInt(ids[i]!);
    await lookUp.binding.run(signal === undefined ? {} : { signal });
    return lookUp;
  }
}

type LookUp = ReturnType<typeof bindLookUp>;

/** Memory for rows of K elements, bound to the session that looks them up. */
function bindLookUp(session: Session, size: number, K: number) {
  const ids = new BigInt64Array(size);
  const codes = new Uint8Array(size * K);
  const scales = new Float32Array((size * K) / BLOCK);
  const run = new RunValues(session);
  run.feed("ids", { type: "int64", data: ids, dims: [size] });
  run.fetch("codes", { type: "uint8", data: codes, dims: [size, K] });
  run.fetch("scales", float32(scales, [size, K / BLOCK]));
  return { ids, codes, scales, ...run.bind() };
}

/** Positions of the `count` largest entries, ascending; some more where entries are equal. */
function largestEntries(values: Float32Array, count: number): Int32Array {
  if (count === 1) return Int32Array.of(argmax(values));
  const wanted = Math.min(count, values.length);
  const least = kthLargest(values, values.length, wanted);
  const found: number[] = [];
  for (let i = 0; i < values.length; i++) if (values[i]! >= least) found.push(i);
  // Many equal ones: any are good enough to begin with.
  return Int32Array.from(found.slice(0, 2 * wanted));
}

/** Rows whose score may be `floor` or more, ascending; undefined where they are too many. */
function entriesFrom(
  scores: Float32Array,
  bounds: Float32Array,
  factor: number,
  floor: number,
): Int32Array | undefined {
  const found = new Int32Array(MOST_ROWS);
  let count = 0;
  for (let i = 0; i < scores.length; i++) {
    if (scores[i]! + factor * bounds[i]! < floor) continue;
    if (count === MOST_ROWS) return undefined;
    found[count++] = i;
  }
  return found.subarray(0, count);
}
