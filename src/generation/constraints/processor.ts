import { InputError } from "../../errors.ts";
import type { Tensor } from "../../tensor.ts";
import { integerFrom, tokenIds } from "../checks.ts";
import { forEachRow, LogitsProcessor, type TokenRows, tokenRows } from "../logits-processors/base.ts";
import { StoppingCriteria, type TokenDecoder } from "../stopping.ts";
import { DEAD } from "./automaton.ts";
import { type ConstraintOptions, compileConstraint, constraintSource } from "./constraint.ts";
import type { TokenMask, TokenMasks } from "./token-masks.ts";
import type { ConstraintTokenizer } from "./vocabulary.ts";

/** What a GrammarConstrainedLogitsProcessor is made of: a constraint, and how it lies in the rows. */
export interface GrammarConstraintOptions extends ConstraintOptions {
  readonly tokenizer: ConstraintTokenizer;
  /** Tokens of the prompt, padding included: the text begins after them. */
  readonly prompt_length: number;
  /** The tokens that end a row; without any, rows end only at their greatest length. */
  readonly eos_token_id?: number | readonly number[] | null | undefined;
  /** Tokens of a row at most, prompt included. As it draws near, only tokens after which the text can be completed remain. */
  readonly max_length?: number | null | undefined;
}

/** The constraint that a call of generate asks for, if it does. */
export function grammarConstraint(
  options: ConstraintOptions,
  rows: Omit<GrammarConstraintOptions, keyof ConstraintOptions | "tokenizer"> & {
    readonly tokenizer: TokenDecoder | undefined;
  },
): GrammarConstraintOptions | undefined {
  if (constraintSource(options) === undefined) return undefined;
  const { json_schema, regex, response_format } = options;
  return { ...rows, tokenizer: rows.tokenizer as ConstraintTokenizer, json_schema, regex, response_format };
}

/** A text so far: the state after it, and the texts one token longer that have come up. */
interface Prefix {
  readonly state: number;
  readonly next: Map<number, Prefix>;
}

/** Follows the texts of rows, in whatever order and from whichever beam they come. */
class ConstrainedRows {
  readonly masks: TokenMasks;
  readonly option: string;
  readonly #root: Prefix;
  readonly #promptLength: number;

  constructor(options: GrammarConstraintOptions) {
    const source = constraintSource(options);
    if (source === undefined) throw new InputError("give json_schema, regex or response_format");
    const { tokenizer } = options;
    if (typeof tokenizer?.decode !== "function") {
      throw new InputError(`${source.option} needs the tokenizer: give it as the option \`tokenizer\``, {
        option: source.option,
      });
    }
    this.option = source.option;
    this.masks = compileConstraint(source, tokenizer);
    this.#root = { state: this.masks.automaton.start, next: new Map() };
    this.#promptLength = integerFrom("prompt_length", options.prompt_length, 0);
  }

  /** The state after a row's text. Rows that have ended, or left the constraint, are dead. */
  stateOf(ids: ArrayLike<number | bigint>, eos: readonly number[]): number {
    const { automaton, vocabulary } = this.masks;
    let at = this.#root;
    for (let i = this.#promptLength; i < ids.length; i++) {
      const id = Number(ids[i]);
      let next = at.next.get(id);
      if (next === undefined) {
        const bytes = vocabulary.bytesOf(id);
        const ends = bytes.length === 0 || eos.includes(id);
        next = { state: ends ? DEAD : automaton.after(at.state, bytes), next: new Map() };
        at.next.set(id, next);
      }
      if (next.state === DEAD) return DEAD;
      at = next;
    }
    return at.state;
  }
}

/**
 * Leaves only the tokens with which the text of each row keeps to a JSON Schema or a pattern; end tokens only where
 * the text is complete, and nothing else where nothing can follow. Where other processors ruled out all of these, the
 * constraint wins.
 */
export class GrammarConstrainedLogitsProcessor extends LogitsProcessor {
  readonly eos_token_id: readonly number[];
  readonly max_length: number;
  readonly #rows: ConstrainedRows;

