import { InputError } from "../errors.ts";
import { Tensor } from "../tensor.ts";
import { invalid } from "./checks.ts";
import type { RowMedia } from "./media.ts";

/** Ids or mask values: a tensor, or arrays of numbers, bigints or (for a mask) booleans; one row may come alone. */
export type IdsInput =
  | Tensor
  | readonly (readonly (number | bigint)[] | ArrayLike<number | bigint>)[]
  | readonly (number | bigint)[];

/** The rows that generation starts from. */
export interface Prompt {
  /** As given, padding included. */
  readonly rows: bigint[][];
  /** The same with all padding at the left: what processors and criteria see grow. */
  readonly leftPadded: bigint[][];
  /** Without padding: what the model sees. */
  readonly tokens: number[][];
  /** Tokens of each row, padding included. */
  readonly length: number;
  /** The columns of each row that hold its tokens. */
  readonly spans: readonly (readonly [start: number, end: number])[];
  /** The mask is wider than the ids: these are only the tokens that the cache does not hold. */
  readonly continues: boolean;
  /** Which columns hold tokens; where the prompt continues a cache, with those of the cache first. */
  readonly mask: boolean[][];
  /** Vectors in place of the tokens' own: [tokens, hidden_size] for each row. */
  readonly vectors?: readonly Float32Array[];
  /** There are ids besides the vectors. */
  readonly ids_too?: boolean;
  /** What of each row's tokens is not plain text. */
  readonly media?: readonly RowMedia[] | undefined;
}

export interface PromptSettings {
  readonly vocab_size: number;
  readonly pad_token_id: number;
  /** Without a mask, this token at the ends of a row is padding, unless it may end a row. */
  readonly pads: boolean;
  readonly bos_token_id: number | null;
  /** Whether a cache was given, so that the mask may be wider than the ids. */
  readonly cached: boolean;
}

/** Reads `input_ids` and `attention_mask`. Rows may be padded left or right; a mask with holes is refused. */
export function readPrompt(
  input_ids: IdsInput | null | undefined,
  attention_mask: IdsInput | null | undefined,
  settings: PromptSettings,
): Prompt {
  const given = readIds(input_ids, settings);
  const length = Math.max(...given.map((row) => row.length));
  const ragged = given.some((row) => row.length < length);
  const pad = BigInt(settings.pad_token_id);
  const rows = given.map((row) => [...new Array<bigint>(length - row.length).fill(pad), ...row]);
  let ranges: [number, number][];
  let wide: boolean[][] | undefined;
  if (attention_mask === undefined || attention_mask === null) {
    ranges = given.map((row, r) =>
      ragged || !settings.pads ? [length - row.length, length] : unpadded(rows[r]!, pad),
    );
  } else {
    const mask = readMask(attention_mask, given, length, settings.cached);
    if (mask[0]!.length > length) wide = mask;
    ranges = mask.map((values, row) => filledRange(values.slice(-length), row));
  }
  return {
    rows,
    leftPadded: rows.map((row, r) => {
      const [start, end] = ranges[r]!;
      return [...row.slice(0, start), ...row.slice(end), ...row.slice(start, end)];
    }),
    tokens: rows.map((row, r) => row.slice(...ranges[r]!).map(Number)),
    length,
    spans: ranges,
    continues: wide !== undefined,
    mask: wide ?? ranges.map(([start, end]) => rows[0]!.map((_, i) => i >= start && i < end)),
  };
}

function readIds(input: IdsInput | null | undefined, settings: PromptSettings): bigint[][] {
  if (input === undefined || input === null) {
    if (settings.bos_token_id !== null) return [[BigInt(settings.bos_token_id)]];
    throw new InputError("generate needs input_ids", { option: "input_ids" });
  }
  const rows = readRows("input_ids", input);
  if (rows.length === 0 || rows.some((row) => row.length === 0)) {
    throw invalid(
      "input_ids",
      "[batch, length] with at least one token",
      rows.map((row) => row.length),
    );
  }
  return rows.map((row, r) =>
    row.map((value) => {
      const id = Number(value);
      if (!Number.isInteger(id) || id < 0 || id >= settings.vocab_size) {
        throw new InputError(
          `input_ids[${r}] holds ${String(value)}; token ids are integers from 0 to ${settings.vocab_size - 1}`,
          { option: "input_ids" },
        );
      }
      return BigInt(id);
    }),
  );
}

function readMask(input: IdsInput, ids: readonly bigint[][], length: number, cached: boolean): boolean[][] {
  const mask = readRows("attention_mask", input).map((row) => row.map((value) => Number(value) !== 0));
  const fits = mask.every((row, r) => row.length === ids[r]?.length || (cached && row.length > length));
  if (mask.length !== ids.length || !fits || mask.some((row) => row.length !== mask[0]!.length)) {
    const shape = (rows: readonly (readonly unknown[])[]): string =>
      `[${rows.length}, ${rows[0]?.length ?? 0}]`;
    throw new InputError(`attention_mask is ${shape(mask)}, input_ids is ${shape(ids)}`, {
      option: "attention_mask",
    });
  }
  return mask;
}

/** The rows of an input, as numbers or bigints. */
export function readRows(option: string, input: IdsInput): (number | bigint)[][] {
  const nested = input instanceof Tensor ? input.tolist() : (input as unknown);
  if (!Array.isArray(nested)) throw invalid(option, "a Tensor or nested arrays", input);
  const rows: unknown[] = nested.every((item) => isScalar(item)) && nested.length > 0 ? [nested] : nested;
  return rows.map((row) => {
    const values: unknown[] = ArrayBuffer.isView(row)
      ? Array.from(row as unknown as ArrayLike<number>)
      : (row as unknown[]);
    if (!Array.isArray(values) || !values.every(isScalar)) throw invalid(option, "[batch, length]", input);
    return values as (number | bigint)[];
  });
}

/** Throws where `token_type_ids` say that there is more than text. */
export function checkTextAlone(token_type_ids: IdsInput | null | undefined): void {
  if (token_type_ids === undefined || token_type_ids === null) return;
  if (
    readRows("token_type_ids", token_type_ids)
      .flat()
      .every((type) => Number(type) === 0)
  )
    return;
  throw new InputError("token_type_ids: a text model takes text alone, whose type is 0", {
    option: "token_type_ids",
  });
}

function isScalar(value: unknown): boolean {
  return typeof value === "number" || typeof value === "bigint" || typeof value === "boolean";
}

function unpadded(row: readonly bigint[], pad: bigint): [number, number] {
  let [start, end] = [0, row.length];
  while (start < end && row[start] === pad) start++;
  while (end > start && row[end - 1] === pad) end--;
  // A row of nothing but that token means it.
  return start === end ? [0, row.length] : [start, end];
}

/** Where a row's tokens begin and end. */
export function filledRange(mask: readonly boolean[], row: number): [number, number] {
  const start = mask.indexOf(true);
  const end = mask.lastIndexOf(true) + 1;
  if (start < 0)
    throw new InputError(`attention_mask: row ${row} has no token`, { option: "attention_mask" });
  if (mask.slice(start, end).includes(false)) {
    throw new InputError(`attention_mask: row ${row} has a hole; padding belongs to the ends of a row`, {
      option: "attention_mask",
    });
  }
  return [start, end];
}
