import type { Expression, Expressions } from "./expressions.ts";

/** The state from which nothing matches. */
export const DEAD = 0;
const UNKNOWN = -1;
const INITIAL_STATES = 64;

/** The states of a constraint, numbered, with the ways between them as they become known. */
export class Automaton {
  readonly expressions: Expressions;
  readonly start: number;
  /** The class of each byte. */
  readonly classOf: Uint8Array;
  /** Ways out of a state: its row is this long, with a next state for each class or -1. */
  readonly classes: number;
  table: Int32Array;
  /** Whether the text may end in a state. */
  nullable: Uint8Array;
  /** Tokens that certainly suffice to end from a state. */
  shortest: Float64Array;
  readonly #states: Expression[] = [];
  readonly #numbers = new Map<Expression, number>();

  constructor(expressions: Expressions, root: Expression) {
    const { classOf, representatives } = expressions.classes;
    this.expressions = expressions;
    this.classOf = classOf;
    this.classes = representatives.length;
    this.table = new Int32Array(INITIAL_STATES * this.classes).fill(UNKNOWN);
    this.nullable = new Uint8Array(INITIAL_STATES);
    this.shortest = new Float64Array(INITIAL_STATES);
    this.stateOf(expressions.empty);
    this.start = this.stateOf(root);
  }

  expressionOf(state: number): Expression {
    return this.#states[state]!;
  }

  stateOf(expression: Expression): number {
    const known = this.#numbers.get(expression);
    if (known !== undefined) return known;
    const state = this.#states.length;
    if (state === this.nullable.length) this.#grow();
    this.#states.push(expression);
    this.#numbers.set(expression, state);
    this.nullable[state] = expression.nullable ? 1 : 0;
    this.shortest[state] = expression.shortest;
    return state;
  }

  /** The state after a byte. */
  next(state: number, byte: number): number {
    const place = state * this.classes + this.classOf[byte]!;
    const known = this.table[place]!;
    if (known !== UNKNOWN) return known;
    const next = this.stateOf(this.expressions.derive(this.#states[state]!, byte));
    this.table[place] = next;
    return next;
  }

  /** The state after a token's bytes. */
  after(state: number, bytes: Uint8Array): number {
    let at = state;
    for (let i = 0; i < bytes.length && at !== DEAD; i++) at = this.next(at, bytes[i]!);
    return at;
  }

  #grow(): void {
    const states = this.nullable.length * 2;
    const table = new Int32Array(states * this.classes).fill(UNKNOWN);
    table.set(this.table);
    this.table = table;
    this.nullable = extended(this.nullable, new Uint8Array(states));
    this.shortest = extended(this.shortest, new Float64Array(states));
  }
}

function extended<T extends Uint8Array | Float64Array>(old: T, larger: T): T {
  larger.set(old);
  return larger;
}
