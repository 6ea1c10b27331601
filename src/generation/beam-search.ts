import { Tensor } from "../tensor.ts";
import { Breather } from "./breather.ts";
import { logSoftmaxInPlace } from "./math.ts";
import { type Run, sequencesTensor, stackRows } from "./run.ts";
import { Random } from "./sampling.ts";

/** Stands for "impossible" in HF's scores. Its float32 arithmetic is kept (`Math.fround`), since it decides ties. */
const IMPOSSIBLE = -1e9;

/** A sequence with its score; `parents` are the rows of each step that its new tokens come from. */
interface Beam {
  readonly ids: bigint[];
  /** Sum of log-probabilities while running; divided by the length penalty once finished. float32. */
  readonly score: number;
  readonly parents: readonly number[];
}

interface Finished extends Beam {
  readonly ended: boolean;
}

/** The beams of one prompt. */
interface Search {
  running: Beam[];
  finished: Finished[];
  /** Latches to false when no running beam can do better than the finished ones. */
  improvable: boolean;
}

/** What beam search returns. */
export interface BeamResult {
  readonly sequences: Tensor;
  readonly sequences_scores: Tensor;
  readonly beam_indices: Tensor;
}

/**
 * Beam search and beam sampling with the rules of transformers 5.18 (`_beam_search`): each step ranks
 * (1 + end tokens) * num_beams continuations of a prompt's beams, the best that go on run on, and those that end
 * among the best num_beams compete for num_beams places of finished ones.
 */
export async function beamSearch(run: Run): Promise<BeamResult> {
  const { config, prompt, rows: decoder, record } = run;
  const beams = config.num_beams ?? 1;
  const width = Math.max(2, 1 + run.eos.length) * beams;
  const randoms = prompt.rows.map((_, p) => new Random(run.seed, p));
  const searches = prompt.leftPadded.map((ids) => startSearch(ids, beams));
  const breather = new Breather();
  let scratch: Tensor | undefined;
  let length = prompt.length;
  let step = await decoder.prefill(prompt, beams);
  for (;;) {
    record.add(step, run.vocab_size);
    scratch ??= stackRows(step.logits, run.vocab_size);
    const views = rowsOf(scratch);
    for (const [r, view] of views.entries()) {
      view.set(step.logits[r]!);
      logSoftmaxInPlace(view);
      await breather.pause();
    }
    const ids = searches.flatMap((search) => search.running.map((beam) => beam.ids));
    const processed = run.processors(ids, scratch);
    record.scores?.push(processed.clone());
    const scores = rowsOf(processed);
    const ranked: Beam[][] = [];
    for (const [p, search] of searches.entries()) {
      const random = config.do_sample === true ? randoms[p] : undefined;
      ranked.push(
        bestContinuations(search, scores.slice(p * beams, (p + 1) * beams), p * beams, width, random),
      );
      await breather.pause();
    }
    const hits = run.criteria(
      ranked.flat().map((beam) => beam.ids),
      record.scores ?? null,
    );
    searches.forEach((search, p) => {
      const ends = hits.slice(p * width, (p + 1) * width);
      advance(search, ranked[p]!, ends, run, length);
    });
    length++;
    for (const search of searches) search.improvable &&= canImprove(search, run, length);
    const allFull =
      config.early_stopping === true &&
      searches.every((search) => search.finished.every((beam) => beam.ended));
    const over = allFull || !searches.some((search) => search.improvable) || hits.every(Boolean);
    const running = searches.flatMap((search) => search.running);
    decoder.reorder(running.map((beam) => beam.parents.at(-1)!));
    if (over) break;
    step = await decoder.append(running.map((beam) => Number(beam.ids.at(-1))));
  }
  return beamResult(run, searches);
}

function startSearch(ids: bigint[], beams: number): Search {
  return {
    // Only the first beam counts at first: all are equal, and continuing each would give the same text num_beams times.
    running: Array.from({ length: beams }, (_, b) => ({ ids, score: b === 0 ? 0 : IMPOSSIBLE, parents: [] })),
    finished: Array.from({ length: beams }, () => ({ ids, score: IMPOSSIBLE, parents: [], ended: false })),
    improvable: true,
  };
}

/** The `width` best continuations of a prompt's beams, best first; with `random` drawn without replacement instead. */
function bestContinuations(
  search: Search,
  scores: readonly Float32Array[],
  firstRow: number,
  width: number,
  random: Random | undefined,
): Beam[] {
  const best = new BestList(width);
  scores.forEach((row, b) => {
    const base = search.running[b]!.score;
    for (let token = 0; token < row.length; token++) {
      const score = Math.fround(row[token]! + base);
      // Adding a Gumbel variable to each and ranking draws without replacement (torch.multinomial does the same).
      const rank =
        random === undefined || score === Number.NEGATIVE_INFINITY ? score : score + random.gumbel();
      if (rank > best.least) best.add(rank, score, b * row.length + token);
    }
  });
  best.fill(scores.length * scores[0]!.length);
  return best.items.map(({ score, index }) => {
    const beam = Math.floor(index / scores[0]!.length);
    const parent = search.running[beam]!;
    const token = BigInt(index % scores[0]!.length);
    return { ids: [...parent.ids, token], score, parents: [...parent.parents, firstRow + beam] };
  });
}

