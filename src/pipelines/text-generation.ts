import { InputError } from "../errors.ts";
import type { GenerateOptions } from "../generation/generate.ts";
import type { ChatMessage } from "../processing/chat-template.ts";
import type { TokenizeOptions } from "../processing/encoding.ts";
import { Tensor } from "../tensor.ts";
import { Pipeline } from "./base.ts";
import {
  answered,
  type Chat,
  checkGenerating,
  continues,
  type GenerativeModel,
  isChat,
  leadingZeros,
  lengthDefault,
  omit,
  pick,
} from "./generating.ts";

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
/** Continues texts and answers chats. */
export class TextGenerationPipeline extends Pipeline<TextGenerationCall, GenerativeModel> {
  async _call(inputs: unknown, options: TextGenerationOptions = {}): Promise<unknown> {
    checkGenerating(options, OWN_OPTIONS, "text-generation");
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
    return { generated_text: answered(prompt, text, options) };
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
