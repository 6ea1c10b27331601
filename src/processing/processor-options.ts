import { InputError, rejectUnknownOptions } from "../errors.ts";
import type { AudioFeatureOptions } from "./audio/gemma3n-audio-processor.ts";
import { TOKENIZE_OPTIONS, type TokenizeOptions } from "./encoding.ts";
import type { ImageProcessorOptions } from "./gemma3-image-processor.ts";
import type { MediaKind, MediaPart } from "./media-part.ts";

/** Options for the tokenizer, by themselves or as `text_kwargs`. */
export interface TextOptions extends Omit<TokenizeOptions, "text_pair"> {
  /** token_type_ids beside the ids, which mark the tokens of media; true by default. */
  return_mm_token_type_ids?: boolean;
}

/** Options for the image processor, by themselves or as `images_kwargs`. */
export type ImageOptions = Omit<ImageProcessorOptions, "return_tensors" | "signal">;

/** Options for the feature extractor, as `audio_kwargs`. */
export type AudioOptions = Omit<AudioFeatureOptions, "return_tensors" | "signal">;

/** Options of a processor's call: each goes to the part that knows it, as in HF. */
export interface ProcessorOptions
  extends TextOptions,
    ImageOptions,
    Omit<AudioOptions, keyof TextOptions | "pad_to_multiple_of"> {
  text_kwargs?: TextOptions;
  images_kwargs?: ImageOptions;
  audio_kwargs?: AudioOptions;
  /** For every part. */
  common_kwargs?: { return_tensors?: string | null };
  signal?: AbortSignal;
}

/** Options by part. */
export interface RoutedOptions extends Readonly<Record<MediaKind, Readonly<Record<string, unknown>>>> {
  readonly text: TextOptions;
}

type Values = Readonly<Record<string, unknown>>;
type Parts = readonly Pick<MediaPart, "token" | "optionNames">[];

const TEXT_NAMES: readonly string[] = [
  ...TOKENIZE_OPTIONS.filter((name) => name !== "text_pair"),
  "return_mm_token_type_ids",
];
const GROUPS = ["text_kwargs", "images_kwargs", "audio_kwargs", "common_kwargs"] as const;

/** Every name that a processor's call takes. */
export function processorOptionNames(parts: Parts): string[] {
  return [...TEXT_NAMES, ...parts.flatMap(({ optionNames }) => optionNames), ...GROUPS, "signal"];
}

/**
 * Sorts a call's options by the part that they are for. A name that both the tokenizer and the feature extractor know
 * (padding, max_length …) is the tokenizer's unless it stands in audio_kwargs; HF gives it to both, which would cut
 * clips to as many samples as a text may have tokens.
 */
export function routeOptions(options: ProcessorOptions, parts: Parts, call: string): RoutedOptions {
  rejectUnknownOptions(options, processorOptionNames(parts), call);
  const { common_kwargs = {}, signal } = options;
  rejectUnknownOptions(common_kwargs, ["return_tensors"], `${call}: common_kwargs`);
  const flat = options as Values;
  const namesOf = (kind: MediaKind): readonly string[] =>
    parts.find(({ token }) => token.kind === kind)?.optionNames ?? [];
  const media = (kind: MediaKind): Values => ({
    ...merged(flat, `${kind}_kwargs`, namesOf(kind), TEXT_NAMES, call),
    ...(signal && { signal }),
  });
  return {
    text: { ...common_kwargs, ...merged(flat, "text_kwargs", TEXT_NAMES, [], call) },
    images: media("images"),
    audio: media("audio"),
  };
}

/** The options of one part: those of its group, and those by themselves that it knows and are not `others`. */
function merged(
  flat: Values,
  group: (typeof GROUPS)[number],
  known: readonly string[],
  others: readonly string[],
  call: string,
): Values {
  const given = (flat[group] ?? {}) as Values;
  rejectUnknownOptions(given, known, `${call}: ${group}`);
  const own = known.filter((name) => !others.includes(name) && flat[name] !== undefined);
  const twice = own.find((name) => given[name] !== undefined);
  if (twice !== undefined)
    throw new InputError(`${call}: ${twice} stands by itself and in ${group}; give it once`, {
      option: twice,
    });
  return { ...given, ...Object.fromEntries(own.map((name) => [name, flat[name]])) };
}
