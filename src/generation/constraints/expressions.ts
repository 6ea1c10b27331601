import { InputError } from "../../errors.ts";
import { type ByteClasses, ByteClassifier } from "./byte-classes.ts";

/** Expressions that one constraint may have, those met while generating included: about 100 MB. */
const MAX_EXPRESSIONS = 400_000;
/** Derivatives, and operands looked at, in all: some seconds for an expression that is much larger than it looks. */
const MAX_WORK = 10_000_000;
/** What making a set of bytes counts for. */
const SET_WORK = 50;
/** Steps of the search for the shortest text that two expressions share. */
const MAX_SEARCH = 20_000;
/** Longer literals are cut up: their remainders are kept, which would cost the square of the length. */
const LITERAL_LENGTH = 64;

/** The `shortest` of an intersection before it is looked for. */
const UNKNOWN = -1;

interface Common {
  /** Rises with the order in which expressions are made: operands come before what is made of them. */
  readonly id: number;
  /** Whether the empty text matches. */
  readonly nullable: boolean;
  /** Tokens that certainly suffice for some text that matches; infinite where nothing matches. */
  shortest: number;
}

/** A set of byte strings. Equal expressions are the same object. Texts are kept as one character for each byte. */
export type Expression = Common &
  (
    | { readonly kind: "empty" | "epsilon" | "anything" }
    | { readonly kind: "bytes"; readonly set: Uint8Array }
    | { readonly kind: "literal"; readonly text: string }
    | { readonly kind: "seq"; readonly left: Expression; readonly right: Expression }
    | { readonly kind: "and"; readonly left: Expression; readonly right: Expression }
    | { readonly kind: "alt"; readonly members: readonly Expression[] }
    | {
        readonly kind: "repeat";
        readonly item: Expression;
        readonly least: number;
        readonly most: number;
      }
    | { readonly kind: "not" | "lexeme"; readonly item: Expression }
    | { readonly kind: "rule"; readonly name: string }
  );

type Form = Expression extends infer T ? (T extends unknown ? Omit<T, keyof Common> : never) : never;

/**
 * Regular expressions with intersection, complement and named rules (which may recur), over bytes. They are matched
 * by derivatives (Brzozowski 1964; Owens, Reppy and Turon 2009): the derivative by a byte is the expression for what
 * may follow that byte. So a state of matching is itself an expression, counted repeats need no unrolling, and only
 * the states that a text comes by are ever made.
 */
export class Expressions {
  readonly option: string;
  readonly empty: Expression;
  readonly epsilon: Expression;
  /** Any text at all. */
  readonly anything: Expression;
  readonly #known = new Map<string, Expression>();
  readonly #all: Expression[] = [];
  readonly #rules = new Map<string, Expression>();
  readonly #classifier = new ByteClassifier();
  /** What `unbounded` found; it is called with one length only. */
  readonly #unbounded = new Map<Expression, Expression>();
  readonly #literalCost: (text: string) => number;
  #work = 0;

  /** `option` is named in errors; `literalCost` says in how many tokens a text can be written. */
  constructor(option: string, literalCost: (text: string) => number = (text) => text.length) {
    this.option = option;
    this.#literalCost = literalCost;
    this.empty = this.#make("0", { kind: "empty" }, false, () => Number.POSITIVE_INFINITY);
    this.epsilon = this.#make("1", { kind: "epsilon" }, true, () => 0);
    this.anything = this.#make("*", { kind: "anything" }, true, () => 0);
  }

  /** Whether so much of the limits is used up that other texts had better begin with a fresh one. */
  get worn(): boolean {
    return this.#all.length > MAX_EXPRESSIONS / 4 || this.#work > MAX_WORK / 4;
  }

  /** Bytes that no expression tells apart. Derivatives never add to them. */
  get classes(): ByteClasses {
    return this.#classifier.classes;
  }

  /** One byte of those for which `has` is true. */
  bytes(has: (byte: number) => boolean): Expression {
    this.#spend(SET_WORK);
    const set = Uint8Array.from({ length: 256 }, (_, byte) => (has(byte) ? 1 : 0));
    const members = [...set.keys()].filter((byte) => set[byte] === 1);
    if (members.length === 0) return this.empty;
    if (members.length === 1) return this.literal(String.fromCharCode(members[0]!));
    this.#classifier.addSet(set);
    return this.#make(`B${members.join()}`, { kind: "bytes", set }, false, () => 1);
  }

  /** The UTF-8 of a text. */
  text(text: string): Expression {
    return this.literal(latin1(text));
  }

