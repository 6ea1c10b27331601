import { InputError } from "../errors.ts";
import type { MediaKind, MediaToken } from "./media-part.ts";
import { checkRows, dealOut, isNested, type MediaRows, mediaRows } from "./media-rows.ts";
import type { ProcessorArguments } from "./processor-arguments.ts";

/** Texts, and the media that belong to each. */
export interface ProcessorLayout {
  readonly texts: readonly string[];
  /** By kind; a kind that was not given is not there. */
  readonly media: Readonly<Partial<Record<MediaKind, MediaRows>>>;
}

/** Brings a call's arguments into rows, and checks that media and placeholders go together. */
export function layOut(given: ProcessorArguments, tokens: readonly MediaToken[]): ProcessorLayout {
  const kinds = (["images", "audio"] as const).filter((kind) => given[kind] !== undefined);
  const deaf = kinds.find((kind) => !tokens.some((token) => token.kind === kind));
  if (deaf !== undefined) throw new InputError(`processor: this model takes no ${deaf}`, { option: deaf });
  const known = kinds.map((kind) => tokens.find((token) => token.kind === kind)!);
  const texts = given.text ?? textOfPlaceholders(given, known);
  const media: Partial<Record<MediaKind, MediaRows>> = {};
  for (const token of known) media[token.kind] = rowsFor(texts, given[token.kind], token);
  return { texts, media };
}

/** Media without a text get one that holds nothing but their placeholders. */
function textOfPlaceholders(given: ProcessorArguments, tokens: readonly MediaToken[]): readonly string[] {
  const [token, other] = tokens;
  if (token === undefined) throw new InputError("processor: give a text, images or audio");
  if (other !== undefined)
    throw new InputError("processor: images and audio together need a text with their placeholders");
  const rows = mediaRows(given[token.kind], token.kind);
  // A flat list of clips is one for each text, a flat list of images that of a single text, as in HF.
  const texts = token.kind === "audio" && !isNested(given.audio) ? rows.flat().map((clip) => [clip]) : rows;
  if (texts.length === 0) throw new InputError(`processor: give a text, or at least one of ${token.kind}`);
  return texts.map((row) => row.map(() => token.placeholder).join(" "));
}

function rowsFor(texts: readonly string[], media: unknown, token: MediaToken): MediaRows {
  const rows = mediaRows(media, token.kind);
  const none = rows.length === 0;
  if (none || (token.kind === "audio" && !isNested(media))) return dealOut(texts, rows.flat(), token);
  checkRows(texts, rows, token);
  return rows;
}
