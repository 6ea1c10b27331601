import { readFile, stat } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { bytesOf, send } from "../checkpoints/http.ts";
import { expandHome, variable } from "../env.ts";
import { HubError, InputError, rejectUnknownOptions } from "../errors.ts";

/** An image file: its path, its http(s):, file: or data: address, or its bytes. */
export type ImageSource = string | URL | Uint8Array | ArrayBuffer | Blob;

export interface LoadImageOptions {
  /** Most pixels that are unpacked. Default: LAPIDARY_MAX_IMAGE_PIXELS, else Pillow's limit of 178,956,970. */
  readonly maxPixels?: number;
  /** Most bytes of the file, 256 MiB by default. */
  readonly maxBytes?: number;
  /** Seconds for a download, 60 by default. */
  readonly timeout?: number;
  readonly signal?: AbortSignal;
}

/** Options with every default filled in. */
export interface ImageLimits {
  readonly maxPixels: number;
  readonly maxBytes: number;
  readonly timeout: number;
  readonly signal: AbortSignal | undefined;
}

/** Pillow refuses images of more than twice MAX_IMAGE_PIXELS, which is a quarter of 2^30 bytes in RGB. */
const MAX_PIXELS = 178_956_970;
const MAX_BYTES = 2 ** 28;
const TIMEOUT = 60;
const LIMIT_VARIABLE = "LAPIDARY_MAX_IMAGE_PIXELS";

/** Checks options; what is left out takes its default. */
export function imageLimits(options: LoadImageOptions, call: string): ImageLimits {
  rejectUnknownOptions(options, ["maxPixels", "maxBytes", "timeout", "signal"], call);
  const fromVariable = variable(LIMIT_VARIABLE);
  const given = options.maxPixels ?? (fromVariable === undefined ? MAX_PIXELS : Number(fromVariable));
  return {
    maxPixels: positive(given, options.maxPixels === undefined ? LIMIT_VARIABLE : "maxPixels", call),
    maxBytes: positive(options.maxBytes ?? MAX_BYTES, "maxBytes", call),
    timeout: positive(options.timeout ?? TIMEOUT, "timeout", call),
    signal: options.signal,
  };
}

/** The bytes of an image file. */
export async function readImageSource(source: ImageSource, limits: ImageLimits): Promise<Uint8Array> {
  limits.signal?.throwIfAborted();
  const place = placeOf(source);
  const bytes = await readBytes(source, place, limits);
  limits.signal?.throwIfAborted();
  checkBytes(bytes.length, place, limits);
  if (bytes.length === 0) throw new InputError(`${place}: is empty`);
  return bytes;
}

/** What a message calls a source: its path or address, or what it is. */
export function placeOf(source: ImageSource): string {
  const text = source instanceof URL ? source.href : source;
  if (typeof text !== "string") return "image";
  return text.startsWith("data:") ? "data: URL" : text.slice(0, 300);
}

async function readBytes(source: ImageSource, place: string, limits: ImageLimits): Promise<Uint8Array> {
  if (source instanceof Uint8Array) return source;
  if (source instanceof ArrayBuffer) return new Uint8Array(source);
  if (source instanceof Blob) {
    checkBytes(source.size, place, limits);
    return new Uint8Array(await source.arrayBuffer());
  }
  const text = source instanceof URL ? source.href : source;
  if (typeof text !== "string") {
    throw new InputError(
      `an image is a path, a URL, bytes, a Blob or a RawImage, got ${text === null ? "null" : typeof text}`,
    );
  }
  if (/^https?:\/\//i.test(text)) return download(text, place, limits);
  if (text.startsWith("data:")) return decodeDataUrl(text, limits);
  return readImageFile(/^file:\/\//i.test(text) ? fileURLToPath(text) : expandHome(text), place, limits);
}

async function readImageFile(path: string, place: string, limits: ImageLimits): Promise<Uint8Array> {
  const found = await stat(path).catch((cause: unknown) => {
    throw new InputError(`${place}: there is no such image file`, { cause });
  });
  if (!found.isFile()) throw new InputError(`${place}: is not a file`);
  checkBytes(found.size, place, limits);
  return readFile(path, limits.signal === undefined ? {} : { signal: limits.signal });
}

async function download(address: string, place: string, limits: ImageLimits): Promise<Uint8Array> {
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

function decodeDataUrl(text: string, limits: ImageLimits): Uint8Array {
  const comma = text.indexOf(",");
  if (comma < 0 || !/;base64$/i.test(text.slice(0, Math.min(comma, 300)))) {
    throw new InputError("data: URL: expected data:image/…;base64,…");
  }
  checkBytes(Math.floor(((text.length - comma - 1) * 3) / 4) - 2, "data: URL", limits);
  const payload = text.slice(comma + 1);
  if (/[^\w+/=\s-]/.test(payload)) throw new InputError("data: URL: is not valid base64");
  return Buffer.from(payload, "base64");
}

function checkBytes(length: number, place: string, limits: ImageLimits): void {
  if (length > limits.maxBytes) throw tooManyBytes(place, limits);
}

function tooManyBytes(place: string, { maxBytes }: ImageLimits): InputError {
  return new InputError(
    `${place}: is longer than ${maxBytes} bytes; raise the limit with the option maxBytes`,
    {
      option: "maxBytes",
    },
  );
}

function positive(value: number, option: string, call: string): number {
  if (typeof value === "number" && value > 0) return value;
  throw new InputError(`${call}: ${option} must be a number above 0, got ${String(value)}`, { option });
}
