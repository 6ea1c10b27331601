import { padRows, rowsToTensor } from "../processing/encoding.ts";
import type { ArrayEncoding, PreTrainedTokenizer } from "../processing/tokenizer.ts";
import type { Tensor } from "../tensor.ts";

/** A text, or two that belong together. */
export interface TextPair {
  readonly text: string;
  readonly text_pair?: string | null;
}

/** Texts as a model takes them, and their ids without padding. */
export interface TextBatch {
  readonly input_ids: Tensor;
  readonly attention_mask: Tensor;
  readonly rows: readonly (readonly number[])[];
}

/** Texts and pairs as one batch, padded on the right so that column i is token i, cut to the tokenizer's limit. */
export function encodeTexts(tokenizer: PreTrainedTokenizer, texts: readonly TextPair[]): TextBatch {
  const rows = texts.map(({ text, text_pair }) => {
    const options = { text_pair: text_pair ?? null, truncation: true, return_tensor: false } as const;
    return (tokenizer(text, options) as ArrayEncoding).input_ids;
  });
  const length = Math.max(0, ...rows.map((row) => row.length));
  const padded = padRows(rows, length, "right", tokenizer.pad_token_id);
  return { input_ids: rowsToTensor(padded.rows), attention_mask: rowsToTensor(padded.masks), rows };
}