  constructor(options: GrammarConstraintOptions) {
    super();
    this.eos_token_id = tokenIds("eos_token_id", options.eos_token_id ?? []);
    this.max_length =
      options.max_length == null
        ? Number.POSITIVE_INFINITY
        : integerFrom("max_length", options.max_length, 1);
    this.#rows = new ConstrainedRows(options);
  }

  override _call(input_ids: TokenRows, logits: Tensor): Tensor {
    const { masks } = this.#rows;
    return forEachRow(input_ids, logits, (scores, ids) => {
      const state = this.#rows.stateOf(ids, this.eos_token_id);
      const mask = masks.allowed(state, this.max_length - ids.length);
      this.#apply(scores, mask, state === DEAD || masks.automaton.nullable[state] === 1);
    });
  }

  #apply(scores: Float32Array, mask: TokenMask, mayEnd: boolean): void {
    const ends = mayEnd ? this.eos_token_id.filter((id) => id < scores.length) : [];
    const endScores = ends.map((id) => scores[id]!);
    const nothing = mask.empty && ends.length === 0;
    // A row without end tokens goes on after its text only if another row keeps it company.
    if (nothing && mayEnd) return;
    if (nothing) {
      throw new InputError(`${this.#rows.option}: no token of the vocabulary continues the text of a row`, {
        option: this.#rows.option,
      });
    }
    ruleOutOthers(scores, mask.bits);
    for (const id of this.eos_token_id) scores[id] = Number.NEGATIVE_INFINITY;
    ends.forEach((id, i) => {
      scores[id] = endScores[i]!;
    });
    if (!anyLeft(scores, mask.bits, ends)) this.#allowAgain(scores, mask.bits, ends);
  }

  #allowAgain(scores: Float32Array, bits: Uint32Array, ends: readonly number[]): void {
    for (let id = 0; id < scores.length; id++) if (((bits[id >> 5]! >>> (id & 31)) & 1) === 1) scores[id] = 0;
    for (const id of this.eos_token_id) scores[id] = Number.NEGATIVE_INFINITY;
    for (const id of ends) scores[id] = 0;
  }
}

/** Ends rows whose text is complete where there are no end tokens to say so. */
export class GrammarCompleteCriteria extends StoppingCriteria {
  readonly #rows: ConstrainedRows;

  constructor(options: GrammarConstraintOptions) {
    super();
    this.#rows = new ConstrainedRows(options);
  }

  override _call(input_ids: TokenRows): boolean[] {
    const { masks } = this.#rows;
    return tokenRows(input_ids).map((ids) => {
      const state = this.#rows.stateOf(ids, []);
      return state === DEAD || (masks.automaton.nullable[state] === 1 && masks.allowed(state).empty);
    });
  }
}

function ruleOutOthers(scores: Float32Array, bits: Uint32Array): void {
  const words = Math.min(bits.length, (scores.length + 31) >> 5);
  for (let word = 0; word < words; ) {
    if (bits[word] === 0) {
      const start = word;
      while (word < words && bits[word] === 0) word++;
      scores.fill(Number.NEGATIVE_INFINITY, start * 32, word * 32);
      continue;
    }
    for (let off = ~bits[word]!; off !== 0; off &= off - 1) {
      scores[word * 32 + 31 - Math.clz32(off & -off)] = Number.NEGATIVE_INFINITY;
    }
    word++;
  }
  scores.fill(Number.NEGATIVE_INFINITY, words * 32);
}

/** Whether a token that the mask allows, or one of `ends`, has a score. */
function anyLeft(scores: Float32Array, bits: Uint32Array, ends: readonly number[]): boolean {
  const possible = (id: number): boolean => id < scores.length && scores[id] !== Number.NEGATIVE_INFINITY;
  for (let word = 0; word < bits.length; word++) {
    for (let on = bits[word]!; on !== 0; on &= on - 1) {
      if (possible(word * 32 + 31 - Math.clz32(on & -on))) return true;
    }
  }
  return ends.some(possible);
}
