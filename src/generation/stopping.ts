import { Callable } from "../callable.ts";
import { InputError } from "../errors.ts";
import type { Tensor } from "../tensor.ts";
import { integerFrom, invalid, numberWhere, tokenIds } from "./checks.ts";
import { namedArguments, type TokenRows, tokenRows } from "./logits-processors/base.ts";

/** What a criterion is as a function: for each row whether it is done, or one answer for all. */
export type StoppingCriteriaCall = (
  input_ids: TokenRows,
  scores?: readonly Tensor[] | null,
) => boolean[] | boolean;

/**
 * Base of everything that ends rows. Extend it and define `_call(input_ids: bigint[][], scores): boolean[]`;
 * `input_ids` are the rows so far, new token included. `scores` are there with `output_scores` and
 * `return_dict_in_generate`. Instances can be called like functions.
 */
export class StoppingCriteria extends Callable<StoppingCriteriaCall> {
  _call(_input_ids: bigint[][], _scores?: readonly Tensor[] | null): boolean[] | boolean {
    throw new InputError(`${this.constructor.name} does not define _call(input_ids, scores)`);
  }
}

/** Criteria of which any one ends a row. */
export class StoppingCriteriaList extends Callable<
  (input_ids: TokenRows, scores?: readonly Tensor[] | null) => boolean[]
> {
  criteria: StoppingCriteriaCall[] = [];

  constructor(criteria: StoppingCriteriaCall | Iterable<StoppingCriteriaCall> = []) {
    super();
    this.extend(criteria);
  }

  push(...items: StoppingCriteriaCall[]): void {
    this.extend(items);
  }

  /** Takes a list, an array, or one criterion. */
  extend(items: StoppingCriteriaCall | Iterable<StoppingCriteriaCall>): void {
    const list =
      items instanceof StoppingCriteriaList || !isOne(items) ? [...(items as Iterable<unknown>)] : [items];
    for (const item of list) {
      if (typeof item !== "function") {
        throw new InputError("a stopping criterion must extend StoppingCriteria or be a function", {
          option: "stopping_criteria",
        });
      }
      this.criteria.push(item as StoppingCriteriaCall);
    }
  }

  override get length(): number {
    return this.criteria.length;
  }

  _call(input_ids: TokenRows, scores?: readonly Tensor[] | null): boolean[] {
    const rows = tokenRows(input_ids).length;
    const done = new Array<boolean>(rows).fill(false);
    for (const criterion of this.criteria) {
      const answer: unknown = criterion(input_ids, scores);
      if (typeof answer !== "boolean" && !(Array.isArray(answer) && answer.length === rows)) {
        throw new InputError(`a stopping criterion must return ${rows} booleans`, {
          option: "stopping_criteria",
        });
      }
      for (let row = 0; row < rows; row++)
        done[row] ||= Boolean(Array.isArray(answer) ? answer[row] : answer);
    }
    return done;
  }

  [Symbol.iterator](): IterableIterator<StoppingCriteriaCall> {
    return this.criteria.values();
  }
}

function isOne(items: unknown): items is StoppingCriteriaCall {
  return typeof items === "function" || typeof (items as Iterable<unknown>)[Symbol.iterator] !== "function";
}

/** Ends rows at a length, prompt (with its padding) included. */
export class MaxLengthCriteria extends StoppingCriteria {
  readonly max_length: number;

  constructor(max_length: number, max_position_embeddings?: number | null);
  constructor(options: { max_length: number; max_position_embeddings?: number | null });
  constructor(...given: unknown[]) {
    super();
    const options = namedArguments("MaxLengthCriteria", ["max_length", "max_position_embeddings"], given);
    this.max_length = integerFrom("max_length", options.max_length, 0);
  }

  override _call(input_ids: TokenRows): boolean[] {
    return tokenRows(input_ids).map((ids) => ids.length >= this.max_length);
  }
}

/** Ends all rows once `max_time` seconds have passed since it was made, or since `initial_timestamp` (in s). */
export class MaxTimeCriteria extends StoppingCriteria {
  readonly max_time: number;
  readonly initial_timestamp: number;

  constructor(max_time: number, initial_timestamp?: number);
  constructor(options: { max_time: number; initial_timestamp?: number });
  constructor(...given: unknown[]) {
    super();
    const options = namedArguments("MaxTimeCriteria", ["max_time", "initial_timestamp"], given);
    this.max_time = numberWhere("max_time", options.max_time, "a number of seconds", (n) => n >= 0);
    const start = options.initial_timestamp ?? secondsNow();
    this.initial_timestamp = numberWhere("initial_timestamp", start, "a time in seconds");
  }

  override _call(): boolean {
    return secondsNow() - this.initial_timestamp >= this.max_time;
  }
}

/** Seconds since 1970, without the leaps of a clock that is set meanwhile. */
function secondsNow(): number {
  return (performance.timeOrigin + performance.now()) / 1000;
}

