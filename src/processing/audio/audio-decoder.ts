import { InputError, LapidaryError } from "../../errors.ts";
import type { ReadAudioLimits } from "./audio-source.ts";
import { decodeStream, loadPackage } from "./decoder-packages.ts";
import { readFlacInfo } from "./flac.ts";
import { findFrames, frameHeader, skipId3 } from "./mp3.ts";
import { OggReader, oggCodec } from "./ogg.ts";
import { decodeOpus } from "./opus.ts";
import { SampleBuffer, type Samples } from "./sample-buffer.ts";
import { decodeWav } from "./wav.ts";

/** What a decoder is given. */
interface Job {
  readonly bytes: Uint8Array;
  readonly buffer: SampleBuffer;
  readonly limits: ReadAudioLimits;
  /** Names the file in messages. */
  readonly place: string;
}

const DECODERS: Readonly<Record<string, (job: Job) => Samples | Promise<Samples>>> = {
  WAV: ({ bytes, buffer, place }) => {
    decodeWav(bytes, buffer, place);
    return buffer.finish();
  },
  FLAC: decodeFlac,
  MP3: decodeMp3,
  "Ogg Opus": ({ bytes, buffer, place, limits }) => decodeOpus(bytes, buffer, place, limits.signal),
  "Ogg Vorbis": decodeVorbis,
};

/**
 * Decodes a WAV, FLAC, MP3, Ogg Opus or Ogg Vorbis file: all channels at their own sampling rate (Opus: 48 kHz). The
 * format is told from the first bytes. Throws an InputError for a file that is cut off or damaged, where its format
 * lets that be known.
 */
export async function decodeAudio(
  bytes: Uint8Array,
  limits: ReadAudioLimits,
  place: string,
): Promise<Samples> {
  const format = formatOf(bytes, place);
  if (format === undefined) {
    throw new InputError(
      `${place}: is neither ${Object.keys(DECODERS)
        .join(", ")
        .replace(/, ([^,]*)$/, " nor $1")}`,
    );
  }
  try {
    return await DECODERS[format]!({ bytes, buffer: new SampleBuffer(limits, place), limits, place });
  } catch (cause) {
    limits.signal?.throwIfAborted();
    if (cause instanceof LapidaryError) throw cause;
    const reason = String((cause as Error).message).split("\n", 1)[0];
    throw new InputError(`${place}: cannot be decoded as ${format}: ${reason}`, { cause });
  }
}

function formatOf(bytes: Uint8Array, place: string): string | undefined {
  const head = Buffer.from(bytes.subarray(0, 12)).toString("latin1");
  if (head.startsWith("RIFF") && head.slice(8) === "WAVE") return "WAV";
  if (head.startsWith("OggS")) {
    const codec = oggCodec(bytes);
    if (codec === "OpusHead") return "Ogg Opus";
    if (codec.startsWith("\x01vorbis")) return "Ogg Vorbis";
    throw new InputError(`${place}: is an Ogg file of something other than Opus or Vorbis`);
  }
  const start = skipId3(bytes, place);
  if (isFlac(bytes, start)) return "FLAC";
  return start > 0 || frameHeader(bytes, 0) !== undefined ? "MP3" : undefined;
}

function isFlac(bytes: Uint8Array, start: number): boolean {
  return Buffer.from(bytes.subarray(start, start + 4)).toString("latin1") === "fLaC";
}

async function decodeFlac({ bytes, buffer, limits, place }: Job): Promise<Samples> {
  const start = skipId3(bytes, place);
  const { length, channels, sampling_rate, bits } = readFlacInfo(bytes, start, place);
  // The decoder divides integers by the largest one; everyone else by the power of two above it.
  const [largest, power] = [2 ** (bits - 1) - 1, 2 ** (bits - 1)];
  const convert = (samples: Float32Array): Float32Array =>
    samples.map((sample) => Math.round(sample * largest) / power);
  buffer.check(length, channels, sampling_rate);
  const { FLACDecoder } = await loadPackage(
    "@wasm-audio-decoders/flac",
    () => import("@wasm-audio-decoders/flac"),
  );
  await decodeStream(new FLACDecoder(), bytes.subarray(start), buffer, { convert, signal: limits.signal });
  // The decoder leaves out frames whose check sum is wrong.
  if (length > 0 && buffer.length !== length) {
    throw new InputError(
      `${place}: is cut off or damaged: ${buffer.length} of ${length} samples can be read`,
    );
  }
  return buffer.finish();
}

async function decodeMp3({ bytes, buffer, limits, place }: Job): Promise<Samples> {
  const { start, end, channels } = findFrames(bytes, skipId3(bytes, place), place);
  const { MPEGDecoder } = await loadPackage("mpg123-decoder", () => import("mpg123-decoder"));
  // The decoder makes two equal channels of one.
  await decodeStream(new MPEGDecoder(), bytes.subarray(start, end), buffer, {
    channels,
    signal: limits.signal,
  });
  return buffer.finish();
}

async function decodeVorbis({ bytes, buffer, limits, place }: Job): Promise<Samples> {
  // The decoder reads over pages that are damaged or missing.
  new OggReader(bytes, place).verify();
  const { OggVorbisDecoder } = await loadPackage(
    "@wasm-audio-decoders/ogg-vorbis",
    () => import("@wasm-audio-decoders/ogg-vorbis"),
  );
  await decodeStream(new OggVorbisDecoder(), bytes, buffer, { signal: limits.signal });
  return buffer.finish();
}
