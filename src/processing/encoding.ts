import { InputError } from "../errors.ts";
import { Tensor } from "../tensor.ts";
import type { TemplateItem } from "./tokenizer-settings.ts";

/** How texts become rows of ids. */
export interface TokenizeOptions {
  /** The second text of each pair. */
  text_pair?: string | readonly string[] | null;
  /** true or "longest": to the longest row; "max_length": to max_length. Default: none. */
  padding?: boolean | "longest" | "max_length" | "do_not_pad";
  truncation?: boolean | "longest_first" | "only_first" | "only_second" | "do_not_truncate" | null;
  max_length?: number | null;
  padding_side?: "left" | "right";
  /** <bos> and <eos> as the tokenizer's settings say. Default: true. */
  add_special_tokens?: boolean;
  /** int64 tensors (default) or plain arrays. */
  return_tensor?: boolean;
  /** HF's name of it: whatever the library ("pt", "np"), tensors are Tensors. */
  return_tensors?: string | null;
  return_attention_mask?: boolean;
}

/** Names of TokenizeOptions, to check calls against. */
export const TOKENIZE_OPTIONS: readonly (keyof TokenizeOptions)[] = [
  "text_pair",
  "padding",
  "truncation",
  "max_length",
  "padding_side",
  "add_special_tokens",
  "return_tensor",
  "return_tensors",
  "return_attention_mask",
];

/** Whether a call gets tensors: so it does unless return_tensor is false. */
export function wantsTensors(options: { return_tensor?: boolean; return_tensors?: unknown }): boolean {
  const { return_tensor, return_tensors } = options;
  if (return_tensors === undefined || return_tensors === null) return return_tensor ?? true;
  if (typeof return_tensors !== "string" || !LIBRARIES.includes(return_tensors) || return_tensor === false) {
    throw new InputError(
      `return_tensors: expected "pt", as in HF, or return_tensor: true or false; got ${JSON.stringify(return_tensors)}`,
      { option: "return_tensors" },
    );
  }
  return true;
}

/** Names that HF has for tensors of one library or another. */
const LIBRARIES: readonly string[] = ["pt", "np", "tf", "jax", "mlx"];

/** What a tokenizer call gives: int64 tensors [batch, length]. */
export class BatchEncoding {
  readonly input_ids: Tensor;
  /** 1 at tokens, 0 at padding. Left out with return_attention_mask: false. */
  declare readonly attention_mask: Tensor;
  [name: string]: unknown;

  constructor(input_ids: Tensor, attention_mask: Tensor | undefined) {
    this.input_ids = input_ids;
    if (attention_mask !== undefined) this.attention_mask = attention_mask;
  }

  /** Returns the encoding itself: inputs live in the host's memory on every device. */
  to(_device: string): this {
    return this;
  }
}

/** A sequence before padding. */
export interface EncodingLimits {
  /** Longest row, special tokens included; undefined: no truncation. */
  readonly truncateTo: number | undefined;
  readonly strategy: "longest_first" | "only_first" | "only_second";
}

/** The limits that `truncation`, `max_length` and `padding` come to; `modelMax` is the tokenizer's own. */
export function encodingLimits(options: TokenizeOptions, modelMax: number): EncodingLimits {
  const { truncation, max_length: maxLength, padding } = options;
  if (maxLength != null && !(Number.isInteger(maxLength) && maxLength >= 0)) {
    throw new InputError(`max_length must be a whole number, got ${maxLength}`, { option: "max_length" });
  }
  // A max_length without any word on truncation or padding truncates, as in HF.
  const implied = truncation == null && maxLength != null && (padding === undefined || padding === false);
  const strategy = truncation === true || implied ? "longest_first" : truncation || "do_not_truncate";
  switch (strategy) {
    case "do_not_truncate":
      return { truncateTo: undefined, strategy: "longest_first" };
    case "longest_first":
    case "only_first":
    case "only_second": {
      const limit = maxLength ?? modelMax;
      return { truncateTo: Number.isSafeInteger(limit) ? limit : undefined, strategy };
    }
    default:
      throw new InputError(`truncation: unknown strategy "${String(strategy)}"`, { option: "truncation" });
  }
}

/** Shortens the texts' ids (in place) to `target` in all, from their ends. */
export function truncatePair(
  first: number[],
  second: number[] | undefined,
  target: number,
  strategy: EncodingLimits["strategy"],
): void {
  const excess = first.length + (second?.length ?? 0) - target;
  if (excess <= 0) return;
  if (strategy === "only_first" || second === undefined) {
    if (strategy === "only_second") throw new InputError("truncation: only_second needs a text_pair");
    cut(first, first.length - excess);
  } else if (strategy === "only_second") {
    cut(second, second.length - excess);
  } else {
    // The longer one gives way until both are equally long, then both do.
    const [short, long] = first.length <= second.length ? [first, second] : [second, first];
    const half = Math.floor(target / 2);
    const kept = Math.min(short.length, half);
    cut(long, target - kept);
    cut(short, kept);
  }
}

function cut(ids: number[], length: number): void {
  if (length < 0)
    throw new InputError("truncation: max_length leaves no room for the text", { option: "max_length" });
  ids.length = Math.min(ids.length, length);
}

/** Ids with the special tokens around them. */
export function fillTemplate(
  template: readonly TemplateItem[],
  first: readonly number[],
  second: readonly number[],
): number[] {
  const out: number[] = [];
  for (const item of template) {
    if (typeof item === "number") out.push(item);
    else for (const id of item === "A" ? first : second) out.push(id);
  }
  return out;
}

/** Pads rows to `length` (undefined: not at all) and makes their masks. */
export function padRows(
  rows: readonly number[][],
  length: number | undefined,
  side: "left" | "right",
  padId: number | undefined,
): { rows: number[][]; masks: number[][] } {
  const padded: number[][] = [];
  const masks: number[][] = [];
  for (const row of rows) {
    const ones = new Array<number>(row.length).fill(1);
    const missing = Math.max(0, (length ?? 0) - row.length);
    if (missing > 0 && padId === undefined) {
      throw new InputError("padding: the tokenizer has no pad_token", { option: "padding" });
    }
    const pads = new Array<number>(missing).fill(padId ?? 0);
    const zeros = new Array<number>(missing).fill(0);
    padded.push(side === "left" ? pads.concat(row) : row.concat(pads));
    masks.push(side === "left" ? zeros.concat(ones) : ones.concat(zeros));
  }
  return { rows: padded, masks };
}

/** int64 [rows, length]; rows of different lengths are an InputError. */
export function rowsToTensor(rows: readonly (readonly number[])[]): Tensor {
  const length = rows[0]?.length ?? 0;
  const data = new BigInt64Array(rows.length * length);
  rows.forEach((row, r) => {
    if (row.length !== length) {
      throw new InputError(
        `rows of ${length} and ${row.length} tokens make no tensor: pass padding: true, or return_tensor: false`,
        { option: "padding" },
      );
    }
    for (let i = 0; i < length; i++) data[r * length + i] = BigInt(row[i]!);
  });
  return new Tensor("int64", data, [rows.length, length]);
}