  literal(text: string): Expression {
    if (text === "") return this.epsilon;
    if (text.length > LITERAL_LENGTH) {
      const parts = Array.from({ length: Math.ceil(text.length / LITERAL_LENGTH) }, (_, i) =>
        this.literal(text.slice(i * LITERAL_LENGTH, (i + 1) * LITERAL_LENGTH)),
      );
      return parts.reduceRight((rest, part) => this.#pair(part, rest));
    }
    this.#classifier.addText(text);
    return this.#make(`L${text}`, { kind: "literal", text }, false, () => this.#literalCost(text));
  }

  /** One after the other. */
  seq(...parts: readonly Expression[]): Expression {
    return parts.reduceRight((right, left) => this.#joined(left, right), this.epsilon);
  }

  /** Any of them. */
  alt(options: readonly Expression[]): Expression {
    const members = new Set<Expression>();
    for (const option of options) {
      if (option.kind === "alt") for (const member of option.members) members.add(member);
      else if (option !== this.empty) members.add(option);
    }
    this.#spend(members.size);
    if (members.has(this.anything)) return this.anything;
    if (members.size < 2) return [...members][0] ?? this.empty;
    const sorted = [...members].sort((a, b) => a.id - b.id);
    const nullable = sorted.some((member) => member.nullable);
    return this.#make(`A${sorted.map(({ id }) => id).join()}`, { kind: "alt", members: sorted }, nullable);
  }

  optional(item: Expression): Expression {
    return this.alt([item, this.epsilon]);
  }

  /** `least` to `most` times; `most` may be infinite. */
  repeat(item: Expression, least: number, most: number): Expression {
    if (most < least) return this.empty;
    if (most === 0 || item === this.epsilon) return this.epsilon;
    if (item === this.empty) return least === 0 ? this.epsilon : this.empty;
    if (least === 1 && most === 1) return item;
    const from = item.nullable ? 0 : least;
    const nested = item.kind === "repeat" && item.least <= 1 && item.most === Number.POSITIVE_INFINITY;
    if (nested && from === 0) return this.repeat(item.item, 0, item.most);
    return this.#make(`R${item.id},${from},${most}`, { kind: "repeat", item, least: from, most }, from === 0);
  }

  /** What matches both. Not for expressions with rules. */
  and(left: Expression, right: Expression): Expression {
    return this.#settled(this.#both(left, right));
  }

  /** What does not match. Only as an operand of `and`. */
  not(item: Expression): Expression {
    if (item === this.empty) return this.anything;
    if (item === this.anything) return this.empty;
    if (item.kind === "not") return item.item;
    return this.#make(`N${item.id}`, { kind: "not", item }, !item.nullable);
  }

  /** Marks a unit that occurs in many places, such as a string: what is computed for one place serves the others. */
  lexeme(item: Expression): Expression {
    if (item === this.empty || item === this.epsilon) return item;
    return this.#make(`X${item.id}`, { kind: "lexeme", item }, item.nullable);
  }

  /** A named rule, which `define` says later. Rules never match the empty text. */
  rule(name: string): Expression {
    return this.#make(`#${name}`, { kind: "rule", name }, false);
  }

  define(name: string, definition: Expression): void {
    this.#rules.set(name, definition);
  }

  /** What may follow `byte`. */
  derive(e: Expression, byte: number): Expression {
    this.#spend(1);
    switch (e.kind) {
      case "empty":
      case "epsilon":
        return this.empty;
      case "anything":
        return e;
      case "bytes":
        return e.set[byte] === 1 ? this.epsilon : this.empty;
      case "literal":
        return e.text.charCodeAt(0) === byte ? this.literal(e.text.slice(1)) : this.empty;
      case "seq":
        return this.#deriveSeq(e, byte);
      case "alt":
        return this.alt(e.members.map((member) => this.derive(member, byte)));
      case "repeat": {
        const first = this.derive(e.item, byte);
        if (first === this.empty) return first;
        return this.#pair(first, this.repeat(e.item, Math.max(0, e.least - 1), e.most - 1));
      }
      case "and":
        return this.#settled(this.#deriveBoth(e, byte));
      case "not":
        return this.not(this.derive(e.item, byte));
      case "lexeme":
        return this.lexeme(this.derive(e.item, byte));
      case "rule":
        return this.derive(this.#rules.get(e.name)!, byte);
    }
  }

  /** A loop, as a chain of parts that may all be empty can be long. */
  #deriveSeq(e: Expression, byte: number): Expression {
    const options: Expression[] = [];
    let rest = e;
    while (rest.kind === "seq") {
      options.push(this.#pair(this.derive(rest.left, byte), rest.right));
      if (!rest.left.nullable) return this.alt(options);
      rest = rest.right;
    }
    return this.alt([...options, this.derive(rest, byte)]);
  }

  /**
   * Settles the rules once all are defined, and returns what is left of `root` without those that nothing can match.
   * Throws where a rule begins with itself: no text decides how often.
   */
  resolve(root: Expression): Expression {
    for (const name of this.#rules.keys()) this.#rejectLoop(name, this.rule(name), new Set());
    for (let changed = this.#rules.size > 0; changed; ) {
      changed = false;
      for (const e of this.#all) {
        const now = this.#shortest(e);
        if (now !== e.shortest) [changed, e.shortest] = [true, now];
      }
    }
    const left = new Map<Expression, Expression>();
    // Operands come first, so nothing here recurs, however long a chain of expressions is.
    for (const e of [...this.#all]) {
      const unmatched = e.kind === "rule" && e.shortest === Number.POSITIVE_INFINITY;
      left.set(e, unmatched ? this.empty : this.#rebuilt(e, (operand) => left.get(operand)!));
    }
    for (const [name, definition] of this.#rules) this.#rules.set(name, left.get(definition)!);
    return left.get(root)!;
  }

  /** With repeats that no text of `longest` bytes exhausts made endless: such texts can't tell the difference. */
  unbounded(e: Expression, longest: number): Expression {
    const chain: Expression[] = [];
    let rest = e;
    for (; rest.kind === "seq" && !this.#unbounded.has(rest); rest = rest.right) chain.push(rest);
    let result = this.#unbounded.get(rest) ?? this.#withoutCounts(rest, longest);
    this.#unbounded.set(rest, result);
    for (const link of chain.reverse()) {
      if (link.kind === "seq") result = this.#pair(this.unbounded(link.left, longest), result);
      this.#unbounded.set(link, result);
    }
    return result;
  }

  #withoutCounts(e: Expression, longest: number): Expression {
    const mapped = this.#rebuilt(e, (operand) => this.unbounded(operand, longest));
    if (mapped.kind !== "repeat" || mapped.most <= longest) return mapped;
    return this.repeat(mapped.item, mapped.least, Number.POSITIVE_INFINITY);
  }

  #make(key: string, form: Form, nullable: boolean, shortest?: () => number): Expression {
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    if (this.#all.length >= MAX_EXPRESSIONS) this.#tooComplex();
    this.#spend(1);
    const e = { ...form, id: this.#all.length, nullable, shortest: shortest?.() ?? 0 } as Expression;
    if (shortest === undefined) e.shortest = this.#shortest(e);
    this.#known.set(key, e);
    this.#all.push(e);
    return e;
  }

  #shortest(e: Expression): number {
    switch (e.kind) {
      case "seq":
        return e.left.shortest + e.right.shortest;
      case "alt":
        return e.members.reduce(
          (least, member) => Math.min(least, member.shortest),
          Number.POSITIVE_INFINITY,
        );
      case "repeat":
        return e.least === 0 ? 0 : e.least * e.item.shortest;
      case "lexeme":
        return e.item.shortest;
      case "rule":
        return this.#rules.get(e.name)?.shortest ?? Number.POSITIVE_INFINITY;
      default:
        return e.shortest;
    }
  }

  /** Joins literals, which derivatives must not do: a joined one might take more tokens than its parts. */
  #joined(left: Expression, right: Expression): Expression {
    if (right === this.epsilon) return left;
    return links(left).reduceRight((rest, part) => {
      const next = rest.kind === "seq" ? rest.left : rest;
      if (part.kind !== "literal" || next.kind !== "literal") return this.#link(part, rest);
      if (part.text.length + next.text.length > LITERAL_LENGTH) return this.#link(part, rest);
      const joined = this.literal(part.text + next.text);
      return rest.kind === "seq" ? this.#link(joined, rest.right) : joined;
    }, right);
  }

  #pair(left: Expression, right: Expression): Expression {
    if (right === this.epsilon) return left;
    return links(left).reduceRight((rest, part) => this.#link(part, rest), right);
  }

  /** `left` is no sequence itself: sequences are chains to the right. */
  #link(left: Expression, right: Expression): Expression {
    if (left === this.empty || right === this.empty) return this.empty;
    if (left === this.epsilon) return right;
    if (right === this.epsilon) return left;
    return this.#make(
      `S${left.id},${right.id}`,
      { kind: "seq", left, right },
      left.nullable && right.nullable,
    );
  }

  #rebuilt(e: Expression, of: (operand: Expression) => Expression): Expression {
    switch (e.kind) {
      case "seq":
        return this.#pair(of(e.left), of(e.right));
      case "and":
        return this.and(of(e.left), of(e.right));
      case "alt":
        return this.alt(e.members.map(of));
      case "repeat":
        return this.repeat(of(e.item), e.least, e.most);
      case "not":
        return this.not(of(e.item));
      case "lexeme":
        return this.lexeme(of(e.item));
      default:
        return e;
    }
  }

  #rejectLoop(name: string, e: Expression, seen: Set<Expression>): void {
    if (seen.has(e)) {
      if (e.kind === "rule" && e.name === name) {
        throw new InputError(`${this.option}: ${name} refers to itself without end`, { option: this.option });
      }
      return;
    }
    seen.add(e);
    if (e.kind === "rule") this.#rejectLoop(name, this.#rules.get(e.name)!, seen);
    if (e.kind === "alt") for (const member of e.members) this.#rejectLoop(name, member, seen);
    if (e.kind === "repeat" || e.kind === "lexeme") this.#rejectLoop(name, e.item, seen);
    if (e.kind !== "seq") return;
    this.#rejectLoop(name, e.left, seen);
    if (e.left.nullable) this.#rejectLoop(name, e.right, seen);
  }

  #spend(work: number): void {
    this.#work += work;
    if (this.#work > MAX_WORK) this.#tooComplex();
  }

  #tooComplex(): never {
    throw new InputError(`${this.option} is too complex: make it smaller, or its counts and choices fewer`, {
      option: this.option,
    });
  }

  #both(left: Expression, right: Expression): Expression {
    if (left === this.empty || right === this.empty) return this.empty;
    if (left === right || right === this.anything) return left;
    if (left === this.anything) return right;
    const [a, b] = left.id < right.id ? [left, right] : [right, left];
    const nullable = a.nullable && b.nullable;
    return this.#make(`&${a.id},${b.id}`, { kind: "and", left: a, right: b }, nullable, () => UNKNOWN);
  }

