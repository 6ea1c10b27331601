import { Callable } from "../callable.ts";
import { rejectUnknownOptions } from "../errors.ts";
import type { Tensor } from "../tensor.ts";
import { chatMedia, withoutSources } from "./chat-media.ts";
import { type ChatMessage, templateMentions } from "./chat-template.ts";
import { rowsToTensor, wantsTensors } from "./encoding.ts";
import type { MediaFeatures, MediaPart } from "./media-part.ts";
import { checkSoftTokens, type MediaRows, replaceEach } from "./media-rows.ts";
import { type ProcessorArguments, readArguments } from "./processor-arguments.ts";
import {
  type PendingEncoding,
  type ProcessorArrays,
  type ProcessorCall,
  type ProcessorChatOptions,
  ProcessorEncoding,
} from "./processor-call.ts";
import { layOut } from "./processor-layout.ts";
import {
  type ProcessorOptions,
  processorOptionNames,
  routeOptions,
  type TextOptions,
} from "./processor-options.ts";
import type { DecodeOptions, PreTrainedTokenizer, TokenIds } from "./tokenizer.ts";

const TEMPLATE_OPTIONS: readonly string[] = [
  "add_generation_prompt",
  "continue_final_message",
  "chat_template",
  "tools",
  "documents",
];
const CHAT_OPTIONS: readonly string[] = [...TEMPLATE_OPTIONS, "tokenize", "return_dict", "processor_kwargs"];

type Chat = readonly ChatMessage[];

/** Texts with images and sounds to what a model takes, as HF's ProcessorMixin: base of the processors. */
export abstract class Processor extends Callable<ProcessorCall> {
  readonly tokenizer: PreTrainedTokenizer;
  /** What a text holds in the place of an image. */
  abstract readonly image_token: string;
  /** What a text holds in the place of a clip; undefined where the model takes no audio. */
  readonly audio_token?: string;
  /** What is done with each kind of media that the model takes. */
  protected abstract readonly parts: readonly MediaPart[];

  protected constructor(tokenizer: PreTrainedTokenizer) {
    super();
    this.tokenizer = tokenizer;
  }

  /** The tokenizer's template. */
  get chat_template(): PreTrainedTokenizer["chat_template"] {
    return this.tokenizer.chat_template;
  }

  async _call(...given: unknown[]): Promise<ProcessorEncoding | ProcessorArrays> {
    return this.#encode(readArguments(given));
  }

  /** Text of one row of ids. */
  decode(ids: TokenIds | number | bigint, options: DecodeOptions = {}): string {
    return this.tokenizer.decode(ids, options);
  }

  /** Text of each row of ids. */
  batch_decode(rows: Tensor | readonly TokenIds[], options: DecodeOptions = {}): string[] {
    return this.tokenizer.batch_decode(rows, options);
  }

  /**
   * A conversation as text, or with `tokenize: true` as what the model takes; then parts such as
   * `{ type: "image", url }` (or path, base64, image) are read.
   */
  apply_chat_template(
    messages: Chat | readonly Chat[],
    options: ProcessorChatOptions & { tokenize: true; return_dict: true },
  ): PendingEncoding;
  apply_chat_template(
    messages: Chat | readonly Chat[],
    options: ProcessorChatOptions & { tokenize: true },
  ): Promise<Tensor>;
  apply_chat_template(messages: Chat, options?: ProcessorChatOptions): string;
  apply_chat_template(messages: readonly Chat[], options?: ProcessorChatOptions): string[];
  apply_chat_template(messages: Chat | readonly Chat[], options: ProcessorChatOptions = {}): unknown {
    const batched = Array.isArray(messages[0]);
    const chats = (batched ? messages : [messages]) as readonly Chat[];
    const { template, call } = this.#chatOptions(options);
    const texts = chats.map((chat) =>
      this.tokenizer.apply_chat_template(withoutSources(chat), { ...template, tokenize: false }),
    );
    if (options.tokenize !== true) return batched ? texts : texts[0]!;
    const encoding = this.#encodeChats(chats, texts, call);
    if (options.return_dict !== true) return encoding.then(({ input_ids }) => input_ids);
    const to = async (device: string): Promise<unknown> => {
      const arrived = await encoding;
      return arrived instanceof ProcessorEncoding ? arrived.to(device) : arrived;
    };
    return Object.assign(encoding, { to });
  }

