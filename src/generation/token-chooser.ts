import { Tensor } from "../tensor.ts";
import { Breather } from "./breather.ts";
import { CandidateWarper, type LogitsProcessorCall, LogitsProcessorList } from "./logits-processors/base.ts";
import { Candidates } from "./logits-processors/candidates.ts";
import { MinPLogitsWarper, TemperatureLogitsWarper, TopKLogitsWarper } from "./logits-processors/warpers.ts";
import { argmax } from "./math.ts";
import { checkScore, drawToken, Random } from "./sampling.ts";
import type { CandidateWish, ScoredTokens } from "./split-head.ts";

export interface TokenChooserOptions {
  readonly rows: number;
  readonly vocab_size: number;
  readonly do_sample: boolean;
  readonly seed: number | bigint;
  /** Whether to return the processed scores. */
  readonly output_scores: boolean;
  /** The first row's stream of random numbers; 0 without. */
  readonly stream?: number;
}

/** Chooses each row's next token: processors on whole rows, then warpers on what they leave, then a draw or argmax. */
export class TokenChooser {
  readonly #options: TokenChooserOptions;
  readonly #processors: LogitsProcessorList;
  readonly #warpers: CandidateWarper[] = [];
  readonly #randoms: Random[];
  #scratch: Float32Array | undefined;

  constructor(processors: Iterable<LogitsProcessorCall>, options: TokenChooserOptions) {
    const all = [...processors];
    // The warpers at the end of the chain work on candidates; what needs whole rows comes before them.
    while (isCandidateWarper(all.at(-1))) this.#warpers.unshift(all.pop() as unknown as CandidateWarper);
    this.#processors = new LogitsProcessorList(all);
    this.#options = options;
    this.#randoms = Array.from(
      { length: options.rows },
      (_, row) => new Random(options.seed, (options.stream ?? 0) + row),
    );
  }

  /** What suffices to choose the only row's next token; undefined where that takes all logits. */
  get wish(): CandidateWish | undefined {
    const { rows, do_sample, output_scores } = this.#options;
    if (rows > 1 || output_scores || this.#processors.length > 0) return undefined;
    let temperature = 1;
    for (const warper of this.#warpers) {
      if (warper instanceof TemperatureLogitsWarper) temperature *= warper.temperature;
      else return narrowing(warper, temperature);
    }
    // Dividing by a temperature may make logits equal that were not.
    return do_sample || this.#warpers.length > 0 ? undefined : { count: 1, below: 0 };
  }

  /** Chooses the only row's next token from those that `wish` asked for. */
  chooseAmong(tokens: ScoredTokens): number {
    return this.pick(this.#narrow(Candidates.among(tokens)));
  }

  /** Rows without logits get no token. */
  async choose(
    input_ids: bigint[][],
    logits: readonly (Float32Array | undefined)[],
  ): Promise<{ tokens: (number | undefined)[]; scores: Tensor | undefined }> {
    const { vocab_size, rows, output_scores } = this.#options;
    const processed = this.#process(input_ids, logits);
    const kept = output_scores ? new Float32Array(rows * vocab_size) : undefined;
    const breather = new Breather();
    const tokens: (number | undefined)[] = [];
    for (let row = 0; row < rows; row++) {
      const scores = processed[row];
      tokens.push(
        scores && this.#chooseOne(scores, row, kept?.subarray(row * vocab_size, (row + 1) * vocab_size)),
      );
      if (row + 1 < rows) await breather.pause();
    }
    return { tokens, scores: kept && new Tensor("float32", kept, [rows, vocab_size]) };
  }

  /** What the next token of the only row is chosen from. Holds until the next call, and the next step of the model. */
  narrow(input_ids: bigint[][], logits: Float32Array): Candidates {
    return this.#warp(this.#process(input_ids, [logits])[0]!);
  }

  /** A draw or the likeliest for one row. */
  pick(candidates: Candidates, row = 0): number {
    if (this.#options.do_sample) return drawToken(candidates, this.#randoms[row]!);
    const best = argmax(candidates.logits.subarray(0, candidates.count));
    checkScore(candidates.logits[best]!);
    return candidates.idAt(best);
  }

  #process(
    input_ids: bigint[][],
    logits: readonly (Float32Array | undefined)[],
  ): readonly (Float32Array | undefined)[] {
    if (this.#processors.length === 0) return logits;
    const { rows, vocab_size } = this.#options;
    this.#scratch ??= new Float32Array(rows * vocab_size);
    for (let row = 0; row < rows; row++) {
      // Rows that are over take part with zeros, so that the rows of ids and scores stay the same.
      if (logits[row] === undefined) this.#scratch.fill(0, row * vocab_size, (row + 1) * vocab_size);
      else this.#scratch.set(logits[row]!, row * vocab_size);
    }
    const result = this.#processors(input_ids, new Tensor("float32", this.#scratch, [rows, vocab_size]));
    const data = result.data as Float32Array;
    return logits.map((view, row) => view && data.subarray(row * vocab_size, (row + 1) * vocab_size));
  }

  #chooseOne(scores: Float32Array, row: number, kept: Float32Array | undefined): number {
    if (this.#warpers.length === 0 && !this.#options.do_sample) {
      kept?.set(scores);
      const token = argmax(scores);
      checkScore(scores[token]!);
      return token;
    }
    const candidates = this.#warp(scores);
    if (kept !== undefined) candidates.writeTo(kept, Number.NEGATIVE_INFINITY);
    return this.pick(candidates, row);
  }

  #warp(scores: Float32Array): Candidates {
    return this.#narrow(new Candidates(scores));
  }

  #narrow(candidates: Candidates): Candidates {
    for (const warper of this.#warpers) warper.warp(candidates);
    return candidates;
  }
}

/** More tokens than this are as fast found among all. */
const MOST_WISHED = 256;

/** What a first warper leaves, if it is one that looks at the largest scores alone. */
function narrowing(warper: CandidateWarper, temperature: number): CandidateWish | undefined {
  if (warper instanceof TopKLogitsWarper && warper.top_k <= MOST_WISHED)
    return { count: warper.top_k, below: 0 };
  if (warper instanceof MinPLogitsWarper && warper.min_tokens_to_keep === 1 && warper.min_p > 0) {
    // The warper's own arithmetic, in float32, may round the other way.
    return { count: 1, below: -Math.log(warper.min_p) * temperature * (1 + 1e-5) + 1e-4 };
  }
  return undefined;
}

function isCandidateWarper(processor: unknown): boolean {
  return (
    processor instanceof CandidateWarper &&
    processor._call === CandidateWarper.prototype._call &&
    processor.filter_value === Number.NEGATIVE_INFINITY
  );
}
