import type { Tensor } from "../tensor.ts";
import type { AudioInputs } from "./audio/gemma3n-audio-processor.ts";
import type { AudioInput } from "./audio/raw-audio.ts";
import { BatchEncoding } from "./encoding.ts";
import type { ImageInputs } from "./gemma3-image-processor.ts";
import type { ProcessorOptions } from "./processor-options.ts";
import type { BatchArrayEncoding } from "./tokenizer.ts";

/** What a model takes: ids with their masks, and features of images and sounds where there are any. */
export class ProcessorEncoding extends BatchEncoding {
  /** 1 at the tokens of images, 3 at those of sounds, 0 elsewhere: int64 [batch, length]. */
  declare readonly token_type_ids: Tensor;
  /** float32 [images and crops, channels, height, width] */
  declare readonly pixel_values?: Tensor;
  /** float32 [clips, frames, bins] */
  declare readonly input_features?: Tensor;
  /** bool [clips, frames]: 1 at frames of sound, 0 at padding */
  declare readonly input_features_mask?: Tensor;
}

/** What is awaited, and HF's `.to(device)` on it: `await processor.apply_chat_template(…).to(model.device)`. */
export type PendingEncoding = Promise<ProcessorEncoding> & { to(device: string): Promise<ProcessorEncoding> };

/** The same with ids as arrays, for return_tensor: false. */
export interface ProcessorArrays extends BatchArrayEncoding {
  token_type_ids?: number[][];
  pixel_values?: Tensor;
  input_features?: Tensor;
  input_features_mask?: Tensor;
}

/** Sounds: a list of clips in the order of their placeholders, or a list for each text. */
export type ProcessorAudio = AudioInputs | readonly (readonly (AudioInput | readonly number[])[])[];

/** Text, or texts; without any, media get a text of their placeholders. */
export type ProcessorText = string | readonly string[] | null;

/** All of a call in one object, as HF's keywords. */
export interface ProcessorInputs extends ProcessorOptions {
  text?: ProcessorText;
  images?: ImageInputs | null;
  audio?: ProcessorAudio | null;
}

type ArrayOptions = ProcessorOptions & { return_tensor: false };

/** A processor is called like a function, with (text, images, audio, options); what is not needed may be left out. */
export interface ProcessorCall {
  (text: ProcessorText, images: ImageInputs | null, options: ArrayOptions): Promise<ProcessorArrays>;
  (text: ProcessorText, images: ImageInputs | null, options: ProcessorOptions): Promise<ProcessorEncoding>;
  (text: ProcessorText, options: ProcessorOptions): Promise<ProcessorEncoding>;
  (
    text: ProcessorText,
    images?: ImageInputs | null,
    audio?: ProcessorAudio | null,
    options?: ProcessorOptions,
  ): Promise<ProcessorEncoding>;
  (inputs: ProcessorInputs): Promise<ProcessorEncoding>;
}

/** Options of a processor's apply_chat_template: those of its call, of the template, and variables of the template. */
export interface ProcessorChatOptions extends ProcessorOptions {
  /** What the model takes instead of the text; false by default. */
  tokenize?: boolean;
  /** All inputs instead of the ids alone. */
  return_dict?: boolean;
  /** Ends with the start of the model's turn. */
  add_generation_prompt?: boolean;
  /** Leaves the last message open, for the model to continue. */
  continue_final_message?: boolean;
  /** A template, or the name of one of the tokenizer's. */
  chat_template?: string;
  tools?: readonly unknown[];
  documents?: readonly unknown[];
  /** Options of the call in one object, HF's newer form. */
  processor_kwargs?: ProcessorOptions;
  [variable: string]: unknown;
}