  async #encodeChats(
    chats: readonly Chat[],
    texts: readonly string[],
    options: ProcessorOptions,
  ): Promise<ProcessorEncoding | ProcessorArrays> {
    const media = chats.map(chatMedia);
    const some = (rows: MediaRows): MediaRows | undefined =>
      rows.some((row) => row.length > 0) ? rows : undefined;
    // Most templates write <bos> themselves.
    const { bos_token } = this.tokenizer;
    const hasBos = bos_token !== undefined && texts[0]!.startsWith(bos_token);
    return this.#encode({
      text: texts,
      images: some(media.map(({ images }) => images)),
      audio: some(media.map(({ audio }) => audio)),
      options: hasBos ? { ...options, add_special_tokens: false } : options,
    });
  }

  /** Options for the template, and those for the processor's call. */
  #chatOptions(options: ProcessorChatOptions): {
    readonly template: Record<string, unknown>;
    readonly call: ProcessorOptions;
  } {
    const names = processorOptionNames(this.parts);
    const source = this.tokenizer.get_chat_template(options.chat_template, options.tools);
    const template: Record<string, unknown> = {};
    const call: Record<string, unknown> = { ...options.processor_kwargs };
    const unknown: Record<string, unknown> = {};
    for (const [name, value] of Object.entries(options)) {
      if (names.includes(name)) call[name] = value;
      else if (TEMPLATE_OPTIONS.includes(name)) template[name] = value;
      else if (CHAT_OPTIONS.includes(name)) continue;
      else (templateMentions(source, name) ? template : unknown)[name] = value;
    }
    rejectUnknownOptions(unknown, [...CHAT_OPTIONS, ...names], "apply_chat_template");
    return { template, call };
  }

  async #encode(given: ProcessorArguments): Promise<ProcessorEncoding | ProcessorArrays> {
    const options = routeOptions(given.options, this.parts, "processor");
    wantsTensors(options.text);
    const { texts, media } = layOut(
      given,
      this.parts.map(({ token }) => token),
    );
    let expanded = texts;
    const inputs: Record<string, Tensor> = {};
    for (const part of this.parts) {
      const { kind } = part.token;
      const items = media[kind]?.flat() ?? [];
      if (items.length === 0) continue;
      const features = await part.features(items, options[kind]);
      Object.assign(inputs, features.inputs);
      expanded = expand(expanded, features, part);
    }
    return this.#tokenize(expanded, options.text, inputs);
  }

  #tokenize(
    texts: readonly string[],
    options: TextOptions,
    features: Readonly<Record<string, Tensor>>,
  ): ProcessorEncoding | ProcessorArrays {
    const { return_mm_token_type_ids: marked = true, return_tensor, return_tensors, ...others } = options;
    const encoded = this.tokenizer(texts, { ...others, return_tensor: false });
    const { input_ids, attention_mask } = encoded as typeof encoded & { attention_mask?: number[][] };
    const tokens = this.parts.map(({ token }) => token);
    for (const token of tokens) checkSoftTokens(texts, input_ids, token);
    const typeOf = (id: number): number => tokens.find((token) => token.id === id)?.type ?? 0;
    const types = marked ? input_ids.map((row) => row.map(typeOf)) : undefined;
    const given = { ...(return_tensor !== undefined && { return_tensor }), return_tensors };
    if (!wantsTensors(given)) return { ...encoded, ...(types && { token_type_ids: types }), ...features };
    const mask = attention_mask && rowsToTensor(attention_mask);
    return Object.assign(
      new ProcessorEncoding(rowsToTensor(input_ids), mask),
      types && { token_type_ids: rowsToTensor(types) },
      features,
    );
  }
}

/** Texts with the placeholders of a kind replaced, in their order over all texts. */
function expand(texts: readonly string[], features: MediaFeatures, { token }: MediaPart): string[] {
  let next = 0;
  return texts.map((text) => replaceEach(text, token.placeholder, () => features.texts[next++]!));
}
