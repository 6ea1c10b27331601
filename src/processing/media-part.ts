import { ConfigError } from "../errors.ts";
import type { Tensor } from "../tensor.ts";
import type { PreTrainedTokenizer } from "./tokenizer.ts";

/** The kinds of input besides text. */
export type MediaKind = "images" | "audio";

/** How one kind of media stands in texts. */
export interface MediaToken {
  readonly kind: MediaKind;
  /** What a text holds in the place of an image or a clip. */
  readonly placeholder: string;
  /** The token that stands for one feature vector, and its id. */
  readonly soft: string;
  readonly id: number;
  /** What token_type_ids hold at such tokens. */
  readonly type: number;
}

/** What a processor does with one kind of media. */
export interface MediaPart {
  readonly token: MediaToken;
  /** Options of the call that are this part's. */
  readonly optionNames: readonly string[];
  /** Features of all items of a call, and the texts that their placeholders become. */
  features(items: readonly unknown[], options: Readonly<Record<string, unknown>>): Promise<MediaFeatures>;
}

export interface MediaFeatures {
  /** What goes to the model, by its names there. */
  readonly inputs: Readonly<Record<string, Tensor>>;
  /** One for each item. */
  readonly texts: readonly string[];
}

/** Gemma's tokens, for tokenizers whose files don't say which token has which role. */
const TOKENS = {
  image_token: "<image_soft_token>",
  boi_token: "<start_of_image>",
  eoi_token: "<end_of_image>",
  audio_token: "<audio_soft_token>",
  boa_token: "<start_of_audio>",
  eoa_token: "<end_of_audio>",
} as const;

/** The token that a tokenizer has in a role, and its id. Throws a ConfigError where it has none. */
export function tokenInRole(
  tokenizer: PreTrainedTokenizer,
  role: keyof typeof TOKENS,
): { readonly text: string; readonly id: number } {
  const text = tokenizer.special_tokens_map[role] ?? TOKENS[role];
  const id = tokenizer.engine.idOf(text);
  if (id !== undefined) return { text, id };
  throw new ConfigError(`the tokenizer has no ${role} (${text}): it is that of a model for text alone`);
}

/** What an image's placeholder becomes: its tokens between the marks of an image, on lines of their own. */
export function imageSequence(tokenizer: PreTrainedTokenizer, length: number): string {
  const [start, soft, end] = (["boi_token", "image_token", "eoi_token"] as const).map(
    (role) => tokenInRole(tokenizer, role).text,
  );
  return `\n\n${start}${soft!.repeat(length)}${end}\n\n`;
}

/** The same for a clip. */
export function audioSequence(tokenizer: PreTrainedTokenizer, length: number): string {
  const [start, soft, end] = (["boa_token", "audio_token", "eoa_token"] as const).map(
    (role) => tokenInRole(tokenizer, role).text,
  );
  return `\n\n${start}${soft!.repeat(length)}${end}\n\n`;
}

/** Most tokens of one image or clip; released models have 256 and 188. */
const MAX_SEQUENCE_LENGTH = 65_536;

/** A number of tokens from a configuration or an option. */
export function checkSequenceLength(value: number, key: string): number {
  if (Number.isInteger(value) && value > 0 && value <= MAX_SEQUENCE_LENGTH) return value;
  throw new ConfigError(`expected 1 to ${MAX_SEQUENCE_LENGTH}, got ${value}`, { key });
}
