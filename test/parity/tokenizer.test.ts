import { existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { InputError } from "../../src/errors.ts";
import type { ChatMessage } from "../../src/processing/chat-template.ts";
import { loadTokenizer } from "../../src/processing/load-tokenizer.ts";
import type { PreTrainedTokenizer } from "../../src/processing/tokenizer.ts";
import type { TokenizerOverrides } from "../../src/processing/tokenizer-settings.ts";

interface Encoded {
  input_ids: number[] & number[][];
  attention_mask: number[] & number[][];
}
interface Sample {
  text: string;
  ids: number[];
  ids_with_special: number[];
  tokens: string[];
  decoded: string;
  decoded_skip_special: string;
  messages: ChatMessage[];
  options: Record<string, boolean>;
  message?: string;
}
interface Test {
  name: string;
  checkpoint: string | null;
  call: string;
  arguments: { text?: string[]; chat_template?: string };
  expected_values: {
    samples: Sample[];
    left?: Encoded;
    right?: Encoded;
    truncated?: Encoded;
    pair?: Encoded;
    batch?: Encoded;
  };
}

const GOLDEN = path.resolve(import.meta.dirname, "../../../shared/golden/tokenizer");
const hasGolden = existsSync(GOLDEN);
/** Folder with tokenizer.json of the released Gemma 3 tokenizer. Its settings are the tests', not the folder's. */
const RELEASED = process.env.LAPIDARY_TEST_TOKENIZER;

const cases = hasGolden
  ? (JSON.parse(readFileSync(path.join(GOLDEN, "cases.json"), "utf8")) as { tests: Test[] }).tests
  : [];

describe.skipIf(!hasGolden)("golden tokenizer", () => {
  const released = RELEASED === undefined ? undefined : mkdtempSync(path.join(tmpdir(), "tokenizer-"));
  beforeAll(() => {
    if (released === undefined) return;
    symlinkSync(path.resolve(RELEASED!, "tokenizer.json"), path.join(released, "tokenizer.json"));
  });
  afterAll(() => {
    if (released !== undefined) rmSync(released, { recursive: true });
  });
  for (const test of cases) {
    const folder = test.checkpoint === null ? released : path.join(GOLDEN, test.checkpoint);
    it.skipIf(folder === undefined)(test.name, async () =>
      run(test, await loadTokenizer({ folder: folder!, overrides: settingsOf(test) })),
    );
  }
});

/** Without a checkpoint the tests themselves state what is added around a text. */
function settingsOf(test: Test): TokenizerOverrides {
  if (test.checkpoint !== null) return {};
  if (test.name === "gemma3_embedding_settings") {
    return { add_bos_token: true, add_eos_token: true, padding_side: "right" };
  }
  return { add_bos_token: true, add_eos_token: false };
}

function run(test: Test, tokenizer: PreTrainedTokenizer): void {
  const { samples } = test.expected_values;
  switch (test.call) {
    case "tokenize_and_decode":
      for (const sample of samples) checkText(tokenizer, sample);
      return;
    case "decode":
      for (const sample of samples) {
        expect(tokenizer.decode(sample.ids)).toBe(sample.decoded);
        const decoder = tokenizer.decoder();
        expect(sample.ids.map((id) => decoder.push(id)).join("") + decoder.flush()).toBe(sample.decoded);
      }
      return;
    case "apply_chat_template":
      for (const sample of samples) checkChat(tokenizer, sample, test.arguments.chat_template);
      return;
    case "tokenize":
      checkPadding(tokenizer, test);
      return;
    default:
      throw new Error(`unknown call ${test.call}`);
  }
}

function checkText(tokenizer: PreTrainedTokenizer, sample: Sample): void {
  const { text, ids } = sample;
  expect(tokenizer.encode(text, { add_special_tokens: false }), JSON.stringify(text)).toEqual(ids);
  expect(tokenizer(text, { return_tensor: false }).input_ids).toEqual(sample.ids_with_special);
  expect(tokenizer(text).input_ids.tolist()).toEqual([sample.ids_with_special.map(BigInt)]);
  expect(tokenizer.tokenize(text)).toEqual(sample.tokens);
  expect(tokenizer.convert_ids_to_tokens(ids)).toEqual(sample.tokens);
  expect(tokenizer.convert_tokens_to_ids(sample.tokens)).toEqual(ids);
  expect(tokenizer.decode(sample.ids_with_special)).toBe(sample.decoded);
  expect(tokenizer.decode(sample.ids_with_special, { skip_special_tokens: true })).toBe(
    sample.decoded_skip_special,
  );
}

function checkChat(tokenizer: PreTrainedTokenizer, sample: Sample, template: string | undefined): void {
  const options = { ...sample.options, ...(template !== undefined && { chat_template: template }) };
  if (sample.message !== undefined) {
    const render = () => tokenizer.apply_chat_template(sample.messages, options);
    expect(render).toThrow(InputError);
    expect(render).toThrow(sample.message);
    return;
  }
  expect(tokenizer.apply_chat_template(sample.messages, { ...options, tokenize: false })).toBe(sample.text);
  expect(tokenizer.apply_chat_template(sample.messages, { ...options, return_tensor: false })).toEqual(
    sample.ids,
  );
}

function checkPadding(tokenizer: PreTrainedTokenizer, test: Test): void {
  const { left, right, truncated, pair, batch } = test.expected_values;
  const text = test.arguments.text!;
  const options = { padding: true, return_tensor: false } as const;
  if (batch !== undefined) {
    expect(tokenizer(text, options)).toEqual(batch);
    return;
  }
  expect(tokenizer(text, options)).toEqual(left);
  expect(tokenizer(text, { ...options, padding_side: "right" })).toEqual(right);
  const long = "one two three four five six";
  expect(tokenizer(long, { truncation: true, max_length: 5, return_tensor: false })).toEqual(truncated);
  expect(tokenizer("Hello", { text_pair: "world", return_tensor: false })).toEqual(pair);
}