/** Ends rows whose last token is one of the end tokens. */
export class EosTokenCriteria extends StoppingCriteria {
  readonly eos_token_id: readonly number[];

  constructor(eos_token_id: number | readonly number[] | { eos_token_id: number | readonly number[] });
  constructor(...given: unknown[]) {
    super();
    const options = namedArguments("EosTokenCriteria", ["eos_token_id"], given);
    this.eos_token_id = tokenIds("eos_token_id", options.eos_token_id);
  }

  override _call(input_ids: TokenRows): boolean[] {
    return tokenRows(input_ids).map((ids) => this.eos_token_id.includes(Number(ids[ids.length - 1])));
  }
}

/** Ends all rows after `interrupt()`, until `reset()`: a stop button. */
export class InterruptableStoppingCriteria extends StoppingCriteria {
  interrupted = false;

  interrupt(): void {
    this.interrupted = true;
  }

  reset(): void {
    this.interrupted = false;
  }

  override _call(): boolean {
    return this.interrupted;
  }
}

/** What stop strings and streamers need of a tokenizer. */
export interface TokenDecoder {
  decode(ids: number[], options?: { skip_special_tokens?: boolean }): string;
  /** Where it exists, it tells tokens of single bytes (<0x0A>) from others. */
  convert_ids_to_tokens?(ids: number[]): (string | null | undefined)[];
}

const REPLACEMENT = /^\uFFFD+$/;
const BYTE_TOKEN = /^<0x[0-9A-Fa-f]{2}>$/;

/** Whether a token stands for a single byte, or decodes alone to no character: its text depends on its neighbours. */
export function isByteToken(tokenizer: TokenDecoder, id: number): boolean {
  const token = tokenizer.convert_ids_to_tokens?.([id])[0];
  if (typeof token === "string") return BYTE_TOKEN.test(token);
  return REPLACEMENT.test(tokenizer.decode([id], { skip_special_tokens: false }));
}

/**
 * Ends rows whose last token completes a stop string. As in HF a match counts only if the last token takes part in
 * it; it may begin in the prompt, and the last token may go on beyond it.
 */
export class StopStringCriteria extends StoppingCriteria {
  readonly stop_strings: readonly string[];
  readonly tokenizer: TokenDecoder;
  /** Tokens that can hold the longest stop string: each has at least one byte; more for a character cut in front. */
  readonly #window: number;

  constructor(tokenizer: TokenDecoder, stop_strings: string | readonly string[]);
  constructor(options: { tokenizer: TokenDecoder; stop_strings: string | readonly string[] });
  constructor(...given: unknown[]) {
    super();
    // A tokenizer may be a plain object too, so only a single argument can be the options.
    const [first, second] = given as [
      TokenDecoder & { tokenizer?: TokenDecoder; stop_strings?: unknown },
      unknown,
    ];
    this.tokenizer = given.length === 1 ? first.tokenizer! : first;
    this.stop_strings = stopStrings(given.length === 1 ? first.stop_strings : second);
    const bytes = this.stop_strings.map((text) => new TextEncoder().encode(text).length);
    this.#window = Math.max(...bytes) + 4;
  }

  override _call(input_ids: TokenRows): boolean[] {
    return tokenRows(input_ids).map((ids) => {
      let start = Math.max(0, ids.length - this.#window);
      // A run of bytes decodes only as a whole, so it must not be cut.
      while (start > 0 && isByteToken(this.tokenizer, Number(ids[start]))) start--;
      const window: number[] = [];
      for (let i = start; i < ids.length; i++) window.push(Number(ids[i]));
      return this.#completes(window);
    });
  }

  #completes(window: number[]): boolean {
    const text = this.tokenizer.decode(window, { skip_special_tokens: false });
    if (!this.stop_strings.some((stop) => text.includes(stop))) return false;
    const settled = this.#settled(window, text);
    // A match has to reach into what the last token added or, as the end of a character, changed.
    return this.stop_strings.some((stop) => text.indexOf(stop, Math.max(0, settled - stop.length + 1)) >= 0);
  }

  /** Characters of `text` that the last token has nothing to do with. */
  #settled(window: number[], text: string): number {
    // A byte can only complete the last character; without it the whole run of bytes might decode to nothing.
    if (isByteToken(this.tokenizer, window.at(-1)!))
      return text.length - (Array.from(text).at(-1)?.length ?? 0);
    const before = this.tokenizer.decode(window.slice(0, -1), { skip_special_tokens: false });
    let same = 0;
    while (same < before.length && before[same] === text[same]) same++;
    return same;
  }
}

/** Stop strings: one, or a list without empty ones. */
export function stopStrings(value: unknown): string[] {
  const list: unknown[] = Array.isArray(value) ? value : [value];
  if (list.length === 0 || !list.every((text) => typeof text === "string" && text !== "")) {
    throw invalid("stop_strings", "a non-empty string or a list of them", value);
  }
  return list as string[];
}
