import { expect, it } from "vitest";
import { maskText } from "./attention-mask-text.ts";

it("labels tokens as Python's repr does, in columns of code points", () => {
  const tokens = ["it's", 'say "a"', "'\"\\", "日本", "😀\u200d", "\u3000é", "\n\n\t\u0007\u00a0", "▁x"];
  const full = new Uint8Array(tokens.length ** 2);
  const picture = {
    model_type: "gemma",
    model_id: "x",
    model_class: "GemmaModel",
    family: "gemma",
    tokens,
    image_token: "<img>",
  };
  const lines = maskText({ ...picture, full, sliding: undefined }).split("\n");
  const start = lines.findIndex((line) => line.includes("it's"));
  // Of transformers 5.18's generate_attention_matrix_from_mask for these words.
  expect(lines.slice(start, start + tokens.length).map((line) => line.slice(0, line.indexOf(":")))).toEqual([
    `"it's"          `,
    `'say "a"'       `,
    `'\\'"\\\\'         `,
    `'日本'            `,
    `'😀\\u200d'       `,
    `'\\u3000é'       `,
    `'\\n\\n\\t\\x07\\xa0'`,
    `'▁x'            `,
  ]);
});
