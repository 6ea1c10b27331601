import { field, type Loaded, method, toNested } from "../api.ts";
import type { Call } from "./call.ts";

type Options = Readonly<Record<string, unknown>>;

interface TextSample {
  readonly text: string;
  readonly ids: readonly number[];
  readonly ids_with_special: readonly number[];
}

interface ChatSample {
  readonly name: string;
  readonly messages: unknown;
  readonly options: Options;
  readonly error?: string;
  readonly message?: string;
}

/** Texts one by one: ids with and without special tokens, token strings, and decoding of the ids. */
export const tokenizeAndDecode: Call = async ({ load, test }) => {
  const tokenizer = await load(test.class);
  const tokens = tokensOf(tokenizer);
  const samples = samplesOf<TextSample>(test).map((sample) => {
    // Decoding is judged on the expected ids, so that one slip is not reported twice.
    const decode = (skip: boolean): unknown =>
      method(tokenizer, "decode", test.class)(sample.ids_with_special, { skip_special_tokens: skip });
    return {
      text: sample.text,
      ids: encode(tokenizer, sample.text, { add_special_tokens: false }),
      ids_with_special: encode(tokenizer, sample.text, {}),
      ...(tokens === undefined ? {} : { tokens: tokens(sample.ids, sample.text) }),
      decoded: decode(false),
      decoded_skip_special: decode(true),
    };
  });
  if (tokens !== undefined) return { values: { samples } };
  const given = samplesOf<object>(test).map((sample, i) => ({ ...sample, ...samples[i] }));
  return {
    values: { samples: given },
    missing: `${test.class} has neither convert_ids_to_tokens nor tokenize`,
  };
};

/** Decoding of every prefix of some ids. */
export const decode: Call = async ({ load, test }) => {
  const tokenizer = await load(test.class);
  const samples = samplesOf<{ ids: readonly number[] }>(test).map(({ ids }) => ({
    ids,
    decoded: method(tokenizer, "decode", test.class)(ids),
  }));
  return { values: { samples } };
};

/** Rows of ids to texts. */
export const batchDecode: Call = async ({ load, test, inputs }) => {
  const tokenizer = await load(test.class);
  const text = method(tokenizer, "batch_decode", test.class)(inputs().sequences, { ...test.arguments });
  return { values: { text } };
};

/**
 * Batches with padding, and what the set's maker records beside them: the other side, a truncated text, a pair.
 * cases.json states the text of the batch only; the others are the maker's.
 */
export const tokenize: Call = async ({ load, test }) => {
  const tokenizer = await load(test.class);
  const { text, ...options } = test.arguments;
  const calls: Record<string, () => unknown> = {
    left: () => tokenizer(text, { ...options, return_tensor: false }),
    batch: () => tokenizer(text, { ...options, return_tensor: false }),
    right: () => tokenizer(text, { ...options, padding_side: "right", return_tensor: false }),
    truncated: () =>
      tokenizer("one two three four five six", { truncation: true, max_length: 5, return_tensor: false }),
    pair: () => tokenizer("Hello", { text_pair: "world", return_tensor: false }),
  };
  const values: Record<string, unknown> = {};
  for (const [name, expected] of Object.entries(test.expected_values ?? {})) {
    // A remark on how the set was made, not an output.
    if (name === "transformers_version") values[name] = expected;
    const call = calls[name];
    if (call === undefined) continue;
    const result = await call();
    values[name] = Object.fromEntries(
      Object.keys(expected as object).map((key) => [key, toNested(field(result, key))]),
    );
  }
  return { values };
};

/** Chats to text and ids, or to the error that the template raises. */
export const chatTemplate: Call = async ({ load, test }) => {
  const tokenizer = await load(test.class);
  const apply = method(tokenizer, "apply_chat_template", test.class);
  const samples = [];
  for (const sample of samplesOf<ChatSample>(test)) {
    const { name, messages, options } = sample;
    const given = { ...test.arguments, ...options };
    const make = async (): Promise<object> => ({
      text: await apply(messages, { ...given, tokenize: false }),
      ids: toNested(
        await apply(messages, { ...given, tokenize: true, return_tensor: false, return_dict: false }),
      ),
    });
    samples.push({
      name,
      messages,
      options,
      ...(await (sample.error === undefined ? make() : failing(sample, make))),
    });
  }
  return { values: { samples } };
};

/** The expected error, when the call fails with its message; what happened instead otherwise. */
async function failing(sample: ChatSample, make: () => Promise<object>): Promise<object> {
  try {
    return await make();
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    const expected = sample.message ?? "";
    return { error: sample.error, message: message.includes(expected) ? expected : message };
  }
}

function samplesOf<Sample>(test: { readonly expected_values?: Options }): readonly Sample[] {
  return (test.expected_values?.samples ?? []) as readonly Sample[];
}

function encode(tokenizer: Loaded, text: string, options: Options): unknown {
  return toNested(field(tokenizer(text, { ...options, return_tensor: false }), "input_ids"));
}

/** How to get token strings: by ids as in HF, or from the text as in Transformers.js. */
function tokensOf(tokenizer: Loaded): ((ids: readonly number[], text: string) => unknown) | undefined {
  if (typeof tokenizer.convert_ids_to_tokens === "function") {
    return (ids) => method(tokenizer, "convert_ids_to_tokens", "tokenizer")(ids);
  }
  if (typeof tokenizer.tokenize === "function") {
    return (_ids, text) => method(tokenizer, "tokenize", "tokenizer")(text, { add_special_tokens: false });
  }
  return undefined;
}
