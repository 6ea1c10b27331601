import { InputError } from "../errors.ts";
import { countOf, type MediaRows, mediaRows } from "../processing/media-rows.ts";
import type { Processor } from "../processing/processor.ts";
import { type Chat, isChat } from "./generating.ts";
import type { MediaTextOptions } from "./image-text-to-text.ts";

/** What a call is about: texts with their media, or conversations that hold them. */
export type MediaPrompts =
  | {
      readonly kind: "texts";
      readonly texts: readonly string[];
      readonly images: unknown;
      readonly audio: unknown;
    }
  | { readonly kind: "chats"; readonly chats: readonly Chat[]; readonly batched: boolean };

/**
 * Reads HF's forms of a call: images and text by position or by name, a conversation or several in the place of
 * either, a text alone. What is left are options.
 */
export function readMediaPrompts(
  given: readonly unknown[],
  task: string,
): { readonly prompts: MediaPrompts; readonly options: MediaTextOptions } {
  const [first, second, third, ...rest] = given;
  if (rest.length > 0) throw new InputError(`${task}: images, text and options are all that is taken`);
  const isText =
    typeof second === "string" || (Array.isArray(second) && second.every((one) => typeof one === "string"));
  const options = {
    ...(isOptions(first) ? first : {}),
    ...((isText ? third : second) as MediaTextOptions | undefined),
  };
  const images = options.images ?? (isOptions(first) ? undefined : (first ?? undefined));
  const text = options.text ?? (isText ? second : undefined);
  const { audio } = options;
  const chats = chatsOf(text ?? images);
  if (chats !== undefined) {
    if ((text !== undefined && images !== undefined) || (audio ?? undefined) !== undefined)
      throw new InputError(`${task}: images and sounds of a conversation stand in its messages`);
    return { prompts: { kind: "chats", ...chats }, options };
  }
  // Texts alone, in the place where images would stand.
  const only = text ?? (options.images === undefined && audio == null ? images : undefined);
  const texts = typeof only === "string" ? [only] : only;
  if (!Array.isArray(texts) || texts.length === 0 || !texts.every((one) => typeof one === "string"))
    throw new InputError(
      `${task}: a text is needed: pipe(images, { text }), or a list of messages { role, content }`,
    );
  const pictures = text === undefined ? undefined : images;
  return { prompts: { kind: "texts", texts, images: pictures, audio }, options };
}

/**
 * Texts in which every image and clip has its placeholder: a lone start token counts as one (Gemma 3n's pages write it
 * so), missing ones go in front. As many images, or clips, as texts in a flat list are one for each.
 */
export function withPlaceholders(
  { texts, images, audio }: MediaPrompts & { readonly kind: "texts" },
  processor: Processor,
): { readonly texts: readonly string[]; readonly images: unknown; readonly audio: unknown } {
  const pictures = rowsFor(texts, images, "images");
  const clips = rowsFor(texts, audio, "audio");
  const { image_token, audio_token } = processor;
  const filled = texts.map((text, i) => {
    const withImages = fill(text, pictures?.[i]?.length ?? 0, image_token, "<start_of_image>");
    return audio_token === undefined
      ? withImages
      : fill(withImages, clips?.[i]?.length ?? 0, audio_token, "<start_of_audio>");
  });
  return { texts: filled, images: pictures, audio: clips };
}

function rowsFor(texts: readonly string[], media: unknown, kind: "images" | "audio"): MediaRows | undefined {
  if (media === undefined || media === null) return undefined;
  const rows = mediaRows(media, kind);
  const [only, ...others] = rows;
  const oneEach = others.length === 0 && texts.length > 1 && only?.length === texts.length;
  return oneEach ? only.map((item) => [item]) : rows;
}

function fill(text: string, count: number, placeholder: string, start: string): string {
  if (count === 0) return text;
  const marked = start === placeholder ? text : text.replaceAll(start, placeholder);
  const missing = Math.max(0, count - countOf(marked, placeholder));
  return `${placeholder} `.repeat(missing) + marked;
}

function chatsOf(value: unknown): { chats: readonly Chat[]; batched: boolean } | undefined {
  if (isChat(value)) return { chats: [value], batched: false };
  if (Array.isArray(value) && value.length > 0 && value.every(isChat)) return { chats: value, batched: true };
  return undefined;
}

/** Options are plain objects; images are strings, buffers, lists or instances of classes. */
function isOptions(value: unknown): value is MediaTextOptions {
  if (typeof value !== "object" || value === null) return false;
  return Object.getPrototypeOf(value) === Object.prototype;
}
