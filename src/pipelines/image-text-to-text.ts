import { InputError, rejectUnknownOptions } from "../errors.ts";
import type { GenerateOptions } from "../generation/generate.ts";
import type { ChatMessage } from "../processing/chat-template.ts";
import type { ImageInputs } from "../processing/image-pixels.ts";
import type { Processor } from "../processing/processor.ts";
import type { ProcessorAudio, ProcessorEncoding } from "../processing/processor-call.ts";
import type { ProcessorOptions } from "../processing/processor-options.ts";
import { Tensor } from "../tensor.ts";
import { Pipeline, type PipelineParts } from "./base.ts";
import {
  answered,
  type Chat,
  checkGenerating,
  continues,
  type GenerativeModel,
  leadingZeros,
  lengthDefault,
  omit,
  pick,
} from "./generating.ts";
import { type MediaPrompts, readMediaPrompts, withPlaceholders } from "./media-prompts.ts";

/** Options of the call: those of `generate`, and how texts and media go in and come out. */
export interface MediaTextOptions
  extends Omit<
    GenerateOptions,
    "input_ids" | "inputs" | "attention_mask" | "token_type_ids" | "past_key_values"
  > {
  readonly text?: string | readonly string[] | Chat | readonly Chat[] | null;
  readonly images?: ImageInputs | null;
  readonly audio?: ProcessorAudio | null;
  /** Input and continuation (default), or the continuation alone. */
  readonly return_full_text?: boolean;
  /** Ids instead of text: { input_text, generated_token_ids }. */
  readonly return_tensors?: boolean;
  /** Leaves special tokens out of the text; true. */
  readonly skip_special_tokens?: boolean;
  readonly clean_up_tokenization_spaces?: boolean;
  /** Goes on writing the last message; by default where this is the assistant's. */
  readonly continue_final_message?: boolean;
  readonly chat_template?: string;
  readonly tools?: readonly unknown[];
  readonly documents?: readonly unknown[];
  /** Options of the processor's call: do_pan_and_scan … */
  readonly processor_kwargs?: ProcessorOptions;
  /** Options of `generate` in one object, as HF has them. */
  readonly generate_kwargs?: GenerateOptions;
  /** Text that ends the continuation; `stop_strings` of generate. */
  readonly stop_sequence?: string | readonly string[];
  readonly do_pan_and_scan?: boolean;
}

/** All of a call in one object, as HF's keywords. */
export type MediaTextInputs = MediaTextOptions;

/** One continuation. */
export interface MediaTextOutput<Input = string, Text = Input> {
  readonly input_text: Input;
  readonly generated_text: Text;
  /** The whole row, with return_tensors and then instead of the text. */
  readonly generated_token_ids?: readonly number[];
}

/**
 * `pipe(images, { text })`, `pipe({ images, text })`, `pipe(messages)`, `pipe({ text: messages })`, or a list of
 * conversations, which gives a list of lists; a list of texts gives one list, as in HF.
 */
export interface MediaTextCall {
  (
    chat: Chat,
    options: MediaTextOptions & { return_full_text: false },
  ): Promise<MediaTextOutput<Chat, string>[]>;
  (chat: Chat, options?: MediaTextOptions): Promise<MediaTextOutput<Chat, ChatMessage[]>[]>;
  (chats: readonly Chat[], options?: MediaTextOptions): Promise<MediaTextOutput<Chat, ChatMessage[]>[][]>;
  (
    inputs: MediaTextInputs & { text: Chat },
    options?: MediaTextOptions,
  ): Promise<MediaTextOutput<Chat, ChatMessage[]>[]>;
  (
    images: ImageInputs,
    options: MediaTextOptions & { text: string | readonly string[] },
  ): Promise<MediaTextOutput[]>;
  (
    images: ImageInputs,
    text: string | readonly string[],
    options?: MediaTextOptions,
  ): Promise<MediaTextOutput[]>;
  (inputs: MediaTextInputs, options?: MediaTextOptions): Promise<MediaTextOutput[]>;
  (text: string | readonly string[], options?: MediaTextOptions): Promise<MediaTextOutput[]>;
}

/** Parts of the pipelines of texts with other media. */
export interface MediaPipelineParts extends PipelineParts<GenerativeModel> {
  readonly processor: Processor;
}

const TEMPLATE_OPTIONS = ["chat_template", "tools", "documents"] as const;
const DECODE_OPTIONS = ["clean_up_tokenization_spaces"] as const;
const OWN_OPTIONS = [
  "text",
  "images",
  "audio",
  "return_full_text",
  "return_tensors",
  "skip_special_tokens",
  "continue_final_message",
  "processor_kwargs",
  "generate_kwargs",
  "stop_sequence",
  "do_pan_and_scan",
  ...TEMPLATE_OPTIONS,
  ...DECODE_OPTIONS,
] as const;

