import type { StoredTensor } from "./safetensors.ts";
import type { Tolerance } from "./test-set.ts";

/** Numbers with a shape, as a call under test gave them. */
export interface Numbers {
  readonly shape: readonly number[];
  readonly data: ArrayLike<number | bigint>;
}

/** The element of an output that used up most of its tolerance, or what else is wrong with the output. */
export interface Comparison {
  readonly passed: boolean;
  readonly compared: number;
  readonly difference: number;
  /** `difference` as a multiple of what is allowed there; above 1 fails. */
  readonly ratio: number;
  /** Where and what: "logits[0, 3, 17]: got 1.5 expected 1.25". */
  readonly detail: string;
}

/** Compares an output with what is stored, element by element, at the positions where `mask` is 1. */
export function compareNumbers(
  name: string,
  got: Numbers,
  expected: StoredTensor,
  tolerance: Tolerance,
  mask?: StoredTensor,
): Comparison {
  if (got.shape.join() !== expected.shape.join()) {
    return different(`${name}: got shape [${got.shape.join(", ")}] expected [${expected.shape.join(", ")}]`);
  }
  const counts = mask === undefined ? () => true : positionFilter(expected.shape, mask);
  let worst = { index: -1, difference: 0, ratio: -1 };
  let compared = 0;
  for (let i = 0; i < expected.data.length; i++) {
    if (!counts(i)) continue;
    compared++;
    const [difference, ratio] = deviation(
      Number(got.data[i]),
      expected.data[i]!,
      expected.kind === "integer" ? undefined : tolerance,
    );
    if (ratio > worst.ratio) worst = { index: i, difference, ratio };
  }
  if (compared === 0) {
    return expected.data.length === 0
      ? { passed: true, compared: 0, difference: 0, ratio: 0, detail: `${name} is empty` }
      : different(`${name}: the mask leaves nothing to compare`);
  }
  const place = indexOf(worst.index, expected.shape);
  return {
    passed: worst.ratio <= 1,
    compared,
    difference: worst.difference,
    ratio: worst.ratio,
    detail: `${name}[${place.join(", ")}]: got ${format(Number(got.data[worst.index]))} expected ${format(expected.data[worst.index]!)}`,
  };
}

/** Compares plain values (text, lists of ids) deeply and exactly; the first difference is reported. */
export function compareValues(name: string, got: unknown, expected: unknown): Comparison {
  const place = firstDifference(got, expected, name);
  if (place === undefined) {
    return { passed: true, compared: 1, difference: 0, ratio: 0, detail: `${name} is equal` };
  }
  return different(place);
}

/** A failed comparison without a number to it. */
export function different(detail: string): Comparison {
  return {
    passed: false,
    compared: 0,
    difference: Number.POSITIVE_INFINITY,
    ratio: Number.POSITIVE_INFINITY,
    detail,
  };
}

/** |got - expected| and its multiple of the tolerance. NaN never passes, infinities must be equal. */
function deviation(got: number, expected: number, tolerance: Tolerance | undefined): [number, number] {
  if (Number.isNaN(got) || Number.isNaN(expected)) return [Number.NaN, Number.POSITIVE_INFINITY];
  if (got === expected) return [0, 0];
  const difference = Math.abs(got - expected);
  if (tolerance === undefined || !Number.isFinite(difference)) return [difference, Number.POSITIVE_INFINITY];
  const allowed = tolerance.atol + tolerance.rtol * Math.abs(expected);
  return [difference, difference / allowed];
}

/**
 * Which elements count: the first neighbouring pair of axes (batch, time) that has the mask's shape decides, or one
 * of (batch, time - 1), for steps between positions: both ends must be 1. The last axis is never the time axis of a
 * pair that has features behind it, but masks of [batch, time - 1] outputs end with it. Outputs without such a pair
 * count whole.
 */
function positionFilter(shape: readonly number[], mask: StoredTensor): (index: number) => boolean {
  const [batch, time] = mask.shape as readonly [number, number];
  for (let axis = 0; axis + 1 < shape.length; axis++) {
    const steps = shape[axis + 1];
    if (shape[axis] !== batch || (steps !== time && steps !== time - 1)) continue;
    const inner = shape.slice(axis + 2).reduce((product, dim) => product * dim, 1);
    return (index) => {
      const cell = Math.floor(index / inner) % (batch * steps);
      const row = Math.floor(cell / steps);
      const position = row * time + (cell % steps);
      const here = mask.data[position] !== 0;
      return steps === time ? here : here && mask.data[position + 1] !== 0;
    };
  }
  return () => true;
}

function indexOf(flat: number, shape: readonly number[]): number[] {
  const index = new Array<number>(shape.length).fill(0);
  for (let axis = shape.length - 1, rest = flat; axis >= 0; axis--) {
    index[axis] = rest % shape[axis]!;
    rest = Math.floor(rest / shape[axis]!);
  }
  return index;
}

function firstDifference(got: unknown, expected: unknown, place: string): string | undefined {
  if (typeof got === "bigint" && typeof expected === "number")
    return firstDifference(Number(got), expected, place);
  if (Array.isArray(got) && Array.isArray(expected)) {
    for (let i = 0; i < Math.max(got.length, expected.length); i++) {
      const found = firstDifference(got[i], expected[i], `${place}[${i}]`);
      if (found !== undefined) return found;
    }
    return undefined;
  }
  if (isRecord(got) && isRecord(expected)) {
    for (const key of new Set([...Object.keys(expected), ...Object.keys(got)])) {
      const found = firstDifference(got[key], expected[key], `${place}.${key}`);
      if (found !== undefined) return found;
    }
    return undefined;
  }
  return Object.is(got, expected) ? undefined : `${place}: got ${brief(got)} expected ${brief(expected)}`;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function brief(value: unknown): string {
  if (typeof value === "bigint") return `${value}n`;
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 120 ? `${text.slice(0, 117)}…` : text;
}

function format(value: number): string {
  return Number.isInteger(value) || !Number.isFinite(value) ? String(value) : value.toPrecision(7);
}
