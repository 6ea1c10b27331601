import type { Expression, Expressions } from "./expressions.ts";

/** A set of code points: ranges, both ends included, in ascending order with gaps between. */
export type CodePoints = readonly (readonly [number, number])[];

const LAST = 0x10ffff;
/** Halves of pairs: no text in UTF-8 has them alone. */
const SURROGATES: CodePoints = [[0xd800, 0xdfff]];

/** Ranges in any order, overlaps allowed, as a set. Ends beyond the code points that exist are cut off. */
export function codePoints(ranges: readonly (readonly [number, number])[]): CodePoints {
  const sorted = ranges
    .map(([low, high]) => [Math.max(low, 0), Math.min(high, LAST)] as [number, number])
    .filter(([low, high]) => low <= high)
    .sort((a, b) => a[0] - b[0]);
  const merged: [number, number][] = [];
  for (const [low, high] of sorted) {
    const last = merged.at(-1);
    if (last !== undefined && low <= last[1] + 1) last[1] = Math.max(last[1], high);
    else merged.push([low, high]);
  }
  return merged;
}

/** All code points that are not in the set. */
export function complement(set: CodePoints): CodePoints {
  const rest: [number, number][] = [];
  let next = 0;
  for (const [low, high] of set) {
    if (low > next) rest.push([next, low - 1]);
    next = high + 1;
  }
  if (next <= LAST) rest.push([next, LAST]);
  return rest;
}

/** Those of `set` that are not in `removed`. */
export function without(set: CodePoints, removed: CodePoints): CodePoints {
  return complement(codePoints([...complement(set), ...removed]));
}

export function includes(set: CodePoints, point: number): boolean {
  return set.some(([low, high]) => low <= point && point <= high);
}

/** Lengths of UTF-8: first and last code point, what the lead byte starts with, and how many bytes follow it. */
const LENGTHS = [
  [0, 0x7f, 0, 0],
  [0x80, 0x7ff, 0xc0, 1],
  [0x800, 0xffff, 0xe0, 2],
  [0x10000, LAST, 0xf0, 3],
] as const;

/** One character of the set, in UTF-8. */
export function utf8(expressions: Expressions, set: CodePoints): Expression {
  const valid = without(set, SURROGATES);
  return expressions.alt(
    LENGTHS.map(([low, high, lead, following]) =>
      byLeadByte(expressions, clipped(valid, low, high), lead, following),
    ),
  );
}

/** `ranges` of numbers whose highest bits go into a byte that starts with `prefix`, six more in each that follows. */
function byLeadByte(
  expressions: Expressions,
  ranges: CodePoints,
  prefix: number,
  following: number,
): Expression {
  const values = new Set<number>();
  for (const [low, high] of ranges) {
    for (let value = low >> (6 * following); value <= high >> (6 * following); value++) values.add(value);
  }
  const leads = new Map<Expression, Set<number>>();
  for (const value of values) {
    const rest = following === 0 ? expressions.epsilon : restOf(expressions, ranges, value, following);
    if (!leads.has(rest)) leads.set(rest, new Set());
    leads.get(rest)!.add(prefix | value);
  }
  return expressions.alt(
    [...leads].map(([rest, bytes]) =>
      expressions.seq(
        expressions.bytes((byte) => bytes.has(byte)),
        rest,
      ),
    ),
  );
}

function restOf(expressions: Expressions, ranges: CodePoints, lead: number, following: number): Expression {
  const start = lead << (6 * following);
  const count = 1 << (6 * following);
  const inner = clipped(ranges, start, start + count - 1);
  if (inner.length === 1 && inner[0]![1] - inner[0]![0] + 1 === count) {
    const any = expressions.bytes((byte) => byte >> 6 === 2);
    return expressions.repeat(any, following, following);
  }
  const shifted = inner.map(([low, high]) => [low - start, high - start] as const);
  return byLeadByte(expressions, shifted, 0x80, following - 1);
}

function clipped(set: CodePoints, low: number, high: number): CodePoints {
  return set
    .filter((range) => range[0] <= high && range[1] >= low)
    .map((range) => [Math.max(range[0], low), Math.min(range[1], high)]);
}
