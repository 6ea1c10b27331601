/** The packages that decode compressed audio (WebAssembly, optional dependencies), loaded with the first file of a kind. */
import { setImmediate } from "node:timers/promises";
import { InputError } from "../../errors.ts";
import type { SampleBuffer } from "./sample-buffer.ts";

/** What a decoder makes of a piece of a file. */
interface Decoded {
  readonly channelData: readonly Float32Array[];
  readonly samplesDecoded: number;
  readonly sampleRate: number;
  readonly errors: readonly { readonly message: string }[];
}

/** What the packages' decoders have in common. */
export interface StreamDecoder {
  readonly ready: Promise<void>;
  decode(bytes: Uint8Array): Decoded | Promise<Decoded>;
  flush?(): Promise<Decoded>;
  free(): void;
}

/** A compressed byte may become thousands of samples: pieces this small keep what one of them becomes in bounds. */
const PIECE_BYTES = 2048;
/** Other work gets its turn after so many pieces. */
const PIECES_PER_TURN = 32;

/** How a decoder's output is taken. */
export interface StreamOptions {
  /** So many of its channels. */
  readonly channels?: number;
  /** What its samples become. */
  readonly convert?: (samples: Float32Array) => Float32Array;
  readonly signal: AbortSignal | undefined;
}

/** Decodes `bytes` into the buffer, piece by piece, and frees the decoder. */
export async function decodeStream(
  decoder: StreamDecoder,
  bytes: Uint8Array,
  buffer: SampleBuffer,
  { channels, convert = (samples) => samples, signal }: StreamOptions,
): Promise<void> {
  const take = ({ channelData, sampleRate, errors }: Decoded): void => {
    checkErrors(errors);
    buffer.push(channelData.slice(0, channels).map(convert), sampleRate);
  };
  try {
    await decoder.ready;
    for (let start = 0, pieces = 0; start < bytes.length; start += PIECE_BYTES) {
      take(await decoder.decode(bytes.subarray(start, start + PIECE_BYTES)));
      if (++pieces % PIECES_PER_TURN === 0) await setImmediate();
      signal?.throwIfAborted();
    }
    if (decoder.flush !== undefined) take(await decoder.flush());
  } finally {
    decoder.free();
  }
}

/** Throws for what a decoder reports beside its samples. */
export function checkErrors(errors: Decoded["errors"]): void {
  const [error] = errors;
  if (error !== undefined) throw new Error(error.message);
}

/** A package, or an InputError that says how to get it. */
export async function loadPackage<T>(name: string, load: () => Promise<T>): Promise<T> {
  return load().catch((cause: unknown) => {
    const reason = String((cause as Error).message).split("\n", 1)[0];
    throw new InputError(
      `this audio is decoded with the package ${name}, which does not load here (${reason}); npm install ${name}`,
      { cause },
    );
  });
}