/** Moves a search on by one token, given its ranked continuations and which of them end. */
function advance(search: Search, ranked: readonly Beam[], ends: boolean[], run: Run, length: number): void {
  const { config } = run;
  const beams = search.running.length;
  const generated = length + 1 - run.prompt.length;
  const full = config.early_stopping === true && search.finished.every((beam) => beam.ended);
  const closing = ranked.map((beam, i): Finished => {
    const ended = ends[i]! && i < beams;
    let score = Math.fround(beam.score / generated ** (config.length_penalty ?? 1));
    for (const excluded of [full, !search.improvable, !ended]) {
      if (excluded) score = Math.fround(score + IMPOSSIBLE);
    }
    return { ...beam, score, ended };
  });
  search.finished = topScores([...search.finished, ...closing], beams);
  const goingOn = ranked.map((beam, i) =>
    ends[i]! ? { ...beam, score: Math.fround(beam.score + IMPOSSIBLE) } : beam,
  );
  search.running = topScores(goingOn, beams);
}

/** HF's guess whether a running beam can still beat the worst finished one. */
function canImprove(search: Search, run: Run, length: number): boolean {
  const penalty = run.config.length_penalty ?? 1;
  const longest = run.config.early_stopping === "never" && penalty > 0 ? run.maxLength : length;
  const best = search.running[0]!.score / (longest - run.prompt.length) ** penalty;
  const worst = Math.min(...search.finished.map((beam) => beam.score));
  return search.finished.some((beam) => best > (beam.ended ? worst : IMPOSSIBLE));
}

function topScores<T extends Beam>(beams: readonly T[], count: number): T[] {
  return [...beams].sort((a, b) => b.score - a.score || 0).slice(0, count);
}

function beamResult(run: Run, searches: readonly Search[]): BeamResult {
  const { prompt, pad, eos } = run;
  const returned = run.config.num_return_sequences ?? 1;
  const best = searches.flatMap((search, p) =>
    search.finished.slice(0, returned).map((beam) => ({ beam, prompt: prompt.rows[p]! })),
  );
  const generated = Math.max(...best.map(({ beam }) => beam.parents.length));
  // HF takes the end token where the padding token is 0, Gemma's: a zero is false in Python.
  const fill = BigInt(pad === 0 && eos.length > 0 ? eos[0]! : pad);
  const sequences = best.map(({ beam, prompt: given }) => {
    const tokens = beam.ids.slice(prompt.length);
    return [...given, ...tokens, ...new Array<bigint>(generated - tokens.length).fill(fill)];
  });
  const indices = best.flatMap(({ beam }) => [
    ...beam.parents,
    ...new Array<number>(generated - beam.parents.length).fill(-1),
  ]);
  return {
    sequences: sequencesTensor(sequences),
    sequences_scores: new Tensor(
      "float32",
      best.map(({ beam }) => beam.score),
      [best.length],
    ),
    beam_indices: new Tensor("int32", indices, [best.length, generated]),
  };
}

function rowsOf(scores: Tensor): Float32Array[] {
  return [...scores].map((row) => row.data as Float32Array);
}

/** The best few of many, in order; the earlier one first among equals. */
class BestList {
  readonly items: { rank: number; score: number; index: number }[] = [];
  readonly #size: number;
  /** What a newcomer has to exceed. */
  least: number = Number.NEGATIVE_INFINITY;

  constructor(size: number) {
    this.#size = size;
  }

  add(rank: number, score: number, index: number): void {
    let place = this.items.length;
    while (place > 0 && this.items[place - 1]!.rank < rank) place--;
    this.items.splice(place, 0, { rank, score, index });
    if (this.items.length > this.#size) this.items.pop();
    if (this.items.length === this.#size) this.least = this.items[this.#size - 1]!.rank;
  }

  /** Makes up the number with ruled-out entries, as torch.topk does. */
  fill(entries: number): void {
    const taken = new Set(this.items.map(({ index }) => index));
    for (let index = 0; index < entries && this.items.length < this.#size; index++) {
      if (taken.has(index)) continue;
      this.items.push({ rank: Number.NEGATIVE_INFINITY, score: Number.NEGATIVE_INFINITY, index });
    }
  }
}
