import { InputError } from "../errors.ts";
import { type IdsInput, readRows } from "../generation/prompt.ts";
import { Tensor } from "../tensor.ts";

/** A [batch, length] input as rows of whole numbers, all of one length. */
export function idRows(input: IdsInput, option: string): number[][] {
  const rows = readRows(option, input).map((row) =>
    row.map((value) => {
      if (Number.isSafeInteger(Number(value))) return Number(value);
      throw new InputError(`${option}: ${String(value)} is no integer`, { option });
    }),
  );
  const length = rows[0]?.length ?? 0;
  if (rows.length === 0 || rows.some((row) => row.length !== length)) {
    const lengths = rows.map((row) => row.length).join(", ") || "none";
    throw new InputError(`${option}: rows must exist and have one length, got ${lengths}`, { option });
  }
  return rows;
}

/** Labels as a Tensor, whatever way they came: nested arrays of whole numbers are ids, others floats. */
export function labelTensor(labels: Tensor | readonly unknown[]): Tensor {
  if (labels instanceof Tensor) return labels;
  const dims: number[] = [];
  for (let level: unknown = labels; Array.isArray(level); level = level[0]) dims.push(level.length);
  const values = (labels as unknown[]).flat(dims.length) as (number | bigint)[];
  const whole = values.every((value) => typeof value === "bigint" || Number.isInteger(value));
  if (
    values.length !== dims.reduce((size, dim) => size * dim, 1) ||
    values.some((value) => Number.isNaN(Number(value)))
  )
    throw new InputError("labels: expected a Tensor or nested arrays of numbers", { option: "labels" });
  return whole
    ? new Tensor("int64", BigInt64Array.from(values, BigInt), dims)
    : new Tensor("float32", Float32Array.from(values, Number), dims);
}

/** Where each row of a padded batch has its tokens: columns start..end-1. */
export interface RowSpan {
  readonly start: number;
  readonly end: number;
  /** Per column of the span, 0 where the mask hides a token between others; undefined where it hides none. */
  readonly visible: readonly number[] | undefined;
}

/**
 * The tokens' columns by an attention mask [batch, length], whose last columns count where it also covers cached
 * positions. Zeros at the sides are padding, zeros between tokens hide them.
 */
export function rowSpans(
  mask: readonly (readonly number[])[] | undefined,
  batch: number,
  length: number,
): RowSpan[] {
  if (mask === undefined)
    return Array.from({ length: batch }, () => ({ start: 0, end: length, visible: undefined }));
  if (mask.length !== batch || mask[0]!.length < length) {
    throw new InputError(
      `attention_mask: [${mask.length}, ${mask[0]!.length}] does not cover the input [${batch}, ${length}]`,
      { option: "attention_mask" },
    );
  }
  return mask.map((row) => {
    const columns = row.slice(row.length - length).map((value) => (value === 0 ? 0 : 1));
    const start = columns.indexOf(1);
    if (start === -1) return { start: 0, end: 0, visible: undefined };
    const end = columns.lastIndexOf(1) + 1;
    const span = columns.slice(start, end);
    return { start, end, visible: span.includes(0) ? span : undefined };
  });
}
