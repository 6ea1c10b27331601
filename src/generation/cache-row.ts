import { InputError } from "../errors.ts";

/** Where positions stop counting on: from token `from` on, token i has the rope position i + offset. */
export interface PositionJump {
  readonly from: number;
  readonly offset: number;
}

/** The positions of a row's new tokens, or only that of the token after them, where the new ones count up to it. */
export type NewPositions = number | readonly number[];

/** What a cache knows of one row besides its keys and values. Tokens are counted from the row's first, 0. */
export class CacheRow {
  #length = 0;
  #jumps: PositionJump[] = [];
  #hidden: Set<number> = new Set();

  /** A row as `jumps`, `hidden` and `length` of another one describe it. Throws an InputError where they can't. */
  static restore(length: number, jumps: readonly PositionJump[], hidden: readonly number[]): CacheRow {
    const row = new CacheRow();
    row.#length = checked(length, Number.MAX_SAFE_INTEGER, "a row's length");
    let last = -1;
    for (const { from, offset } of jumps) {
      checked(from, length - 1, "the token of a jump");
      if (from <= last) throw new InputError("a cache's jumps of positions must be in order");
      if (!Number.isSafeInteger(offset) || from + offset < 0)
        throw new InputError(`a cache's token ${from} can't be ${offset} positions off`);
      last = from;
    }
    row.#jumps = jumps.map(({ from, offset }) => ({ from, offset }));
    row.hide(hidden);
    return row;
  }

  get length(): number {
    return this.#length;
  }

  get jumps(): readonly PositionJump[] {
    return this.#jumps;
  }

  /** Tokens that later queries must not see. */
  get hidden(): ReadonlySet<number> {
    return this.#hidden;
  }

  /** The rope position that the next token has, unless its caller says otherwise. */
  get nextPosition(): number {
    return this.#length + this.#offset;
  }

  get #offset(): number {
    return this.#jumps.at(-1)?.offset ?? 0;
  }

  /** `count` more tokens; without `positions` theirs count on. */
  advance(count: number, positions?: NewPositions): void {
    const start = this.#length;
    this.#length += count;
    if (positions === undefined || count === 0) return;
    if (typeof positions === "number") {
      this.#jump(start, positions - this.#length);
    } else {
      for (let i = 0; i < count; i++) this.#jump(start + i, positions[i]! - (start + i));
    }
  }

  hide(tokens: Iterable<number>): void {
    for (const token of tokens) this.#hidden.add(checked(token, this.#length - 1, "a token to hide"));
  }

  /** Drops the tokens from `length` on. */
  crop(length: number): void {
    if (length >= this.#length) return;
    this.#length = length;
    this.#jumps = this.#jumps.filter(({ from }) => from < length);
    for (const token of this.#hidden) if (token >= length) this.#hidden.delete(token);
  }

  clone(): CacheRow {
    const row = new CacheRow();
    row.#length = this.#length;
    row.#jumps = [...this.#jumps];
    row.#hidden = new Set(this.#hidden);
    return row;
  }

  #jump(from: number, offset: number): void {
    if (offset !== this.#offset) this.#jumps.push({ from, offset });
  }
}

function checked(value: number, largest: number, what: string): number {
  if (Number.isSafeInteger(value) && value >= 0 && value <= largest) return value;
  throw new InputError(`${what} must be an integer from 0 to ${largest}, got ${value}`);
}
