import { type Automaton, DEAD } from "./automaton.ts";
import type { Expression } from "./expressions.ts";
import type { Vocabulary } from "./vocabulary.ts";

/** Tokens that may follow a state. */
export interface TokenMask {
  /** Bit `id & 31` of word `id >> 5` for each. */
  readonly bits: Uint32Array;
  readonly empty: boolean;
  /** The most tokens that the text may still need after one of them, as far as is certain. */
  readonly worst: number;
}

/** What a lexeme alone allows. */
interface LexemeMask extends LexemeParts {
  readonly bits: Uint32Array;
  readonly worst: number;
}

interface LexemeParts {
  /** Nodes of the vocabulary's trie at which the lexeme may be complete while tokens go on. */
  readonly exits: number[];
  /** Tokens that take the end further away than `near`, and how far: `\\u`, the first bytes of a character. */
  readonly detours: { readonly id: number; readonly needed: number }[];
  /** Tokens that the lexeme needs before any of its tokens. */
  readonly near: number;
}

/** Masks and lexemes kept: at 32 KB each for Gemma's vocabulary, 16 MB. */
const KEPT = 256;

/**
 * Finds the tokens that a state allows by walking the vocabulary's trie, and keeps what it finds. Most of the trie
 * is passed over at once; only where nearly all tokens are allowed, inside strings, does a walk take milliseconds.
 * There it is done once for the string, and for each place that has one only the tokens that reach beyond its end
 * are looked at again.
 */
export class TokenMasks {
  readonly automaton: Automaton;
  readonly vocabulary: Vocabulary;
  readonly #masks = new Map<number, TokenMask>();
  readonly #lexemes = new Map<number, LexemeMask>();
  /** The states on the way to the current node, by depth. */
  readonly #path: Int32Array;

  constructor(automaton: Automaton, vocabulary: Vocabulary) {
    this.automaton = automaton;
    this.vocabulary = vocabulary;
    this.#path = new Int32Array(vocabulary.longest + 1);
  }

  /**
   * The tokens that may follow. With `left` tokens to write in all, only those after which the text can still be
   * completed in time; all of them if even the shortest way is too long.
   */
  allowed(state: number, left: number = Number.POSITIVE_INFINITY): TokenMask {
    const same = this.#uncounted(state);
    const all = kept(this.#masks, same, () => this.#compute(same, Number.POSITIVE_INFINITY));
    if (all.worst < left || this.automaton.shortest[state]! > left) return all;
    const some = this.#compute(same, left - 1);
    return some.empty ? all : some;
  }

  /** A state that allows the same tokens as others, which differ in counts beyond the length of any token. */
  #uncounted(state: number): number {
    const { automaton, vocabulary } = this;
    const e = automaton.expressionOf(state);
    return e.kind === "lexeme"
      ? automaton.stateOf(automaton.expressions.unbounded(e, vocabulary.longest))
      : state;
  }

  #compute(state: number, limit: number): TokenMask {
    const { automaton, vocabulary } = this;
    const e = automaton.expressionOf(state);
    const begun = e.kind === "seq" && e.left.kind === "lexeme" && !e.left.nullable ? e : undefined;
    const known = begun && this.#lexeme(begun.left);
    const after = begun?.right.shortest ?? 0;
    if (known === undefined || known.near + after > limit) {
      const bits = new Uint32Array((vocabulary.size + 31) >> 5);
      const worst = this.#walk(bits, state, 0, vocabulary.label.length, limit);
      return { bits, worst, empty: bits.every((word) => word === 0) };
    }
    const rest = automaton.stateOf(begun!.right);
    const bits = known.bits.slice();
    for (const { id, needed } of known.detours) {
      if (needed + after > limit) bits[id >> 5]! &= ~(1 << (id & 31));
    }
    let worst = known.worst + after;
    for (const node of known.exits) {
      worst = Math.max(worst, this.#walk(bits, rest, node + 1, vocabulary.after[node]!, limit));
    }
    return { bits, worst, empty: bits.every((word) => word === 0) };
  }

  #lexeme(lexeme: Expression): LexemeMask {
    const { automaton, vocabulary } = this;
    const state = automaton.stateOf(automaton.expressions.unbounded(lexeme, vocabulary.longest));
    return kept(this.#lexemes, state, () => {
      const bits = new Uint32Array((vocabulary.size + 31) >> 5);
      const parts: LexemeParts = { exits: [], detours: [], near: lexeme.shortest };
      const worst = this.#walk(bits, state, 0, vocabulary.label.length, Number.POSITIVE_INFINITY, parts);
      return { ...parts, bits, worst };
    });
  }

  /**
   * Walks the nodes `from` to `to`, all below one node at which the state is `start`; sets the bits of tokens after
   * which at most `limit` more are needed, and returns the largest such number.
   */
  #walk(
    bits: Uint32Array,
    start: number,
    from: number,
    to: number,
    limit: number,
    parts?: LexemeParts,
  ): number {
    if (from >= to) return 0;
    const { automaton } = this;
    const { label, depth, after, first, ids } = this.vocabulary;
    const { classOf, classes } = automaton;
    const path = this.#path;
    let { table, shortest } = automaton;
    let worst = 0;
    path[depth[from]!] = start;
    for (let node = from; node < to; ) {
      const at = path[depth[node]!]!;
      let next = table[at * classes + classOf[label[node]!]!]!;
      if (next < 0) {
        next = automaton.next(at, label[node]!);
        ({ table, shortest } = automaton);
      }
      if (next === DEAD) {
        node = after[node]!;
        continue;
      }
      const [token, end] = [first[node]!, first[node + 1]!];
      const needed = shortest[next]!;
      if (token < end && needed <= limit) {
        if (needed > worst) worst = needed;
        for (let i = token; i < end; i++) bits[ids[i]! >> 5]! |= 1 << (ids[i]! & 31);
        if (parts !== undefined && needed > parts.near) {
          for (let i = token; i < end; i++) parts.detours.push({ id: ids[i]!, needed });
        }
      }
      if (parts !== undefined && automaton.nullable[next] === 1 && node + 1 < after[node]!) {
        parts.exits.push(node);
      }
      path[depth[node]! + 1] = next;
      node++;
    }
    return worst;
  }
}

/** A value from a map in which the least recently used ones make room. */
function kept<T>(map: Map<number, T>, key: number, make: () => T): T {
  const value = map.get(key) ?? make();
  map.delete(key);
  map.set(key, value);
  if (map.size > KEPT) map.delete(map.keys().next().value!);
  return value;
}
