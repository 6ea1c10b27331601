import { InputError } from "../errors.ts";

/** The InputError for an option whose value cannot be used: name, what was expected, what came. */
export function invalid(option: string, expected: string, got: unknown): InputError {
  return new InputError(`${option} must be ${expected}, got ${show(got)}`, { option });
}

/** An integer of at least `least`. */
export function integerFrom(option: string, value: unknown, least: number): number {
  if (typeof value === "number" && Number.isSafeInteger(value) && value >= least) return value;
  const words = new Map([
    [0, "a non-negative integer"],
    [1, "a positive integer"],
  ]);
  throw invalid(option, words.get(least) ?? `an integer of at least ${least}`, value);
}

/** A finite number that passes `test`; `expected` says in words what passes. */
export function numberWhere(
  option: string,
  value: unknown,
  expected: string,
  test: (value: number) => boolean = () => true,
): number {
  if (typeof value === "number" && Number.isFinite(value) && test(value)) return value;
  throw invalid(option, expected, value);
}

/** One of `choices`. */
export function oneOf<T>(option: string, value: unknown, choices: readonly T[]): T {
  if (choices.includes(value as T)) return value as T;
  throw invalid(option, `one of ${choices.map((choice) => show(choice)).join(", ")}`, value);
}

/** A token id. Ids may come as bigints, as tensors of int64 hold them. */
export function tokenId(option: string, value: unknown): number {
  return integerFrom(option, typeof value === "bigint" ? Number(value) : value, 0);
}

/** Token ids: one, or a list that may be empty. */
export function tokenIds(option: string, value: unknown): number[] {
  if (Array.isArray(value) || ArrayBuffer.isView(value)) {
    return Array.from(value as unknown as ArrayLike<unknown>, (id) => tokenId(option, id));
  }
  return [tokenId(option, value)];
}

/** A list of token sequences, none of them empty. */
export function tokenSequences(option: string, value: unknown): number[][] {
  if (!Array.isArray(value)) throw invalid(option, "a list of lists of token ids", value);
  return value.map((sequence: unknown) => {
    if (!Array.isArray(sequence) || sequence.length === 0) {
      throw invalid(option, "a list of non-empty lists of token ids", value);
    }
    return tokenIds(option, sequence);
  });
}

/** Pairs of a token sequence and its bias, from HF's list form ([[ids, bias], …]) or a Map. */
export function sequenceBiases(option: string, value: unknown): [number[], number][] {
  const expected = "a non-empty list of [token ids, bias] pairs or a Map from token ids to biases";
  const pairs: unknown[] = value instanceof Map ? [...value] : Array.isArray(value) ? value : [];
  if (pairs.length === 0) throw invalid(option, expected, value);
  return pairs.map((pair) => {
    const [ids, bias] = Array.isArray(pair) ? pair : [];
    if (!Array.isArray(ids) || ids.length === 0 || typeof bias !== "number" || Number.isNaN(bias)) {
      throw invalid(option, expected, value);
    }
    return [tokenIds(option, ids), bias];
  });
}

/** True for `{…}` literals and JSON objects, false for arrays, tensors and instances of other classes. */
export function isPlainObject(value: unknown): value is Record<string, unknown> {
  if (typeof value !== "object" || value === null) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}

function show(value: unknown): string {
  if (typeof value === "bigint") return `${value}n`;
  if (typeof value === "number" || value === undefined) return String(value);
  if (typeof value === "function") return "a function";
  let text: string;
  try {
    text = JSON.stringify(value) ?? String(value);
  } catch {
    text = Object.prototype.toString.call(value);
  }
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}
