import { InputError } from "../../errors.ts";
import { type CodePoints, codePoints, complement } from "./code-points.ts";

/** A regular expression of JavaScript, as far as it describes a regular set of texts. */
export type Regex =
  | { readonly type: "set"; readonly set: CodePoints }
  | { readonly type: "seq" | "alt"; readonly items: readonly Regex[] }
  | { readonly type: "repeat"; readonly item: Regex; readonly least: number; readonly most: number }
  | { readonly type: "start" | "end" };

const MAX_LENGTH = 10_000;
const MAX_DEPTH = 100;
const LINE_ENDS: CodePoints = [
  [10, 10],
  [13, 13],
  [0x2028, 0x2029],
];
const DIGITS: CodePoints = [[48, 57]];
const WORD: CodePoints = [
  [48, 57],
  [65, 90],
  [95, 95],
  [97, 122],
];
const SPACES: CodePoints = [
  [9, 13],
  [32, 32],
  [0xa0, 0xa0],
  [0x1680, 0x1680],
  [0x2000, 0x200a],
  [0x2028, 0x2029],
  [0x202f, 0x202f],
  [0x205f, 0x205f],
  [0x3000, 0x3000],
  [0xfeff, 0xfeff],
];
const CLASSES: Record<string, CodePoints> = {
  d: DIGITS,
  D: complement(DIGITS),
  w: WORD,
  W: complement(WORD),
  s: SPACES,
  S: complement(SPACES),
};
const CONTROLS: Record<string, number> = { t: 9, n: 10, v: 11, f: 12, r: 13, "0": 0 };

/**
 * Reads a pattern, by code points as with JavaScript's flag "u". `dotAll` lets the dot match line ends. What no
 * regular set can say (look-around, back-references, word boundaries) is an InputError, as is bad syntax.
 */
export function parseRegex(pattern: string, option: string, dotAll = false): Regex {
  return new Parser(pattern, option, dotAll).parse();
}

class Parser {
  readonly #source: readonly string[];
  readonly #option: string;
  readonly #pattern: string;
  readonly #dot: CodePoints;
  #at = 0;
  #depth = 0;

  constructor(pattern: string, option: string, dotAll: boolean) {
    this.#pattern = pattern;
    this.#option = option;
    if (pattern.length > MAX_LENGTH) this.#fail(`is longer than ${MAX_LENGTH} characters`);
    this.#source = [...pattern];
    this.#dot = complement(dotAll ? [] : LINE_ENDS);
  }

