import type { Decoder, DecoderCache } from "../decoder.ts";
import type { GenerationConfig } from "../generation-config.ts";
import type { LogitsProcessorCall } from "../logits-processors/base.ts";
import type { Candidates } from "../logits-processors/candidates.ts";
import { largest, logSumExp } from "../math.ts";
import { TokenChooser } from "../token-chooser.ts";
import { Distribution } from "./distribution.ts";
import { type Draft, type Drafter, MAX_GUESSES, type TextSoFar } from "./draft.ts";

/** A smaller model that drafts for another with the same vocabulary. A loaded model is one. */
export interface AssistantModel {
  readonly decoder: Decoder;
  /** Its num_assistant_tokens, num_assistant_tokens_schedule and assistant_confidence_threshold count. */
  readonly generation_config?: GenerationConfig | undefined;
}

/** HF's defaults. */
const NUM_TOKENS = 20;
const SCHEDULE = "constant";
const CONFIDENCE_THRESHOLD = 0.4;

/** The stream of random numbers that guesses are drawn with; the text's own is stream 0. */
const STREAM = 2;
/** Positions that the assistant's cache reserves beyond the prompt. */
const RESERVED = 256;

export interface AssistantOptions {
  /** Of the call: what it says comes before the assistant's own configuration. */
  readonly config: GenerationConfig;
  readonly vocab_size: number;
  readonly eos: readonly number[];
  readonly seed: number | bigint;
  /** Applied to what the assistant says about its guesses. */
  readonly processors: Iterable<LogitsProcessorCall>;
  readonly signal: AbortSignal | undefined;
}

/** Guesses of a second model: the likeliest tokens or, where the text is drawn, draws of its own. */
export class Assistant implements Drafter {
  readonly #model: AssistantModel;
  readonly #samples: boolean;
  readonly #eos: readonly number[];
  readonly #chooser: TokenChooser;
  readonly #signal: AbortSignal | undefined;
  readonly #threshold: number;
  readonly #schedule: string;
  #count: number;
  #cache: DecoderCache | undefined;
  /** The tokens in the cache. */
  #held: readonly number[] = [];

  constructor(model: AssistantModel, options: AssistantOptions) {
    const [call, own] = [options.config, model.generation_config];
    this.#model = model;
    this.#samples = call.do_sample === true;
    this.#eos = options.eos;
    this.#signal = options.signal;
    this.#count = call.num_assistant_tokens ?? own?.num_assistant_tokens ?? NUM_TOKENS;
    this.#schedule = call.num_assistant_tokens_schedule ?? own?.num_assistant_tokens_schedule ?? SCHEDULE;
    this.#threshold =
      call.assistant_confidence_threshold ?? own?.assistant_confidence_threshold ?? CONFIDENCE_THRESHOLD;
    this.#chooser = new TokenChooser(options.processors, {
      rows: 1,
      vocab_size: options.vocab_size,
      do_sample: this.#samples,
      seed: options.seed,
      stream: STREAM,
      output_scores: false,
    });
  }

  async draft({ tokens, input_ids }: TextSoFar, limit: number): Promise<Draft> {
    const count = Math.min(limit, this.#count, MAX_GUESSES);
    const ids = [...input_ids];
    const guesses: number[] = [];
    const distributions: Distribution[] = [];
    let feed = this.#unseen(tokens);
    for (;;) {
      const candidates = this.#chooser.narrow([ids], await this.#step(feed));
      if (this.#samples) distributions.push(new Distribution(candidates));
      const guess = this.#chooser.pick(candidates);
      guesses.push(guess);
      if (guesses.length >= count || this.#eos.includes(guess)) break;
      if (confidence(guess, candidates, distributions.at(-1)) < this.#threshold) break;
      ids.push(BigInt(guess));
      feed = [guess];
    }
    return { tokens: guesses, ...(this.#samples && { distributions }) };
  }

  learn(right: number, guessed: number): void {
    if (this.#schedule === "constant") return;
    this.#count = right === guessed ? Math.min(MAX_GUESSES, this.#count + 2) : Math.max(1, this.#count - 1);
  }

  dispose(): void {
    // As in HF: what this text has taught holds for the assistant's next one.
    const own = this.#model.generation_config;
    if (this.#schedule === "heuristic" && own !== undefined) own.num_assistant_tokens = this.#count;
    this.#cache?.dispose();
  }

  /** Takes wrong guesses out of the cache; what it lacks then. */
  #unseen(tokens: readonly number[]): readonly number[] {
    let same = 0;
    while (same < tokens.length - 1 && this.#held[same] === tokens[same]) same++;
    if (same < this.#held.length) this.#cache?.crop(same - this.#held.length);
    this.#held = this.#held.slice(0, same);
    return tokens.slice(same);
  }

  async #step(feed: readonly number[]): Promise<Float32Array> {
    const { decoder } = this.#model;
    this.#cache ??= decoder.createCache(1, feed.length + RESERVED);
    const options = this.#signal === undefined ? {} : { signal: this.#signal };
    const { logits } = await decoder.step([feed], this.#cache, options);
    this.#held = [...this.#held, ...feed];
    return logits;
  }
}

/** The probability that the assistant gives its guess. */
function confidence(
  guess: number,
  { logits, count }: Candidates,
  distribution: Distribution | undefined,
): number {
  // A guess that is not drawn is the likeliest token.
  return distribution?.of(guess) ?? Math.exp(largest(logits, count) - logSumExp(logits, count));
}
