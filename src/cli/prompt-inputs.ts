import type { PretrainedOptions } from "../api/options.ts";
import { AutoProcessor } from "../api/processors.ts";
import { AutoTokenizer } from "../api/tokenizers.ts";
import { ConfigError, InputError } from "../errors.ts";
import { withPlaceholders } from "../pipelines/media-prompts.ts";
import type { ChatMessage } from "../processing/chat-template.ts";
import type { ImageInputs } from "../processing/image-pixels.ts";
import type { Processor } from "../processing/processor.ts";
import type { ProcessorAudio } from "../processing/processor-call.ts";
import type { PreTrainedTokenizer } from "../processing/tokenizer.ts";
import type { Tensor } from "../tensor.ts";

/** Flags that say what a prompt consists of. */
export interface PromptFlags {
  readonly task?: string;
  readonly raw?: boolean;
  readonly system?: string;
  readonly image?: readonly string[];
  readonly audio?: readonly string[];
  readonly panAndScan?: boolean;
}

/** What turns prompts into ids; the processor is there where a prompt may hold images or sounds. */
export interface PromptEncoder {
  readonly tokenizer: PreTrainedTokenizer;
  readonly processor: Processor | undefined;
}

/** A prompt as a model takes it. */
export interface PromptInputs {
  readonly ids: readonly number[];
  /** token_type_ids, and features of images and sounds. */
  readonly media: Readonly<Record<string, unknown>>;
}

/** Whether a prompt holds more than text. */
export function hasMedia({ image = [], audio = [] }: PromptFlags): boolean {
  return image.length + audio.length > 0;
}

/** The tokenizer of a model, or where more than text is asked for its processor. */
export async function loadEncoder(
  id: string,
  options: PretrainedOptions,
  media: boolean,
): Promise<PromptEncoder> {
  if (!media) return { tokenizer: await AutoTokenizer.from_pretrained(id, options), processor: undefined };
  try {
    const processor = await AutoProcessor.from_pretrained(id, options);
    return { tokenizer: processor.tokenizer, processor };
  } catch (error) {
    if (!(error instanceof ConfigError) || error.key !== "model_type") throw error;
    throw new InputError(`${id} takes text alone, neither images nor audio`, { cause: error });
  }
}

/** The processor where the model has one, else the tokenizer: for conversations, in which images may come later. */
export async function loadWidestEncoder(
  id: string,
  options: PretrainedOptions & { readonly chat_template?: string },
): Promise<PromptEncoder> {
  try {
    return await loadEncoder(id, options, true);
  } catch (error) {
    // An InputError is that of a model for text alone; the files of a processor may be missing, or damaged.
    if (error instanceof ConfigError) process.stderr.write(`text alone: ${error.message}\n`);
    else if (!(error instanceof InputError)) throw error;
    return loadEncoder(id, options, false);
  }
}

/**
 * A prompt's ids, and what its images and sounds become: through the chat template where the model has one, media
 * first; as it is otherwise, with the placeholders that it lacks in front.
 */
export async function promptInputs(
  { tokenizer, processor }: PromptEncoder,
  prompt: string,
  flags: PromptFlags,
  signal: AbortSignal,
): Promise<PromptInputs> {
  const hasTemplate = tokenizer.chat_template !== null && tokenizer.chat_template !== undefined;
  const asChat = hasTemplate && flags.raw !== true && flags.task === undefined;
  if (!asChat && flags.system !== undefined)
    throw new InputError("--system needs a model with a chat template, without --raw and --task");
  if (processor === undefined) {
    const ids = asChat
      ? tokenizer.apply_chat_template(messagesOf(prompt, flags), {
          add_generation_prompt: true,
          return_tensor: false,
        })
      : tokenizer.encode(prompt);
    return { ids, media: {} };
  }
  const { image = [], audio = [] } = flags;
  if (audio.length > 0 && processor.audio_token === undefined)
    throw new InputError("the model takes no audio", { option: "audio" });
  const options = { signal, ...(flags.panAndScan === true && { do_pan_and_scan: true }) };
  const filled = withPlaceholders(
    {
      kind: "texts",
      texts: [prompt],
      images: image.length > 0 ? image : undefined,
      audio: audio.length > 0 ? audio : undefined,
    },
    processor,
  );
  const {
    input_ids,
    attention_mask: _mask,
    ...media
  } = await (asChat
    ? processor.apply_chat_template(messagesOf(prompt, flags), {
        ...options,
        add_generation_prompt: true,
        tokenize: true,
        return_dict: true,
      })
    : processor({
        text: filled.texts,
        images: filled.images as ImageInputs,
        audio: filled.audio as ProcessorAudio,
        ...options,
      }));
  return { ids: idsOf(input_ids), media };
}

function messagesOf(prompt: string, { system, image = [], audio = [] }: PromptFlags): ChatMessage[] {
  const text = { type: "text", text: prompt };
  const media = [
    ...image.map((path) => ({ type: "image", image: path })),
    ...audio.map((path) => ({ type: "audio", audio: path })),
  ];
  return [
    ...(system === undefined ? [] : [{ role: "system", content: system }]),
    { role: "user", content: media.length === 0 ? prompt : [...media, text] },
  ];
}

function idsOf(input_ids: Tensor): number[] {
  return Array.from(input_ids.data as BigInt64Array, Number);
}
