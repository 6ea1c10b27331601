import { InputError, rejectUnknownOptions } from "../errors.ts";
import { CALL_OPTION_NAMES, type GenerateOptions } from "../generation/generate.ts";
import { GenerationConfig, type GenerationOptions } from "../generation/generation-config.ts";
import { FIELD_NAMES } from "../generation/generation-fields.ts";
import type { ChatMessage } from "../processing/chat-template.ts";
import type { Tensor } from "../tensor.ts";
import type { PipelineModel } from "./base.ts";

/** A conversation. */
export type Chat = readonly ChatMessage[];

/** What a pipeline that writes text needs of its model. */
export interface GenerativeModel extends PipelineModel {
  generate(options: GenerateOptions): Promise<unknown>;
  readonly generation_config?: GenerationOptions;
}

/** What the pipeline makes of its input, under the names of `generate`. */
const SET_HERE = new Set([
  "input_ids",
  "inputs",
  "inputs_embeds",
  "attention_mask",
  "token_type_ids",
  "past_key_values",
]);
/** A pipeline gives texts: what else `generate` can tell has no place in them. */
const NO_PLACE = [
  "return_dict_in_generate",
  "output_scores",
  "output_logits",
  "output_hidden_states",
  "output_attentions",
] as const;
/** HF's and Transformers.js' number of new tokens where neither the call nor the model says how many. */
const DEFAULT_NEW_TOKENS = 256;

/** Whether a value is a conversation. */
export function isChat(value: unknown): value is Chat {
  return (
    Array.isArray(value) &&
    value.length > 0 &&
    value.every(
      (item: unknown) => typeof item === "object" && item !== null && "role" in item && "content" in item,
    )
  );
}

/** Whether a conversation is continued in its last message: as told, else where that is the assistant's. */
export function continues(
  chat: Chat,
  { continue_final_message }: { readonly continue_final_message?: boolean | undefined },
): boolean {
  return continue_final_message ?? chat.at(-1)!.role === "assistant";
}

/** The message with more text at its end. */
export function continued(message: ChatMessage, text: string): ChatMessage {
  const { content } = message;
  if (typeof content === "string") return { ...message, content: content + text };
  const last = content.findLastIndex((part) => typeof part.text === "string");
  return {
    ...message,
    content: content.map((part, i) => (i === last ? { ...part, text: part.text + text } : part)),
  };
}

/** The conversation with the answer. */
export function answered(
  chat: Chat,
  text: string,
  options: { readonly continue_final_message?: boolean | undefined },
): ChatMessage[] {
  return continues(chat, options)
    ? [...chat.slice(0, -1), continued(chat.at(-1)!, text)]
    : [...chat, { role: "assistant", content: text }];
}

/** Throws for options that neither the pipeline (`own`) nor `generate` knows, and for those whose results have no place. */
export function checkGenerating(options: object, own: readonly string[], task: string): void {
  const generation = CALL_OPTION_NAMES.filter((name) => !SET_HERE.has(name));
  rejectUnknownOptions(options, [...own, ...FIELD_NAMES, ...generation], task);
  const given = options as Readonly<Record<string, unknown>>;
  const asked = NO_PLACE.find((name) => given[name] === true);
  if (asked !== undefined)
    throw new InputError(`${task}: ${asked} has no place in the output; call pipe.model.generate`, {
      option: asked,
    });
  if (given.return_tensors === true && given.return_full_text !== undefined)
    throw new InputError("return_tensors and return_full_text exclude each other", {
      option: "return_tensors",
    });
}

/** max_new_tokens, unless the call or the model limits the length. */
export function lengthDefault(
  options: GenerationOptions & { readonly generation_config?: GenerateOptions["generation_config"] },
  model: GenerationOptions | undefined,
): { max_new_tokens?: number } {
  const given = options.generation_config ?? {};
  const call = given instanceof GenerationConfig ? given.to_object() : given;
  const limited = [options, call, model ?? {}].some(
    ({ max_new_tokens, max_length }) => (max_new_tokens ?? max_length ?? null) !== null,
  );
  return limited ? {} : { max_new_tokens: DEFAULT_NEW_TOKENS };
}

/** How much padding a row has in front. */
export function leadingZeros(mask: Tensor): number {
  const first = Array.from(mask.data as BigInt64Array, Number).indexOf(1);
  return first === -1 ? 0 : first;
}

/** The properties of these names that are there. */
export function pick<T extends object, K extends keyof T>(
  object: T,
  names: readonly K[],
): Partial<Pick<T, K>> {
  const found = names.flatMap((name) => (object[name] === undefined ? [] : [[name, object[name]]]));
  return Object.fromEntries(found) as Partial<Pick<T, K>>;
}

/** All other properties. */
export function omit<T extends object, K extends keyof T>(object: T, names: readonly K[]): Omit<T, K> {
  const left = Object.entries(object).filter(([name]) => !names.includes(name as K));
  return Object.fromEntries(left) as Omit<T, K>;
}
