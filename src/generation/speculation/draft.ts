import { ROLLBACK } from "../kv-cache.ts";
import type { Distribution } from "./distribution.ts";

/** Guesses at how a text goes on. */
export interface Draft {
  readonly tokens: readonly number[];
  /** What each guess was drawn from, where guesses are drawn. */
  readonly distributions?: readonly Distribution[];
}

/** The text so far, as the loop holds it. */
export interface TextSoFar {
  /** What the model has seen and the token it sees next. */
  readonly tokens: readonly number[];
  /** The same with the padding of the prompt: what processors see. */
  readonly input_ids: readonly bigint[];
}

/** Where guesses come from. */
export interface Drafter {
  /** At most `limit` (1 or more) guesses; none where there is nothing to go by. */
  draft(text: TextSoFar, limit: number): Draft | Promise<Draft>;
  /** Tells how many of the last draft's guesses, of which there were some, were right. */
  learn(right: number, guessed: number): void;
  /** Called once, when generation is over. */
  dispose(): void;
}

/** Guesses for one run at most: every cache can take back so many. */
export const MAX_GUESSES: number = ROLLBACK;

export const NO_DRAFT: Draft = { tokens: [] };