  parse(): Regex {
    const regex = this.#alternatives();
    if (this.#at < this.#source.length) this.#fail('has a ")" without "("');
    return regex;
  }

  #alternatives(): Regex {
    if (++this.#depth > MAX_DEPTH) this.#fail(`has more than ${MAX_DEPTH} groups inside each other`);
    const items = [this.#sequence()];
    while (this.#take("|")) items.push(this.#sequence());
    this.#depth--;
    return items.length === 1 ? items[0]! : { type: "alt", items };
  }

  #sequence(): Regex {
    const items: Regex[] = [];
    while (this.#at < this.#source.length && this.#next !== "|" && this.#next !== ")") {
      items.push(this.#repeated(this.#atom()));
    }
    return { type: "seq", items };
  }

  #repeated(item: Regex): Regex {
    const counts = this.#counts();
    if (counts === undefined) return item;
    if (item.type === "start" || item.type === "end") this.#fail("repeats ^ or $");
    // Lazy or greedy: the set of texts is the same.
    this.#take("?");
    if (this.#counts() !== undefined) this.#fail("has nothing to repeat");
    return { type: "repeat", item, least: counts[0], most: counts[1] };
  }

  #counts(): [number, number] | undefined {
    if (this.#take("*")) return [0, Number.POSITIVE_INFINITY];
    if (this.#take("+")) return [1, Number.POSITIVE_INFINITY];
    if (this.#take("?")) return [0, 1];
    if (this.#next !== "{") return undefined;
    const end = this.#source.indexOf("}", this.#at);
    const inner = end === -1 ? "" : this.#source.slice(this.#at + 1, end).join("");
    const match = /^(\d{1,15})(,(\d{1,15})?)?$/.exec(inner);
    if (match === null) return this.#fail('has a "{" that is no count: write \\{');
    this.#at = end + 1;
    const least = Number(match[1]);
    const most =
      match[2] === undefined ? least : match[3] === undefined ? Number.POSITIVE_INFINITY : Number(match[3]);
    if (most < least) this.#fail(`has the count {${inner}} out of order`);
    return [least, most];
  }

  #atom(): Regex {
    const char = this.#source[this.#at++]!;
    switch (char) {
      case "^":
        return { type: "start" };
      case "$":
        return { type: "end" };
      case ".":
        return { type: "set", set: this.#dot };
      case "(":
        return this.#group();
      case "[":
        return { type: "set", set: this.#charClass() };
      case "\\":
        return { type: "set", set: this.#escape(false) };
      case "*":
      case "+":
      case "?":
        return this.#fail("has nothing to repeat");
      case "{":
      case "}":
      case "]":
        return this.#fail(`has a lone "${char}": write \\${char}`);
      default:
        return { type: "set", set: single(char.codePointAt(0)!) };
    }
  }

  #group(): Regex {
    if (this.#take("?")) {
      const named = this.#take("<") && this.#next !== "=" && this.#next !== "!";
      if (named) {
        const end = this.#source.indexOf(">", this.#at);
        if (end === -1) this.#fail("has an unfinished group name");
        this.#at = end + 1;
      } else if (!this.#take(":")) this.#fail("has look-around or flags in a group, which isn't supported");
    }
    const inner = this.#alternatives();
    if (!this.#take(")")) this.#fail('has a "(" without ")"');
    return inner;
  }

  #charClass(): CodePoints {
    const negated = this.#take("^");
    const ranges: (readonly [number, number])[] = [];
    while (!this.#take("]")) {
      if (this.#at >= this.#source.length) this.#fail('has a "[" without "]"');
      const low = this.#classItem();
      if (this.#next === "-" && this.#source[this.#at + 1] !== "]") {
        this.#at++;
        const high = this.#classItem();
        const [from, to] = [onlyPoint(low), onlyPoint(high)];
        // As without the flag "u", a hyphen beside a class such as \\w stands for itself.
        if (from === undefined || to === undefined) ranges.push(...low, [45, 45], ...high);
        else if (from > to) this.#fail("has a range out of order");
        else ranges.push([from, to]);
      } else ranges.push(...low);
    }
    const set = codePoints(ranges);
    return negated ? complement(set) : set;
  }

  #classItem(): CodePoints {
    const char = this.#source[this.#at++];
    if (char === undefined) return this.#fail('has a "[" without "]"');
    return char === "\\" ? this.#escape(true) : single(char.codePointAt(0)!);
  }

  #escape(inClass: boolean): CodePoints {
    const char = this.#source[this.#at++];
    if (char === undefined) return this.#fail("ends with a backslash");
    if (Object.hasOwn(CLASSES, char)) return CLASSES[char]!;
    if (char === "p" || char === "P") return this.#property(char === "P");
    if (char === "x" || char === "u") return single(this.#hex(char));
    if (Object.hasOwn(CONTROLS, char)) return single(CONTROLS[char]!);
    if (char === "b" && inClass) return single(8);
    if (/[1-9kbB]/.test(char)) return this.#fail(`uses \\${char}, which isn't supported`);
    if (/[A-Za-z]/.test(char)) return this.#fail(`has the unknown escape \\${char}`);
    return single(char.codePointAt(0)!);
  }

  #hex(kind: "x" | "u"): number {
    const rest = this.#source.slice(this.#at, this.#at + 12).join("");
    const forms =
      kind === "x"
        ? /^([0-9a-fA-F]{2})/
        : /^(?:\{([0-9a-fA-F]{1,6})\}|([0-9a-fA-F]{4})(?:\\u(d[c-f][0-9a-f]{2}))?)/i;
    const match = forms.exec(rest);
    if (match === null) return this.#fail(`has an unfinished \\${kind}`);
    const unit = Number.parseInt(match[1] ?? match[2]!, 16);
    const pair = match[3] !== undefined && unit >= 0xd800 && unit <= 0xdbff;
    this.#at += pair ? match[0].length : match[0].length - (match[3] === undefined ? 0 : 6);
    return pair ? 0x10000 + ((unit - 0xd800) << 10) + (Number.parseInt(match[3]!, 16) - 0xdc00) : unit;
  }

  /** Asks JavaScript itself which code points have a property. */
  #property(negated: boolean): CodePoints {
    const end = this.#source.indexOf("}", this.#at);
    const name = this.#source.slice(this.#at, end + 1).join("");
    let run: RegExp;
    try {
      run = new RegExp(`\\p${/^\{[\w=]{1,60}\}$/.test(name) ? name : "?"}+`, "gu");
    } catch {
      return this.#fail(`has the unknown property \\p${name}`);
    }
    this.#at = end + 1;
    const set = propertySet(run);
    return negated ? complement(set) : set;
  }

  get #next(): string | undefined {
    return this.#source[this.#at];
  }

  #take(char: string): boolean {
    if (this.#next !== char) return false;
    this.#at++;
    return true;
  }

  #fail(problem: string): never {
    const shown = this.#pattern.length > 80 ? `${this.#pattern.slice(0, 77)}...` : this.#pattern;
    throw new InputError(`${this.#option}: the pattern ${JSON.stringify(shown)} ${problem}`, {
      option: this.#option,
    });
  }
}

function single(point: number): CodePoints {
  return [[point, point]];
}

function onlyPoint(set: CodePoints): number | undefined {
  return set.length === 1 && set[0]![0] === set[0]![1] ? set[0]![0] : undefined;
}

const properties = new Map<string, CodePoints>();
/** Every code point but the halves of pairs, made when the first property is asked for. */
let everything: string | undefined;

/** The code points of which `run`, a pattern with the flags "gu", finds runs. */
function propertySet(run: RegExp): CodePoints {
  let set = properties.get(run.source);
  if (set === undefined) {
    everything ??= allCharacters();
    const runs = [...everything.matchAll(run)].map(([text]) => {
      const last = text.length - 1;
      const pair = last > 0 && text.codePointAt(last - 1)! > 0xffff;
      return [text.codePointAt(0)!, text.codePointAt(pair ? last - 1 : last)!] as const;
    });
    set = codePoints(runs);
    properties.set(run.source, set);
  }
  return set;
}

function allCharacters(): string {
  const parts: string[] = [];
  for (let start = 0; start <= 0x10ffff; start += 0x800) {
    if (start === 0xd800) continue;
    parts.push(String.fromCodePoint(...Array.from({ length: 0x800 }, (_, i) => start + i)));
  }
  return parts.join("");
}