/** Continues texts with images, or sounds, and answers conversations that hold them: HF's pipelines of two names. */
export class ImageTextToTextPipeline extends Pipeline<MediaTextCall, GenerativeModel> {
  readonly processor: Processor;

  constructor(parts: MediaPipelineParts) {
    super(parts);
    this.processor = parts.processor;
  }

  async _call(...given: unknown[]): Promise<unknown> {
    const { prompts, options } = readMediaPrompts(given, this.task);
    checkGenerating(options, OWN_OPTIONS, this.task);
    if (prompts.kind === "texts") return this.#write(prompts, options);
    const { chats } = prompts;
    const open = chats.map((chat) => continues(chat, options));
    // A template either begins a turn or leaves one open: chats of both kinds are no batch.
    const mixed = open.some((one) => one !== open[0]);
    const records = mixed
      ? await Promise.all(chats.map((chat) => this.#write({ ...prompts, chats: [chat] }, options)))
      : await this.#write(prompts, options);
    const flat = records.flat();
    const copies = flat.length / chats.length;
    return prompts.batched ? chats.map((_, i) => flat.slice(i * copies, (i + 1) * copies)) : flat;
  }

  async #write(prompts: MediaPrompts, options: MediaTextOptions): Promise<object[]> {
    const inputs = await this.#encode(prompts, options);
    const { stop_sequence, generate_kwargs = {} } = options;
    const generation = { ...omit(options, OWN_OPTIONS), ...generate_kwargs };
    const twice = Object.keys(generate_kwargs).find((name) => Object.hasOwn(options, name));
    if (twice !== undefined)
      throw new InputError(`${this.task}: ${twice} stands by itself and in generate_kwargs`, {
        option: twice,
      });
    rejectUnknownOptions(
      pick(generate_kwargs as object as Record<string, unknown>, ["input_ids"]),
      [],
      "generate_kwargs",
    );
    const sequences = await this.model.generate({
      ...inputs,
      ...lengthDefault(generation, this.model.generation_config),
      tokenizer: this.tokenizer,
      ...(stop_sequence !== undefined && { stop_strings: [stop_sequence].flat() }),
      ...generation,
    });
    if (!(sequences instanceof Tensor)) throw new InputError(`${this.task}: the model gave no ids`);
    const given = prompts.kind === "texts" ? prompts.texts : prompts.chats;
    const copies = sequences.dims[0]! / given.length;
    return [...sequences].map((row, i) => {
      const prompt = Math.floor(i / copies);
      const padding = leadingZeros(inputs.attention_mask.at(prompt)!);
      const length = inputs.input_ids.dims[1]! - padding;
      return this.#record(given[prompt]!, row.slice([padding, null]), length, options);
    });
  }

  async #encode(prompts: MediaPrompts, options: MediaTextOptions): Promise<ProcessorEncoding> {
    const { signal, do_pan_and_scan, processor_kwargs } = options;
    const call: ProcessorOptions = {
      padding: true,
      padding_side: "left",
      ...(signal && { signal }),
      ...(do_pan_and_scan !== undefined && { do_pan_and_scan }),
      ...processor_kwargs,
    };
    if (prompts.kind === "texts") {
      const { texts, images, audio } = withPlaceholders(prompts, this.processor);
      return this.processor({
        text: texts,
        images: images as ImageInputs,
        audio: audio as ProcessorAudio,
        ...call,
      });
    }
    const open = continues(prompts.chats[0]!, options);
    return this.processor.apply_chat_template(prompts.chats, {
      ...pick(options, TEMPLATE_OPTIONS),
      ...call,
      add_generation_prompt: !open,
      continue_final_message: open,
      tokenize: true,
      return_dict: true,
    });
  }

  #record(prompt: string | Chat, row: Tensor, promptLength: number, options: MediaTextOptions): object {
    const ids = Array.from(row.data as BigInt64Array, Number);
    if (options.return_tensors === true) return { input_text: prompt, generated_token_ids: ids };
    const text = this.tokenizer.decode(ids.slice(promptLength), {
      skip_special_tokens: options.skip_special_tokens ?? true,
      ...pick(options, DECODE_OPTIONS),
    });
    if (options.return_full_text === false) return { input_text: prompt, generated_text: text };
    const whole = typeof prompt === "string" ? prompt + text : answered(prompt, text, options);
    return { input_text: prompt, generated_text: whole };
  }
}
