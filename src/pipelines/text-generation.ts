import { InputError, rejectUnknownOptions } from "../errors.ts";
import { CALL_OPTION_NAMES, type GenerateOptions } from "../generation/generate.ts";
import { GenerationConfig, type GenerationOptions } from "../generation/generation-config.ts";
import { FIELD_NAMES } from "../generation/generation-fields.ts";
import type { ChatMessage } from "../processing/chat-template.ts";
import type { TokenizeOptions } from "../processing/encoding.ts";
import { Tensor } from "../tensor.ts";
import { Pipeline, type PipelineModel } from "./base.ts";

/** A conversation. */
export type Chat = readonly ChatMessage[];

/** Options of the call: those of `generate`, and how texts go in and come out. */
export interface TextGenerationOptions
  extends Omit<GenerateOptions, "input_ids" | "inputs" | "attention_mask" | "past_key_values"> {
  /** Prompt and continuation (default), or the continuation alone. */
  readonly return_full_text?: boolean;
  /** Ids instead of text: { generated_token_ids }. */
  readonly return_tensors?: boolean;
  /** <bos> and the like around a text, as the tokenizer's settings say; true. Chats get what their template writes. */
  readonly add_special_tokens?: boolean;
  /** Leaves special tokens out of the text; true. */
  readonly skip_special_tokens?: boolean;
  readonly clean_up_tokenization_spaces?: boolean;
  /** Goes on writing the last message; by default where this is the assistant's. */
  readonly continue_final_message?: boolean;
  readonly tools?: readonly unknown[];
  readonly documents?: readonly unknown[];
  readonly chat_template?: string;
  /** Further options of the tokenizer's call, or for chats of apply_chat_template. */
  readonly tokenizer_encode_kwargs?: Readonly<Record<string, unknown>>;
}

/** One continuation. */
export interface TextGenerationOutput<Text = string> {
  readonly generated_text: Text;
  /** The whole row, with return_tensors and then alone. */
  readonly generated_token_ids?: readonly number[];
}

/** How the pipeline is called: one input gives a list of continuations, a list of inputs a list of such lists. */
export interface TextGenerationCall {
  (
    input: string | Chat,
    options: TextGenerationOptions & { return_full_text: false },
  ): Promise<TextGenerationOutput[]>;
  (
    inputs: readonly string[] | readonly Chat[],
    options: TextGenerationOptions & { return_full_text: false },
  ): Promise<TextGenerationOutput[][]>;
  (text: string, options?: TextGenerationOptions): Promise<TextGenerationOutput[]>;
  (chat: Chat, options?: TextGenerationOptions): Promise<TextGenerationOutput<ChatMessage[]>[]>;
  (texts: readonly string[], options?: TextGenerationOptions): Promise<TextGenerationOutput[][]>;
  (chats: readonly Chat[], options?: TextGenerationOptions): Promise<TextGenerationOutput<ChatMessage[]>[][]>;
}

/** What the pipeline needs of a causal language model. */
export interface GenerativeModel extends PipelineModel {
  generate(options: GenerateOptions): Promise<unknown>;
  readonly generation_config?: GenerationOptions;
}

const OWN_OPTIONS = [
  "return_full_text",
  "return_tensors",
  "add_special_tokens",
  "skip_special_tokens",
  "clean_up_tokenization_spaces",
  "continue_final_message",
  "tools",
  "documents",
  "chat_template",
  "tokenizer_encode_kwargs",
] as const;
const CHAT_OPTIONS = ["tools", "documents", "chat_template"] as const;
const DECODE_OPTIONS = ["clean_up_tokenization_spaces"] as const;
/** What the pipeline makes of its input, under the names of `generate`. */
const SET_HERE = new Set(["input_ids", "inputs", "inputs_embeds", "attention_mask", "past_key_values"]);
/** A pipeline gives texts: what else `generate` can tell has no place in them. */
const NO_PLACE = [
  "return_dict_in_generate",
  "output_scores",
  "output_logits",
  "output_hidden_states",
  "output_attentions",
] as const;
/** HF's and Transformers.js' number of new tokens where neither the call nor the model says how many. */
const DEFAULT_NEW_TOKENS = 256;

/** Continues texts and answers chats. */
export class TextGenerationPipeline extends Pipeline<TextGenerationCall, GenerativeModel> {
  async _call(inputs: unknown, options: TextGenerationOptions = {}): Promise<unknown> {
    checkOptions(options);
    const { prompts, batched } = readInputs(inputs);
    if (prompts.length === 0) return [];
    const own = pick(options, OWN_OPTIONS);
    const encoded = this.#encode(prompts, own);
    const { input_ids } = encoded;
    const sequences = await this.model.generate({
      ...encoded,
      ...lengthDefault(options, this.model.generation_config),
      tokenizer: this.tokenizer,
      ...omit(options, OWN_OPTIONS),
    });
    if (!(sequences instanceof Tensor)) throw new InputError("text-generation: the model gave no ids");
    const copies = sequences.dims[0]! / prompts.length;
    const records = [...sequences].map((row, i) => {
      const prompt = Math.floor(i / copies);
      const padding = leadingZeros(encoded.attention_mask.at(prompt)!);
      return this.#record(prompts[prompt]!, row.slice([padding, null]), input_ids.dims[1]! - padding, own);
    });
    const grouped = prompts.map((_, i) => records.slice(i * copies, (i + 1) * copies));
    return batched ? grouped : grouped[0]!;
  }

