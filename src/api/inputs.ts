import { InputError } from "../errors.ts";
import { type IdsInput, readRows } from "../generation/prompt.ts";

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
