import { Tensor } from "../../tensor.ts";
import { Breather } from "../breather.ts";
import type { RowsStep } from "../decoder-rows.ts";
import { type Run, sequencesTensor } from "../run.ts";
import { Random } from "../sampling.ts";
import { TokenChooser } from "../token-chooser.ts";
import { Distribution } from "./distribution.ts";
import { type Draft, type Drafter, MAX_GUESSES, NO_DRAFT } from "./draft.ts";

/** The stream of random numbers that drawn guesses are settled with; draws without a guess are stream 0. */
const STREAM = 1;

/**
 * Greedy decoding and sampling of one row with guesses at its next tokens, which the model then checks in one run.
 * Every token is chosen, recorded and streamed in its turn as in the plain loop, by processors and criteria that see
 * only what is settled; a guess merely saves a run where it was right.
 */
export async function speculativeLoop(run: Run, drafter: Drafter): Promise<Tensor> {
  const row = new SpeculativeRow(run);
  run.streamer?.put([[...run.prompt.rows[0]!]]);
  let draft = NO_DRAFT;
  let steps = [await run.rows.prefill(run.prompt, 1)];
  for (;;) {
    const settled = await row.settle(steps, draft);
    if (row.done) return row.sequences();
    if (draft.tokens.length > 0) drafter.learn(settled - 1, draft.tokens.length);
    // The last token that fits is chosen but never computed.
    const limit = Math.min(MAX_GUESSES, run.maxLength - row.input_ids.length - 1);
    draft = limit > 0 ? await drafter.draft(row, limit) : NO_DRAFT;
    steps = await run.rows.extend([row.tokens.at(-1)!, ...draft.tokens]);
  }
}

/** The only row of a run: its tokens, and how the next ones are settled. */
class SpeculativeRow {
  /** Without padding. */
  readonly tokens: number[];
  readonly input_ids: bigint[];
  done = false;
  readonly #run: Run;
  readonly #chooser: TokenChooser;
  readonly #random: Random;

  constructor(run: Run) {
    this.tokens = [...run.prompt.tokens[0]!];
    this.input_ids = [...run.prompt.leftPadded[0]!];
    this.#run = run;
    this.#random = new Random(run.seed, STREAM);
    this.#chooser = new TokenChooser(run.processors, {
      rows: 1,
      vocab_size: run.vocab_size,
      do_sample: run.config.do_sample === true,
      seed: run.seed,
      output_scores: run.record.scores !== undefined,
    });
  }

  /**
   * Chooses a token from each step (the first is about what follows the text so far, the others about what follows
   * each guess) until one differs from the guess or ends the text. Returns how many were chosen; the guesses after
   * them are taken out of the cache.
   */
  async settle(steps: readonly RowsStep[], draft: Draft): Promise<number> {
    const { record, vocab_size, criteria, streamer, rows } = this.#run;
    const breather = new Breather();
    let settled = 0;
    try {
      for (const [i, step] of steps.entries()) {
        await breather.pause();
        record.add(step, vocab_size);
        const token = await this.#choose(step, draft.tokens[i], draft.distributions?.[i]);
        settled++;
        this.tokens.push(token);
        this.input_ids.push(BigInt(token));
        this.done = criteria([this.input_ids], record.scores ?? null)[0]!;
        streamer?.put([[BigInt(token)]]);
        if (this.done || token !== draft.tokens[i]) break;
      }
    } finally {
      // An error too leaves no guess in a cache that is the caller's.
      rows.retract(steps.length - Math.max(1, settled));
    }
    return settled;
  }

  sequences(): Tensor {
    const { prompt } = this.#run;
    return sequencesTensor([[...prompt.rows[0]!, ...this.input_ids.slice(prompt.length)]]);
  }

  /** A drawn guess is settled by the probabilities of both models; without one the token is chosen as ever. */
  async #choose(
    step: RowsStep,
    guess: number | undefined,
    drawnFrom: Distribution | undefined,
  ): Promise<number> {
    const { record, vocab_size } = this.#run;
    if (guess === undefined || drawnFrom === undefined) {
      const { tokens, scores } = await this.#chooser.choose([this.input_ids], step.logits);
      if (scores !== undefined) record.scores?.push(scores);
      return tokens[0]!;
    }
    const candidates = this.#chooser.narrow([this.input_ids], step.logits[0]!);
    if (record.scores !== undefined) {
      const scores = new Float32Array(vocab_size);
      candidates.writeTo(scores, Number.NEGATIVE_INFINITY);
      record.scores.push(new Tensor("float32", scores, [1, vocab_size]));
    }
    return new Distribution(candidates).settle(guess, drawnFrom, this.#random);
  }
}