  #deriveBoth(e: Expression & { kind: "and" }, byte: number): Expression {
    const left = this.derive(e.left, byte);
    return left === this.empty ? left : this.#both(left, this.derive(e.right, byte));
  }

  /** Finds out whether an intersection matches anything: if not it is `empty`. */
  #settled(e: Expression): Expression {
    if (e.kind !== "and") return e;
    if (e.shortest === UNKNOWN) this.#search(e);
    return e.shortest === Number.POSITIVE_INFINITY ? this.empty : e;
  }

  /** Looks for the shortest text of an intersection, breadth first. */
  #search(start: Expression): void {
    const found = new Map<Expression, { from: Expression | undefined; depth: number }>();
    let best = { at: undefined as Expression | undefined, total: Number.POSITIVE_INFINITY };
    const visit = (at: Expression, from: Expression | undefined, depth: number): void => {
      if (at === this.empty || found.has(at)) return;
      if (found.size >= MAX_SEARCH) this.#tooComplex();
      found.set(at, { from, depth });
      const rest = at.nullable ? 0 : at.shortest;
      if (rest !== UNKNOWN && depth + rest < best.total) best = { at, total: depth + rest };
    };
    visit(start, undefined, 0);
    for (const [e, { depth }] of found) {
      if (depth + 1 >= best.total) break;
      if (e.kind !== "and" || e.shortest !== UNKNOWN) continue;
      for (const byte of this.classes.representatives) visit(this.#deriveBoth(e, byte), e, depth + 1);
    }
    if (best.at === undefined) {
      for (const e of found.keys()) if (e.kind === "and") e.shortest = Number.POSITIVE_INFINITY;
    }
    for (let at = best.at; at !== undefined; at = found.get(at)!.from) {
      if (at.shortest === UNKNOWN) at.shortest = best.total - found.get(at)!.depth;
    }
  }
}

/** The parts of a sequence. */
function links(e: Expression): Expression[] {
  const parts: Expression[] = [];
  let rest = e;
  for (; rest.kind === "seq"; rest = rest.right) parts.push(rest.left);
  return [...parts, rest];
}

/** A text's UTF-8, one character for each byte. */
export function latin1(text: string): string {
  return Array.from(new TextEncoder().encode(text), (byte) => String.fromCharCode(byte)).join("");
}
