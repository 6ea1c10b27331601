import { type Buffer, isUtf8 } from "node:buffer";
import { CheckpointError } from "../errors.ts";

/** Checkpoint headers and indexes are this deep at most; deeper text is refused before it is parsed. */
const MAX_DEPTH = 8;
/** Bounds the heap that a hostile 100 MB of "[[],[],…" would take. Real headers have under a million values. */
const MAX_VALUES = 4_000_000;

/** Parses a JSON object from a file; unlike JSON.parse alone it refuses duplicate keys, at any depth. */
export function parseStrictJson(bytes: Buffer, file: string): Record<string, unknown> {
  if (!isUtf8(bytes)) throw new CheckpointError("the JSON header is not valid UTF-8", { file });
  const text = bytes.toString("utf8");
  checkKeys(text, file);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new CheckpointError(`the JSON header does not parse: ${messageOf(cause)}`, { file, cause });
  }
  if (!isJsonObject(value)) {
    throw new CheckpointError("the JSON header is not an object", { file });
  }
  return value;
}

export function isJsonObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** A value from a file, short enough for a message. */
export function excerpt(value: unknown): string {
  const text = JSON.stringify(value) ?? "missing";
  return text.length > 80 ? `${text.slice(0, 80)}…` : text;
}

/**
 * Walks over the text without building values. Malformed text passes through here unharmed (JSON.parse reports
 * it); in well-formed text every string before a colon is a key of the innermost object.
 */
function checkKeys(text: string, file: string): void {
  const seen: Set<string>[] = [];
  let values = 0;
  for (let at = 0; at < text.length; at++) {
    switch (text[at]) {
      case "{":
      case "[":
        if (seen.push(new Set()) > MAX_DEPTH) {
          throw new CheckpointError(`the JSON header is nested deeper than ${MAX_DEPTH}`, { file });
        }
        values++;
        break;
      case "}":
      case "]":
        seen.pop();
        break;
      case ",":
        values++;
        break;
      case '"': {
        const end = endOfString(text, at);
        if (isFollowedByColon(text, end)) addKey(text.slice(at, end), seen.at(-1), file);
        at = end - 1;
      }
    }
    if (values > MAX_VALUES) {
      throw new CheckpointError(`the JSON header holds more than ${MAX_VALUES} values`, { file });
    }
  }
}

function addKey(quoted: string, keys: Set<string> | undefined, file: string): void {
  const key = quoted.includes("\\") ? unescaped(quoted) : quoted.slice(1, -1);
  if (keys?.has(key)) throw new CheckpointError("duplicate name", { file, tensor: key });
  keys?.add(key);
}

function unescaped(quoted: string): string {
  try {
    return JSON.parse(quoted) as string;
  } catch {
    return quoted; // JSON.parse of the whole text will report it.
  }
}

/** Index after the closing quote of the string that opens at `start`, or the text's length. */
function endOfString(text: string, start: number): number {
  for (let at = start + 1; at < text.length; at++) {
    if (text[at] === "\\") at++;
    else if (text[at] === '"') return at + 1;
  }
  return text.length;
}

function isFollowedByColon(text: string, from: number): boolean {
  let at = from;
  while (at < text.length && " \t\n\r".includes(text[at]!)) at++;
  return text[at] === ":";
}

function messageOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}
