import { Callable } from "../callable.ts";
import { InputError, rejectUnknownOptions } from "../errors.ts";
import { Tensor } from "../tensor.ts";
import { type ChatMessage, cutAfterFinalMessage, renderTemplate, templateMentions } from "./chat-template.ts";
import {
  BatchEncoding,
  encodingLimits,
  fillTemplate,
  padRows,
  rowsToTensor,
  TOKENIZE_OPTIONS,
  type TokenizeOptions,
  truncatePair,
  wantsTensors,
} from "./encoding.ts";
import type { IncrementalDecoder, TokenizerEngine } from "./tokenizer-engine.ts";
import type { TemplateItem, TokenizerSettings } from "./tokenizer-settings.ts";

/** One sequence of ids, in any of the forms in which they come: a tensor is [length] or [1, length]. */
export type TokenIds =
  | Tensor
  | readonly number[]
  | readonly bigint[]
  | BigInt64Array
  | Int32Array
  | Uint32Array;

/** How ids become text. */
export interface DecodeOptions {
  skip_special_tokens?: boolean;
  /** Takes out spaces before punctuation. Default: the tokenizer's setting, false for Gemma. */
  clean_up_tokenization_spaces?: boolean;
}

/** Options of apply_chat_template; what stands here beyond them is a variable of the template. */
export interface ChatTemplateOptions {
  /** Ids (default) or the text. */
  tokenize?: boolean;
  /** Ends with the start of the model's turn. */
  add_generation_prompt?: boolean;
  /** Leaves the last message open, for the model to continue. */
  continue_final_message?: boolean;
  /** A template, or the name of one of the tokenizer's. */
  chat_template?: string;
  tools?: readonly unknown[];
  documents?: readonly unknown[];
  padding?: TokenizeOptions["padding"];
  truncation?: TokenizeOptions["truncation"];
  max_length?: number | null;
  /** An int64 tensor (default) or arrays. */
  return_tensor?: boolean;
  /** HF's name of it. */
  return_tensors?: string | null;
  /** { input_ids, attention_mask } instead of the ids alone. */
  return_dict?: boolean;
  [variable: string]: unknown;
}

/** A single text's ids and mask as arrays. */
export interface ArrayEncoding {
  input_ids: number[];
  attention_mask: number[];
}

/** A batch's ids and masks as arrays, one row for each text. */
export interface BatchArrayEncoding {
  input_ids: number[][];
  attention_mask: number[][];
}

/** A tokenizer is called like a function. */
export interface TokenizerCall {
  (text: string, options: TokenizeOptions & { return_tensor: false }): ArrayEncoding;
  (text: readonly string[], options: TokenizeOptions & { return_tensor: false }): BatchArrayEncoding;
  (text: string | readonly string[], options?: TokenizeOptions): BatchEncoding;
}

const DECODE_OPTIONS = ["skip_special_tokens", "clean_up_tokenization_spaces"] as const;
const CHAT_OPTIONS = [
  "tokenize",
  "add_generation_prompt",
  "continue_final_message",
  "chat_template",
  "tools",
  "documents",
  "padding",
  "truncation",
  "max_length",
  "return_tensor",
  "return_tensors",
  "return_dict",
] as const;

/** Text to ids and back, with special tokens, padding and chat templates, called as in HF and Transformers.js. */
export class PreTrainedTokenizer extends Callable<TokenizerCall> {
  readonly engine: TokenizerEngine;
  readonly settings: TokenizerSettings;
  readonly bos_token: string | undefined;
  readonly eos_token: string | undefined;
  readonly unk_token: string | undefined;
  readonly pad_token: string | undefined;
  readonly bos_token_id: number | undefined;
  readonly eos_token_id: number | undefined;
  readonly unk_token_id: number | undefined;
  readonly pad_token_id: number | undefined;
  /** Tokens by role: bos_token, pad_token, image_token, boi_token … */
  readonly special_tokens_map: Readonly<Record<string, string>>;
  readonly all_special_tokens: readonly string[];
  /** Ids that skip_special_tokens leaves out. */
  readonly all_special_ids: readonly number[];
  readonly add_bos_token: boolean;
  readonly add_eos_token: boolean;
  padding_side: "left" | "right";
  model_max_length: number;
  chat_template: TokenizerSettings["chat_template"];
  readonly #special: ReadonlySet<number>;
  readonly #single: readonly TemplateItem[];
  readonly #pair: readonly TemplateItem[];
  #vocab: ReadonlyMap<string, number> | undefined;

