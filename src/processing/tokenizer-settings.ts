import { CheckpointError, InputError, rejectUnknownOptions } from "../errors.ts";

/** What stands around a text: ids of special tokens, and the places of the first and second text. */
export type TemplateItem = number | "A" | "B";

/** Everything about a tokenizer that is not its vocabulary. Plain JSON: it is cached beside the tables. */
export interface TokenizerSettings {
  readonly tokenizer_class: string;
  /** Token strings by role: bos_token, eos_token, unk_token, pad_token, mask_token, image_token, boi_token … */
  readonly special_tokens: Readonly<Record<string, string>>;
  readonly additional_special_tokens: readonly string[];
  /** Set in tokenizer_config.json: they replace `post_processor`. */
  readonly add_bos_token?: boolean;
  readonly add_eos_token?: boolean;
  /** tokenizer.json's TemplateProcessing. */
  readonly post_processor?: {
    readonly single: readonly TemplateItem[];
    readonly pair: readonly TemplateItem[];
  };
  readonly padding_side: "left" | "right";
  readonly model_max_length: number;
  readonly clean_up_tokenization_spaces: boolean;
  /** One template, or several by name ("default", "tool_use"). */
  readonly chat_template?: string | Readonly<Record<string, string>>;
}

/** Settings that `from_pretrained` may override. */
export interface TokenizerOverrides {
  add_bos_token?: boolean;
  add_eos_token?: boolean;
  padding_side?: "left" | "right";
  model_max_length?: number;
  clean_up_tokenization_spaces?: boolean;
  chat_template?: string | Record<string, string>;
}

/** Names of the overrides. */
export const TOKENIZER_OVERRIDE_NAMES: readonly (keyof TokenizerOverrides)[] = [
  "add_bos_token",
  "add_eos_token",
  "padding_side",
  "model_max_length",
  "clean_up_tokenization_spaces",
  "chat_template",
];

/** HF's stand-in for "no limit". */
export const NO_MAX_LENGTH = 1e30;

const GEMMA_SPECIAL_TOKENS = {
  bos_token: "<bos>",
  eos_token: "<eos>",
  unk_token: "<unk>",
  pad_token: "<pad>",
  mask_token: "<mask>",
};

/** The files beside tokenizer.json, parsed where they are there. */
export interface TokenizerFiles {
  readonly tokenizer_config?: unknown;
  readonly special_tokens_map?: unknown;
  /** chat_template.jinja, or the text in chat_template.json. It comes before the config's. */
  readonly chat_template?: string;
}

type Json = Readonly<Record<string, unknown>>;

/** Whether a JSON value is an object. */
export function isObject(value: unknown): value is Json {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Settings from tokenizer_config.json and its companions, read as HF reads them. */
export function settingsFromFiles(
  files: TokenizerFiles,
  postProcessor: TokenizerSettings["post_processor"],
  hasToken: (token: string) => boolean,
): TokenizerSettings {
  const config = isObject(files.tokenizer_config) ? files.tokenizer_config : {};
  const map = isObject(files.special_tokens_map) ? files.special_tokens_map : {};
  const tokenizerClass =
    typeof config.tokenizer_class === "string" ? config.tokenizer_class : "GemmaTokenizer";
  const isGemma = tokenizerClass.startsWith("Gemma");
  const special: Record<string, string> = {};
  const extra = isObject(config.extra_special_tokens) ? config.extra_special_tokens : {};
  for (const source of [isGemma ? GEMMA_SPECIAL_TOKENS : {}, map, extra, config]) {
    for (const [role, value] of Object.entries(source)) {
      const token = tokenText(value);
      if (role.endsWith("_token") && token !== undefined && hasToken(token)) special[role] = token;
    }
  }
  const list = [config.additional_special_tokens, map.additional_special_tokens, config.extra_special_tokens]
    .flatMap((value) => (Array.isArray(value) ? (value as unknown[]) : []))
    .flatMap((value) => tokenText(value) ?? [])
    .filter(hasToken);
  const template = files.chat_template ?? templateOf(config.chat_template);
  return {
    tokenizer_class: tokenizerClass,
    special_tokens: special,
    additional_special_tokens: [...new Set(list)],
    ...addedEnds(config, postProcessor === undefined),
    ...(postProcessor && { post_processor: postProcessor }),
    padding_side:
      config.padding_side === "left" || (config.padding_side === undefined && isGemma) ? "left" : "right",
    model_max_length: typeof config.model_max_length === "number" ? config.model_max_length : NO_MAX_LENGTH,
    clean_up_tokenization_spaces: config.clean_up_tokenization_spaces === true,
    ...(template !== undefined && { chat_template: template }),
  };
}

/** The settings with what a caller asked for instead. */
export function overrideSettings(
  settings: TokenizerSettings,
  overrides: TokenizerOverrides,
): TokenizerSettings {
  rejectUnknownOptions(overrides, TOKENIZER_OVERRIDE_NAMES, "tokenizer");
  if (overrides.padding_side !== undefined && !["left", "right"].includes(overrides.padding_side)) {
    throw new InputError(`padding_side must be "left" or "right", got "${overrides.padding_side}"`, {
      option: "padding_side",
    });
  }
  const given = Object.fromEntries(Object.entries(overrides).filter(([, value]) => value !== undefined));
  return { ...settings, ...given, ...addedEnds(given, false) };
}

/** Naming one of the two ends sets the other to false, as in HF; naming none leaves it to the post processor. */
function addedEnds(
  source: Json,
  gemmaDefault: boolean,
): { add_bos_token?: boolean; add_eos_token?: boolean } {
  const { add_bos_token: bos, add_eos_token: eos } = source;
  if (typeof bos !== "boolean" && typeof eos !== "boolean") {
    return gemmaDefault ? { add_bos_token: true, add_eos_token: false } : {};
  }
  return { add_bos_token: bos === true, add_eos_token: eos === true };
}

function tokenText(value: unknown): string | undefined {
  if (typeof value === "string") return value;
  return isObject(value) && typeof value.content === "string" ? value.content : undefined;
}

function templateOf(value: unknown): string | Record<string, string> | undefined {
  if (typeof value === "string") return value;
  if (!Array.isArray(value)) return undefined;
  const templates: Record<string, string> = {};
  for (const entry of value as unknown[]) {
    if (!isObject(entry) || typeof entry.name !== "string" || typeof entry.template !== "string") {
      throw new CheckpointError(
        "tokenizer_config.json: chat_template must be a text or a list of {name, template}",
      );
    }
    templates[entry.name] = entry.template;
  }
  return templates;
}
