import { InputError } from "../errors.ts";
import { type NestedNumbers, Tensor } from "../tensor.ts";

/** Ids, masks or positions as callers give them: a tensor [batch, length], or (nested) arrays. */
export type IdsInput = Tensor | readonly (number | bigint)[] | readonly (readonly (number | bigint)[])[];

/** A [batch, length] tensor of integers as plain rows. One row may come without its batch. */
export function idRows(input: IdsInput, option: string): number[][] {
  const nested = input instanceof Tensor ? input.tolist() : (input as NestedNumbers[]);
  if (!Array.isArray(nested))
    throw new InputError(`${option}: expected a Tensor or arrays of numbers`, { option });
  const rows = nested.length > 0 && !Array.isArray(nested[0]) ? [nested] : nested;
  const result = rows.map((row) => {
    if (!Array.isArray(row)) throw new InputError(`${option}: expected [batch, length]`, { option });
    return row.map((value) => {
      const number = Array.isArray(value) ? Number.NaN : Number(value);
      if (!Number.isSafeInteger(number))
        throw new InputError(`${option}: ${String(value)} is no integer`, { option });
      return number;
    });
  });
  const length = result[0]?.length ?? 0;
  if (result.length === 0 || result.some((row) => row.length !== length)) {
    throw new InputError(
      `${option}: rows must exist and have one length, got ${result.map((row) => row.length).join(", ") || "none"}`,
      { option },
    );
  }
  return result;
}

/** Where each row of a padded batch has its tokens: columns start..end-1. */
export interface RowSpan {
  readonly start: number;
  readonly end: number;
}

/**
 * The tokens' columns by an attention mask [batch, length], whose last columns count where it also covers cached
 * positions. Zeros may stand on either side, not between tokens.
 */
export function rowSpans(
  mask: readonly (readonly number[])[] | undefined,
  batch: number,
  length: number,
): RowSpan[] {
  if (mask === undefined) return Array.from({ length: batch }, () => ({ start: 0, end: length }));
  if (mask.length !== batch || mask[0]!.length < length) {
    throw new InputError(
      `attention_mask: [${mask.length}, ${mask[0]!.length}] does not cover input_ids [${batch}, ${length}]`,
      { option: "attention_mask" },
    );
  }
  return mask.map((row, r) => {
    const columns = row.slice(row.length - length);
    const start = columns.indexOf(1);
    if (start === -1) return { start: 0, end: 0 };
    const end = columns.lastIndexOf(1) + 1;
    if (columns.some((value, i) => value !== (i >= start && i < end ? 1 : 0))) {
      throw new InputError(
        `attention_mask: row ${r} has zeros between its tokens, or values besides 0 and 1; only padding on the sides is supported`,
        {
          option: "attention_mask",
        },
      );
    }
    return { start, end };
  });
}