  constructor(engine: TokenizerEngine, settings: TokenizerSettings) {
    super();
    this.engine = engine;
    this.settings = settings;
    this.padding_side = settings.padding_side;
    this.model_max_length = settings.model_max_length;
    this.chat_template = settings.chat_template;
    this.special_tokens_map = settings.special_tokens;
    this.bos_token = settings.special_tokens.bos_token;
    this.eos_token = settings.special_tokens.eos_token;
    this.unk_token = settings.special_tokens.unk_token;
    this.pad_token = settings.special_tokens.pad_token;
    this.bos_token_id = this.special_token_id("bos_token");
    this.eos_token_id = this.special_token_id("eos_token");
    this.unk_token_id = this.special_token_id("unk_token");
    this.pad_token_id = this.special_token_id("pad_token");
    const named = [...Object.values(settings.special_tokens), ...settings.additional_special_tokens];
    const ids = named.flatMap((token) => engine.idOf(token) ?? []);
    this.#special = new Set([...ids, ...engine.specialIds]);
    this.all_special_ids = [...this.#special];
    this.all_special_tokens = this.all_special_ids.flatMap((id) => engine.tokenOf(id) ?? []);
    [this.#single, this.#pair] = this.#templates();
    this.add_bos_token = this.#single.length > 0 && this.#single[0] === this.bos_token_id;
    this.add_eos_token = this.#single.length > 0 && this.#single.at(-1) === this.eos_token_id;
  }

  /** Number of ids, added tokens included. */
  get vocab_size(): number {
    return this.engine.size;
  }

  /** Id of the token in a role ("image_token", "boi_token" …), if the tokenizer has it. */
  special_token_id(role: string): number | undefined {
    const token = this.settings.special_tokens[role];
    return token === undefined ? undefined : this.engine.idOf(token);
  }

  _call(text: string | readonly string[], options: TokenizeOptions = {}): unknown {
    rejectUnknownOptions(options, TOKENIZE_OPTIONS, "tokenizer");
    const batched = Array.isArray(text);
    const texts = (batched ? text : [text]) as readonly string[];
    const pairs = pairTexts(texts, options.text_pair, batched);
    const limits = encodingLimits(options, this.model_max_length);
    const special = options.add_special_tokens ?? true;
    const encoded = texts.map((one, i) => this.#encodeRow(one, pairs?.[i], special, limits));
    const length = this.#padLength(encoded, options);
    const { rows, masks } = padRows(encoded, length, this.#paddingSide(options), this.pad_token_id);
    const withMask = options.return_attention_mask ?? true;
    if (wantsTensors(options)) {
      return new BatchEncoding(rowsToTensor(rows), withMask ? rowsToTensor(masks) : undefined);
    }
    return {
      input_ids: batched ? rows : rows[0]!,
      ...(withMask && { attention_mask: batched ? masks : masks[0]! }),
    };
  }

  /** Ids of one text, or of a pair of texts. */
  encode(text: string, options: { text_pair?: string | null; add_special_tokens?: boolean } = {}): number[] {
    rejectUnknownOptions(options, ["text_pair", "add_special_tokens"], "tokenizer.encode");
    const encoding = this._call(text, {
      ...options,
      truncation: false,
      return_tensor: false,
    }) as ArrayEncoding;
    return encoding.input_ids;
  }

  /** Tokens of one text, as they stand in the vocabulary. */
  tokenize(
    text: string,
    options: { text_pair?: string | null; add_special_tokens?: boolean } = {},
  ): string[] {
    return this.convert_ids_to_tokens(this.encode(text, { add_special_tokens: false, ...options }));
  }

  /** Text of ids. A model's vocabulary may be larger than its tokenizer's: such ids are left out, as in HF. */
  decode(ids: TokenIds | number | bigint, options: DecodeOptions = {}): string {
    rejectUnknownOptions(options, DECODE_OPTIONS, "tokenizer.decode");
    const sequence = typeof ids === "number" || typeof ids === "bigint" ? [Number(ids)] : idsOf(ids);
    const known = Array.from(sequence, checkedId).filter((id) => id < this.engine.size);
    const text = this.engine.decode(known, options.skip_special_tokens ? this.#special : undefined);
    return (options.clean_up_tokenization_spaces ?? this.settings.clean_up_tokenization_spaces)
      ? cleanUp(text)
      : text;
  }

  /** Text of each row; a tensor is [batch, length]. */
  batch_decode(rows: Tensor | readonly TokenIds[], options: DecodeOptions = {}): string[] {
    if (rows instanceof Tensor && rows.dims.length !== 2) {
      throw new InputError(`batch_decode: a tensor [batch, length] expected, got [${rows.dims.join(", ")}]`);
    }
    return [...rows].map((row) => this.decode(row, options));
  }

  /** A decoder for streams: takes ids one at a time and gives only finished text. */
  decoder(options: { skip_special_tokens?: boolean } = {}): IncrementalDecoder {
    rejectUnknownOptions(options, ["skip_special_tokens"], "tokenizer.decoder");
    const inner = this.engine.decoder(options.skip_special_tokens ? this.#special : undefined);
    return {
      push: (id) => (checkedId(Number(id)) < this.engine.size ? inner.push(Number(id)) : ""),
      flush: () => inner.flush(),
    };
  }

  convert_ids_to_tokens(id: number | bigint): string;
  convert_ids_to_tokens(ids: TokenIds): string[];
  convert_ids_to_tokens(ids: TokenIds | number | bigint): string | string[] {
    const token = (id: number): string =>
      (checkedId(id) < this.engine.size ? this.engine.tokenOf(id) : undefined) ?? "";
    if (typeof ids === "number" || typeof ids === "bigint") return token(Number(ids));
    return Array.from(idsOf(ids), token);
  }

  /** Ids of tokens; what is no token becomes the unknown token's id. */
  convert_tokens_to_ids(token: string): number;
  convert_tokens_to_ids(tokens: readonly string[]): number[];
  convert_tokens_to_ids(tokens: string | readonly string[]): number | number[] {
    const id = (token: string): number => {
      const found = this.engine.idOf(token) ?? this.unk_token_id;
      if (found === undefined) throw new InputError(`${JSON.stringify(token)} is not in the vocabulary`);
      return found;
    };
    return typeof tokens === "string" ? id(tokens) : tokens.map(id);
  }

  /** Every token and its id. Made on the first call: it takes a while and some memory. */
  get_vocab(): ReadonlyMap<string, number> {
    if (this.#vocab === undefined) {
      const vocab = new Map<string, number>();
      for (let id = 0; id < this.engine.size; id++) {
        const token = this.engine.tokenOf(id);
        if (token !== undefined && !vocab.has(token)) vocab.set(token, id);
      }
      this.#vocab = vocab;
    }
    return this.#vocab;
  }

  /** A conversation in the model's own format; the template writes <bos> and the like itself. */
  apply_chat_template(
    messages: readonly ChatMessage[],
    options: ChatTemplateOptions & { tokenize: false },
  ): string;
  apply_chat_template(
    messages: readonly (readonly ChatMessage[])[],
    options: ChatTemplateOptions & { tokenize: false },
  ): string[];
  apply_chat_template(messages: Chats, options: ChatTemplateOptions & { return_dict: true }): BatchEncoding;
  apply_chat_template(
    messages: readonly ChatMessage[],
    options: ChatTemplateOptions & { return_tensor: false },
  ): number[];
  apply_chat_template(messages: Chats, options?: ChatTemplateOptions): Tensor;
  apply_chat_template(messages: Chats, options: ChatTemplateOptions = {}): unknown {
    const source = this.get_chat_template(options.chat_template, options.tools);
    const variables = templateVariables(options, source);
    const batched = Array.isArray(messages[0]);
    const chats = (batched ? messages : [messages]) as readonly (readonly ChatMessage[])[];
    const texts = chats.map((chat) => this.#render(chat, source, variables, options));
    if (options.tokenize === false) return batched ? texts : texts[0]!;
    const { padding, truncation, max_length: maxLength } = options;
    const encoding = this._call(batched ? texts : texts[0]!, {
      add_special_tokens: false,
      ...(padding !== undefined && { padding }),
      ...(maxLength !== undefined && { max_length: maxLength }),
      truncation: truncation ?? false,
      return_tensor: wantsTensors(options),
    }) as { input_ids: unknown };
    return options.return_dict ? encoding : encoding.input_ids;
  }

  /** The template's source: the given one (or one of the tokenizer's by that name), else the tokenizer's own. */
  get_chat_template(wanted?: string, tools?: readonly unknown[]): string {
    const own = this.chat_template;
    if (typeof own === "object") {
      const named =
        wanted ?? (tools !== undefined && Object.hasOwn(own, "tool_use") ? "tool_use" : "default");
      if (Object.hasOwn(own, named)) return own[named]!;
      if (wanted === undefined) {
        throw new InputError(`chat_template: name one of ${Object.keys(own).join(", ")}`, {
          option: "chat_template",
        });
      }
    }
    const source = wanted ?? (own as string | undefined);
    if (source === undefined) {
      throw new InputError("the tokenizer has no chat template (a base model?): pass chat_template", {
        option: "chat_template",
      });
    }
    return source;
  }

  #render(
    messages: readonly ChatMessage[],
    source: string,
    variables: Readonly<Record<string, unknown>>,
    options: ChatTemplateOptions,
  ): string {
    const { continue_final_message: open, add_generation_prompt: prompt } = options;
    if (open && prompt) {
      throw new InputError("continue_final_message and add_generation_prompt exclude each other", {
        option: "continue_final_message",
      });
    }
    const rendered = renderTemplate(source, {
      ...this.special_tokens_map,
      tools: options.tools ?? null,
      documents: options.documents ?? null,
      ...variables,
      messages,
      add_generation_prompt: prompt ?? false,
    });
    return open ? cutAfterFinalMessage(rendered, messages) : rendered;
  }

  #templates(): [readonly TemplateItem[], readonly TemplateItem[]] {
    const { add_bos_token: bos, add_eos_token: eos, post_processor: processor } = this.settings;
    if (bos === undefined && eos === undefined)
      return [processor?.single ?? ["A"], processor?.pair ?? ["A", "B"]];
    const start = bos && this.bos_token_id !== undefined ? [this.bos_token_id] : [];
    const end = eos && this.eos_token_id !== undefined ? [this.eos_token_id] : [];
    const single = [...start, "A" as const, ...end];
    return [single, [...single, ...start, "B", ...end]];
  }

  #encodeRow(
    text: string,
    pair: string | undefined,
    special: boolean,
    limits: ReturnType<typeof encodingLimits>,
  ): number[] {
    if (typeof text !== "string") throw new InputError(`tokenizer: text expected, got ${typeof text}`);
    const template = !special ? (["A", "B"] as const) : pair === undefined ? this.#single : this.#pair;
    const first = this.engine.encode(text);
    const second = pair === undefined ? undefined : this.engine.encode(pair);
    if (limits.truncateTo !== undefined) {
      const added = template.filter((item) => typeof item === "number").length;
      truncatePair(first, second, limits.truncateTo - added, limits.strategy);
    }
    return fillTemplate(template, first, second ?? []);
  }

  #padLength(rows: readonly number[][], options: TokenizeOptions): number | undefined {
    switch (options.padding ?? false) {
      case false:
      case "do_not_pad":
        return undefined;
      case true:
      case "longest":
        return rows.reduce((longest, row) => Math.max(longest, row.length), 0);
      case "max_length": {
        const length = options.max_length ?? this.model_max_length;
        if (Number.isSafeInteger(length)) return length;
        throw new InputError('padding "max_length" needs max_length: the tokenizer has no limit of its own', {
          option: "max_length",
        });
      }
      default:
        throw new InputError(`padding: unknown strategy "${String(options.padding)}"`, { option: "padding" });
    }
  }

  #paddingSide(options: TokenizeOptions): "left" | "right" {
    const side = options.padding_side ?? this.padding_side;
    if (side === "left" || side === "right") return side;
    throw new InputError(`padding_side must be "left" or "right", got "${String(side)}"`, {
      option: "padding_side",
    });
  }
}

function checkedId(id: number): number {
  if (Number.isSafeInteger(id) && id >= 0) return id;
  throw new InputError(`${id} is no token id`);
}

/** The tokenizer of every Gemma model. */
export class GemmaTokenizer extends PreTrainedTokenizer {}

/** HF's name for the same tokenizer. */
export const GemmaTokenizerFast: typeof GemmaTokenizer = GemmaTokenizer;

type Chats = readonly ChatMessage[] | readonly (readonly ChatMessage[])[];

function pairTexts(
  texts: readonly string[],
  pair: TokenizeOptions["text_pair"],
  batched: boolean,
): readonly string[] | undefined {
  if (pair == null) return undefined;
  const pairs = typeof pair === "string" ? [pair] : pair;
  if (batched !== Array.isArray(pair) || pairs.length !== texts.length) {
    throw new InputError("text_pair must have the form of the texts: one text, or as many as there are", {
      option: "text_pair",
    });
  }
  return pairs;
}

/** Variables for the template: options that are none of ours, as long as the template knows them. */
function templateVariables(options: ChatTemplateOptions, source: string): Record<string, unknown> {
  const known: readonly string[] = CHAT_OPTIONS;
  const rest = Object.fromEntries(Object.entries(options).filter(([key]) => !known.includes(key)));
  const unread = Object.fromEntries(Object.entries(rest).filter(([key]) => !templateMentions(source, key)));
  rejectUnknownOptions(unread, known, "apply_chat_template");
  return rest;
}

function idsOf(ids: TokenIds): ArrayLike<number> {
  if (ids instanceof Tensor) {
    const { dims, data } = ids;
    if (dims.length !== 1 && !(dims.length === 2 && dims[0] === 1)) {
      throw new InputError(`one row of ids expected, got a tensor [${dims.join(", ")}]: use batch_decode`);
    }
    return Array.from(data as ArrayLike<number | bigint>, Number);
  }
  return Array.from(ids as ArrayLike<number | bigint>, Number);
}

/** HF's clean_up_tokenization_spaces. */
function cleanUp(text: string): string {
  return text
    .replace(/ ([.?!,])/g, "$1")
    .replace(/ ' /g, "'")
    .replace(/ (n't|'m|'s|'ve|'re)/g, "$1");
}
