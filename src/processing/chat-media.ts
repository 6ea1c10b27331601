import { InputError } from "../errors.ts";
import type { ChatContent, ChatMessage } from "./chat-template.ts";

/** What the parts of a conversation that are no text refer to, in their order. */
export interface ChatMedia {
  readonly images: readonly unknown[];
  readonly audio: readonly unknown[];
}

/** Keys under which a part may have its source; the first one there counts. */
const SOURCES = {
  image: ["image", "url", "path", "base64", "data"],
  audio: ["audio", "url", "path", "base64", "data"],
} as const;

/** OpenAI's form of an image part. */
const IMAGE_URL = "image_url";

/** Images and sounds of a conversation. A part without a source is an InputError. */
export function chatMedia(messages: readonly ChatMessage[]): ChatMedia {
  const media = { image: [] as unknown[], audio: [] as unknown[] };
  messages.forEach(({ content }, i) => {
    if (!Array.isArray(content)) return;
    for (const part of content as readonly ChatContent[]) {
      const kind = kindOf(part);
      if (kind !== undefined) media[kind].push(sourceOf(part, kind, i));
    }
  });
  return { images: media.image, audio: media.audio };
}

/**
 * The conversation as a template needs it: parts keep their type and what else is in them, without their sources, which
 * may be large.
 */
export function withoutSources(messages: readonly ChatMessage[]): ChatMessage[] {
  return messages.map((message) => {
    if (!Array.isArray(message.content)) return message;
    return { ...message, content: (message.content as readonly ChatContent[]).map(withoutSource) };
  });
}

/** Whether something is a part of a message that refers to an image or a sound. */
export function isMediaPart(part: unknown): boolean {
  const type = (part as ChatContent | null | undefined)?.type;
  return type === "image" || type === IMAGE_URL || type === "audio";
}

function withoutSource(part: ChatContent): ChatContent {
  const kind = kindOf(part);
  if (kind === undefined) return part;
  const names: readonly string[] = [...SOURCES[kind], IMAGE_URL];
  const others = Object.entries(part).filter(([name]) => !names.includes(name));
  return { ...Object.fromEntries(others), type: kind };
}

function kindOf(part: ChatContent): "image" | "audio" | undefined {
  if (part.type === "image" || part.type === IMAGE_URL) return "image";
  if (part.type === "audio") return "audio";
  if (part.type === "video") throw new InputError("chat: video parts are not supported");
  return undefined;
}

function sourceOf(part: ChatContent, kind: "image" | "audio", message: number): unknown {
  if (part.type === IMAGE_URL) {
    const given = part[IMAGE_URL];
    const url = typeof given === "object" && given !== null ? (given as { url?: unknown }).url : given;
    if (url !== undefined) return url;
  }
  const name = SOURCES[kind].find((key) => part[key] !== undefined && part[key] !== null);
  if (name === undefined) {
    throw new InputError(
      `messages[${message}]: the ${kind} part has no source; give one of ${SOURCES[kind].join(", ")}`,
    );
  }
  const value = part[name];
  const isEncoded = (name === "base64" || name === "data") && typeof value === "string";
  return isEncoded && !value.startsWith("data:") ? `data:;base64,${value}` : value;
}
