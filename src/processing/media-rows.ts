import { InputError } from "../errors.ts";
import type { MediaKind, MediaToken } from "./media-part.ts";

/** The images, or the clips, of each text. */
export type MediaRows = readonly (readonly unknown[])[];

/**
 * Media by text, as HF's make_nested_list_of_images has it: lists of lists as they are, a flat list as that of one
 * text, a single one as a list of it.
 */
export function mediaRows(media: unknown, kind: MediaKind): MediaRows {
  if (!isList(media)) return [[media]];
  const lists = media.filter(isList);
  if (lists.length === media.length) return lists as MediaRows;
  if (lists.length === 0) return [media];
  throw new InputError(
    `processor: ${kind} are a flat list, for one text, or a list of lists, one for each text; got both`,
  );
}

/** Whether media are given text by text. */
export function isNested(media: unknown): boolean {
  return isList(media) && media.length > 0 && media.every(isList);
}

/** Plain numbers are the samples of a sound, not a list of media. */
function isList(value: unknown): value is readonly unknown[] {
  return Array.isArray(value) && typeof value[0] !== "number";
}

/** How often a text holds a placeholder. */
export function countOf(text: string, placeholder: string): number {
  return text.split(placeholder).length - 1;
}

/** Throws an InputError with both counts where rows do not fit the texts or their placeholders. */
export function checkRows(texts: readonly string[], rows: MediaRows, token: MediaToken): void {
  const { kind, placeholder } = token;
  if (rows.length !== texts.length) {
    throw new InputError(
      `processor: ${amount(texts.length, "text")}, but ${kind} for ${rows.length}: pass a list of lists, one for each text`,
    );
  }
  texts.forEach((text, i) => {
    const where = texts.length === 1 ? "the text" : `text ${i}`;
    checkCount(countOf(text, placeholder), rows[i]!.length, where, token);
  });
}

/** A flat list of media, dealt out to the texts by their placeholders. */
export function dealOut(texts: readonly string[], items: readonly unknown[], token: MediaToken): MediaRows {
  const counts = texts.map((text) => countOf(text, token.placeholder));
  const places = counts.reduce((sum, count) => sum + count, 0);
  checkCount(places, items.length, texts.length === 1 ? "the text" : "the texts", token);
  let next = 0;
  return counts.map((count) => {
    next += count;
    return items.slice(next - count, next);
  });
}

/** Throws where truncation has cut into the tokens of media: the model could not place its features. */
export function checkSoftTokens(
  texts: readonly string[],
  rows: readonly (readonly number[])[],
  { kind, soft, id }: MediaToken,
): void {
  texts.forEach((text, i) => {
    const expected = countOf(text, soft);
    const got = rows[i]!.filter((token) => token === id).length;
    if (got === expected) return;
    throw new InputError(
      `processor: the ids hold ${got} of the ${expected} tokens of ${kind}; raise max_length or leave out truncation`,
      { option: "max_length" },
    );
  });
}

/** The text with its placeholders replaced, one after another. */
export function replaceEach(text: string, placeholder: string, replacement: () => string): string {
  const [first, ...others] = text.split(placeholder) as [string, ...string[]];
  return first + others.map((part) => replacement() + part).join("");
}

function checkCount(places: number, given: number, where: string, { kind, placeholder }: MediaToken): void {
  if (places === given) return;
  const items = amount(given, kind === "images" ? "image" : "audio clip");
  throw new InputError(
    `processor: ${items} for ${amount(places, "placeholder")} ${placeholder} in ${where}`,
    { option: kind },
  );
}

function amount(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}
