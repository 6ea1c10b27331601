import { open } from "node:fs/promises";
import { buffer } from "node:stream/consumers";
import { reasonOf } from "../../checkpoints/open-files.ts";
import { replaceFile, writeAll } from "../../checkpoints/write-safetensors.ts";
import { expandHome } from "../../env.ts";
import { InputError } from "../../errors.ts";
import { checkMessages } from "../../processing/chat-messages.ts";
import type { ChatMessage } from "../../processing/chat-template.ts";

/** More than any context holds. */
const MAX_BYTES = 1 << 24;

/** Writes a conversation as a JSON list of messages, whole or not at all. */
export async function saveConversation(path: string, messages: readonly ChatMessage[]): Promise<void> {
  const text = `${JSON.stringify(messages, null, 2)}\n`;
  await replaceFile(expandHome(path), (handle) => writeAll(handle, Buffer.from(text)));
}

/** Reads a conversation: a JSON list of messages with role and content. */
export async function loadConversation(path: string): Promise<ChatMessage[]> {
  const value = await readJson(path);
  try {
    // Whether the model takes images shows when the session gets them.
    return checkMessages(value, { media: true });
  } catch (cause) {
    if (cause instanceof InputError) throw new InputError(`${path}: ${cause.message}`, { cause });
    throw cause;
  }
}

/** Reads the functions that a model may call: a JSON list of their schemas. */
export async function loadTools(path: string): Promise<object[]> {
  const value = await readJson(path);
  if (Array.isArray(value) && value.every((tool) => typeof tool === "object" && tool !== null)) return value;
  throw new InputError(`${path}: a list of function schemas expected`, { option: "tools" });
}

/** Reads a text file of a size that makes sense for a conversation or a template. */
export async function readText(path: string): Promise<string> {
  try {
    const handle = await open(expandHome(path));
    // Not by its size: a pipe has none.
    const text = await buffer(handle.createReadStream({ end: MAX_BYTES }));
    if (text.length > MAX_BYTES) throw new InputError(`${path}: more than ${MAX_BYTES} bytes`);
    return text.toString("utf8");
  } catch (cause) {
    if (cause instanceof InputError) throw cause;
    throw new InputError(`${path}: ${reasonOf(cause)}`, { cause });
  }
}

async function readJson(path: string): Promise<unknown> {
  const text = await readText(path);
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new InputError(`${path}: not JSON: ${(cause as Error).message}`, { cause });
  }
}
