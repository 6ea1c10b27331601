import { InputError } from "../errors.ts";
import { isMediaPart } from "./chat-media.ts";
import type { ChatMessage } from "./chat-template.ts";

/**
 * Checks a conversation that came from elsewhere: a list of `{ role, content }` in which user and assistant take
 * turns, after a system message or without one; with `media`, users may show images and sounds. Throws an InputError that names the first message that does not fit.
 */
export function checkMessages(value: unknown, { media = false }: { media?: boolean } = {}): ChatMessage[] {
  if (!Array.isArray(value)) throw new InputError("a conversation is a list of { role, content } messages");
  const messages = value.map((message, i) => checkMessage(message, i, media));
  const turns = messages[0]?.role === "system" ? messages.slice(1) : messages;
  for (const [i, { role }] of turns.entries()) {
    const expected = i % 2 === 0 ? "user" : "assistant";
    if (role === expected) continue;
    throw new InputError(
      `messages[${messages.length - turns.length + i}] has the role "${role}", expected "${expected}": user and assistant take turns`,
    );
  }
  return messages;
}

function checkMessage(value: unknown, i: number, media: boolean): ChatMessage {
  const { role, content } = (typeof value === "object" && value !== null ? value : {}) as ChatMessage;
  if (
    typeof role !== "string" ||
    !(typeof content === "string" || isContent(content, media && role === "user"))
  )
    throw new InputError(`messages[${i}] must have a role and a text as its content`);
  return { ...(value as ChatMessage) };
}

/** Whether a content consists of parts of text, or of images and sounds where these are taken. */
function isContent(content: unknown, media: boolean): boolean {
  if (!Array.isArray(content) || content.length === 0) return false;
  return content.every(
    (part) => (part?.type === "text" && typeof part.text === "string") || (media && isMediaPart(part)),
  );
}
