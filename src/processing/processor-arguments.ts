import { InputError } from "../errors.ts";
import type { ProcessorOptions } from "./processor-options.ts";

/** The arguments of a processor's call, whatever way they came. */
export interface ProcessorArguments {
  readonly text: readonly string[] | undefined;
  readonly images: unknown;
  readonly audio: unknown;
  readonly options: ProcessorOptions;
}

/**
 * Reads (text, images, audio, options) where later ones may be left out and the last plain object is the options, or
 * all of them by name in one object, as HF's keywords.
 */
export function readArguments(given: readonly unknown[]): ProcessorArguments {
  if (given.length > 0 && isPlainObject(given[0])) {
    if (given.length > 1) throw new InputError("processor: arguments by name come in one object");
    const { text, images, audio, ...options } = given[0];
    return { text: readText(text), images: images ?? undefined, audio: audio ?? undefined, options };
  }
  const last = given.findLastIndex((value) => value !== undefined);
  const options = last > 0 && isPlainObject(given[last]) ? given[last] : {};
  const values = options === given[last] ? given.slice(0, last) : given;
  const [text, images, audio, extra] = values;
  if (extra !== undefined && extra !== null) {
    throw new InputError("processor: the last argument must be an object of options");
  }
  return { text: readText(text), images: images ?? undefined, audio: audio ?? undefined, options };
}

function readText(text: unknown): readonly string[] | undefined {
  if (text === undefined || text === null) return undefined;
  if (typeof text === "string") return [text];
  if (Array.isArray(text) && text.length > 0 && text.every((one) => typeof one === "string")) return text;
  throw new InputError("processor: text must be a string or a list of strings; images come second");
}

/** Options are plain objects; images and sounds are strings, buffers, lists or instances of classes. */
function isPlainObject(value: unknown): value is Record<string, unknown> {
  if (typeof value !== "object" || value === null) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}