  /** One batch, padded on the left: continuations start where prompts end. */
  #encode(
    prompts: readonly Prompt[],
    options: TextGenerationOptions,
  ): { input_ids: Tensor; attention_mask: Tensor } {
    const extra = options.tokenizer_encode_kwargs ?? {};
    const chats = prompts.some((prompt) => typeof prompt !== "string");
    const texts = prompts.map((prompt) =>
      typeof prompt === "string" ? prompt : this.#render(prompt, options, extra),
    );
    const special = options.add_special_tokens;
    const tokenizing: TokenizeOptions = {
      padding: true,
      padding_side: "left",
      // A template writes its special tokens itself.
      ...(chats ? { add_special_tokens: false } : extra),
      ...(chats || special === undefined ? {} : { add_special_tokens: special }),
    };
    const { input_ids, attention_mask } = this.tokenizer(texts, tokenizing);
    return { input_ids, attention_mask };
  }

  #render(chat: Chat, options: TextGenerationOptions, extra: Readonly<Record<string, unknown>>): string {
    const open = continues(chat, options);
    return this.tokenizer.apply_chat_template(chat, {
      ...pick(options, CHAT_OPTIONS),
      ...extra,
      add_generation_prompt: !open,
      continue_final_message: open,
      tokenize: false,
    });
  }

  #record(prompt: Prompt, row: Tensor, promptLength: number, options: TextGenerationOptions): object {
    const ids = Array.from(row.data as BigInt64Array, Number);
    if (options.return_tensors === true) return { generated_token_ids: ids };
    const text = this.tokenizer.decode(ids.slice(promptLength), {
      skip_special_tokens: options.skip_special_tokens ?? true,
      ...pick(options, DECODE_OPTIONS),
    });
    if (options.return_full_text === false) return { generated_text: text };
    if (typeof prompt === "string") return { generated_text: prompt + text };
    const messages = continues(prompt, options)
      ? [...prompt.slice(0, -1), continued(prompt.at(-1)!, text)]
      : [...prompt, { role: "assistant", content: text }];
    return { generated_text: messages };
  }
}

type Prompt = string | Chat;

function readInputs(inputs: unknown): { prompts: readonly Prompt[]; batched: boolean } {
  if (typeof inputs === "string") return { prompts: [inputs], batched: false };
  if (isChat(inputs)) return { prompts: [inputs], batched: false };
  if (Array.isArray(inputs)) {
    const list: readonly unknown[] = inputs;
    if (list.every((item) => typeof item === "string")) return { prompts: list, batched: true };
    if (list.every(isChat)) return { prompts: list, batched: true };
  }
  throw new InputError(
    "text-generation: expected a text, a list of texts, a list of messages { role, content }, or a list of such lists",
  );
}

function isChat(value: unknown): value is Chat {
  return (
    Array.isArray(value) &&
    value.length > 0 &&
    value.every(
      (item: unknown) => typeof item === "object" && item !== null && "role" in item && "content" in item,
    )
  );
}

function continues(chat: Chat, { continue_final_message }: TextGenerationOptions): boolean {
  return continue_final_message ?? chat.at(-1)!.role === "assistant";
}

/** The message with more text at its end. */
function continued(message: ChatMessage, text: string): ChatMessage {
  const { content } = message;
  if (typeof content === "string") return { ...message, content: content + text };
  const last = content.findLastIndex((part) => typeof part.text === "string");
  return {
    ...message,
    content: content.map((part, i) => (i === last ? { ...part, text: part.text + text } : part)),
  };
}

function checkOptions(options: TextGenerationOptions): void {
  const generation = CALL_OPTION_NAMES.filter((name) => !SET_HERE.has(name));
  rejectUnknownOptions(options, [...OWN_OPTIONS, ...FIELD_NAMES, ...generation], "text-generation");
  const asked = NO_PLACE.find((name) => options[name] === true);
  if (asked !== undefined)
    throw new InputError(`text-generation: ${asked} has no place in the output; call pipe.model.generate`, {
      option: asked,
    });
  if (options.return_tensors === true && options.return_full_text !== undefined)
    throw new InputError("return_tensors and return_full_text exclude each other", {
      option: "return_tensors",
    });
}

/** max_new_tokens, unless the call or the model limits the length. */
function lengthDefault(
  options: TextGenerationOptions,
  model: GenerationOptions | undefined,
): { max_new_tokens?: number } {
  const given = options.generation_config ?? {};
  const call = given instanceof GenerationConfig ? given.to_object() : given;
  const limited = [options, call, model ?? {}].some(
    ({ max_new_tokens, max_length }) => (max_new_tokens ?? max_length ?? null) !== null,
  );
  return limited ? {} : { max_new_tokens: DEFAULT_NEW_TOKENS };
}

function leadingZeros(mask: Tensor): number {
  const first = Array.from(mask.data as BigInt64Array, Number).indexOf(1);
  return first === -1 ? 0 : first;
}

function pick<T extends object, K extends keyof T>(object: T, names: readonly K[]): Partial<Pick<T, K>> {
  const found = names.flatMap((name) => (object[name] === undefined ? [] : [[name, object[name]]]));
  return Object.fromEntries(found) as Partial<Pick<T, K>>;
}

function omit<T extends object, K extends keyof T>(object: T, names: readonly K[]): Omit<T, K> {
  const left = Object.entries(object).filter(([name]) => !names.includes(name as K));
  return Object.fromEntries(left) as Omit<T, K>;
}
