import { readFile, stat } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { bytesOf, send } from "../checkpoints/http.ts";
import { expandHome } from "../env.ts";
import { HubError, InputError } from "../errors.ts";

/** An image or audio file: its path, its http(s):, file: or data: address, or its bytes. */
export type MediaSource = string | URL | Uint8Array | ArrayBuffer | Blob;

/** How much is read, and for how long. */
export interface MediaOptions {
  /** Most bytes of the file, 256 MiB by default. */
  readonly maxBytes?: number;
  /** Seconds for a download, 60 by default. */
  readonly timeout?: number;
  readonly signal?: AbortSignal;
}

/** Options with every default filled in. */
export interface MediaLimits {
  readonly maxBytes: number;
  readonly timeout: number;
  readonly signal: AbortSignal | undefined;
}

/** What messages call a kind of file. */
export interface MediaKind {
  readonly noun: "image" | "audio";
  /** What may be given, as a sentence. */
  readonly expected: string;
}

const MAX_BYTES = 2 ** 28;
const TIMEOUT = 60;

/** Names of MediaOptions, to check calls against. */
export const MEDIA_OPTIONS: readonly (keyof MediaOptions)[] = ["maxBytes", "timeout", "signal"];

/** Checks the values of options; what is left out takes its default. */
export function mediaLimits(options: MediaOptions, call: string): MediaLimits {
  return {
    maxBytes: positive(options.maxBytes ?? MAX_BYTES, "maxBytes", call),
    timeout: positive(options.timeout ?? TIMEOUT, "timeout", call),
    signal: options.signal,
  };
}

/** The bytes of a file. */
export async function readMediaSource(
  source: MediaSource,
  limits: MediaLimits,
  kind: MediaKind,
): Promise<Uint8Array> {
  limits.signal?.throwIfAborted();
  const place = placeOf(source, kind);
  const bytes = await readBytes(source, place, limits, kind);
  limits.signal?.throwIfAborted();
  checkBytes(bytes.length, place, limits);
  if (bytes.length === 0) throw new InputError(`${place}: is empty`);
  return bytes;
}

/** What a message calls a source: its path or address, or what it is. */
export function placeOf(source: MediaSource, { noun }: MediaKind): string {
  const text = source instanceof URL ? source.href : source;
  if (typeof text !== "string") return noun;
  return text.startsWith("data:") ? "data: URL" : text.slice(0, 300);
}

/** Throws for a limit that is no number above 0. */
export function positive(value: number, option: string, call: string): number {
  if (typeof value === "number" && value > 0) return value;
  throw new InputError(`${call}: ${option} must be a number above 0, got ${String(value)}`, { option });
}

async function readBytes(
  source: MediaSource,
  place: string,
  limits: MediaLimits,
  kind: MediaKind,
): Promise<Uint8Array> {
  if (source instanceof Uint8Array) return source;
  if (source instanceof ArrayBuffer) return new Uint8Array(source);
  if (source instanceof Blob) {
    checkBytes(source.size, place, limits);
    return new Uint8Array(await source.arrayBuffer());
  }
  const text = source instanceof URL ? source.href : source;
  if (typeof text !== "string") {
    const got = text === null ? "null" : typeof text;
    throw new InputError(`${kind.expected}, got ${got}`);
  }
  if (/^https?:\/\//i.test(text)) return download(text, place, limits);
  if (text.startsWith("data:")) return decodeDataUrl(text, limits, kind);
  const path = /^file:\/\//i.test(text) ? fileURLToPath(text) : expandHome(text);
  return readMediaFile(path, place, limits, kind);
}

async function readMediaFile(
  path: string,
  place: string,
  limits: MediaLimits,
  { noun }: MediaKind,
): Promise<Uint8Array> {
  const found = await stat(path).catch((cause: unknown) => {
    throw new InputError(`${place}: there is no such ${noun} file`, { cause });
  });
  if (!found.isFile()) throw new InputError(`${place}: is not a file`);
  checkBytes(found.size, place, limits);
  return readFile(path, limits.signal === undefined ? {} : { signal: limits.signal });
}

async function download(address: string, place: string, limits: MediaLimits): Promise<Uint8Array> {
  if (!URL.canParse(address)) throw new InputError(`${place}: is not a URL`);
  const deadline = AbortSignal.timeout(limits.timeout * 1000);
  const signal = limits.signal === undefined ? deadline : AbortSignal.any([deadline, limits.signal]);
  try {
    const answer = await send(address, { signal });
    const { ok, status } = answer.response;
    if (!ok) {
      answer.abort(new Error("not wanted"));
      throw new HubError(`${place}: the server answered ${status}`, { status });
    }
    const bytes = await bytesOf(answer, limits.maxBytes);
    if (bytes === undefined) throw tooManyBytes(place, limits);
    return bytes;
  } catch (cause) {
    limits.signal?.throwIfAborted();
    if (!deadline.aborted) throw cause;
    const seconds = `${limits.timeout} s`;
    throw new InputError(`${place}: did not arrive within ${seconds} (option timeout)`, {
      option: "timeout",
      cause,
    });
  }
}

function decodeDataUrl(text: string, limits: MediaLimits, { noun }: MediaKind): Uint8Array {
  const comma = text.indexOf(",");
  if (comma < 0 || !/;base64$/i.test(text.slice(0, Math.min(comma, 300)))) {
    throw new InputError(`data: URL: expected data:${noun}/…;base64,…`);
  }
  checkBytes(Math.floor(((text.length - comma - 1) * 3) / 4) - 2, "data: URL", limits);
  const payload = text.slice(comma + 1);
  if (/[^\w+/=\s-]/.test(payload)) throw new InputError("data: URL: is not valid base64");
  return Buffer.from(payload, "base64");
}

function checkBytes(length: number, place: string, limits: MediaLimits): void {
  if (length > limits.maxBytes) throw tooManyBytes(place, limits);
}

function tooManyBytes(place: string, { maxBytes }: MediaLimits): InputError {
  return new InputError(
    `${place}: is longer than ${maxBytes} bytes; raise the limit with the option maxBytes`,
    {
      option: "maxBytes",
    },
  );
}
