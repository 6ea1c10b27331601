/** WAV (RIFF WAVE): PCM of 8 to 32 bits, floats of 32 and 64, A-law and mu-law, also as WAVE_FORMAT_EXTENSIBLE. */
import { InputError } from "../../errors.ts";
import type { SampleBuffer } from "./sample-buffer.ts";

interface WavFormat {
  readonly channels: number;
  readonly sampling_rate: number;
  readonly bytes: number;
  readonly read: (view: DataView, offset: number) => number;
}

const PCM = 1;
const FLOAT = 3;
const A_LAW = 6;
const MU_LAW = 7;
const EXTENSIBLE = 0xfffe;
/** Programs that write into a pipe leave the length open. */
const OPEN_LENGTHS: readonly number[] = [0, 0xffff_ffff];

/** Samples of at most this many frames at a time. */
const FRAMES_PER_PIECE = 1 << 16;

/** Reads the samples of a WAV file. Throws an InputError for one that is cut off or of another coding. */
export function decodeWav(bytes: Uint8Array, buffer: SampleBuffer, place: string): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let format: WavFormat | undefined;
  let position = 12;
  while (position + 8 <= view.byteLength) {
    const id = view.getUint32(position);
    const stated = view.getUint32(position + 4, true);
    position += 8;
    const left = view.byteLength - position;
    const isData = id === DATA;
    const length = isData && OPEN_LENGTHS.includes(stated) ? left : stated;
    if (length > left) {
      throw new InputError(`${place}: is cut off: ${left} of ${length} bytes of a part are there`);
    }
    if (id === FMT) format = readFormat(new DataView(view.buffer, view.byteOffset + position, length), place);
    if (isData) {
      if (format === undefined) throw new InputError(`${place}: has samples before their format`);
      readSamples(new DataView(view.buffer, view.byteOffset + position, length), format, buffer);
      return;
    }
    position += length + (length % 2);
  }
  throw new InputError(`${place}: is cut off: a WAV file without samples`);
}

const FMT = 0x666d_7420;
const DATA = 0x6461_7461;

function readFormat(view: DataView, place: string): WavFormat {
  if (view.byteLength < 16) throw new InputError(`${place}: has a format part of ${view.byteLength} bytes`);
  const tag = view.getUint16(0, true);
  // The first two bytes of the extensible format's GUID are the plain format's tag.
  const coding = tag === EXTENSIBLE && view.byteLength >= 26 ? view.getUint16(24, true) : tag;
  const bits = view.getUint16(14, true);
  const read = readerOf(coding, bits);
  if (read === undefined) {
    throw new InputError(
      `${place}: is a WAV file of coding ${coding} with ${bits} bits; PCM of 8, 16, 24 or 32 bits, floats of 32 or 64, ` +
        "A-law and mu-law are read",
    );
  }
  const bytes = bits / 8;
  const channels = view.getUint16(2, true);
  const frame = view.getUint16(12, true);
  if (frame !== channels * bytes) {
    throw new InputError(`${place}: has frames of ${frame} bytes for ${channels} channels of ${bits} bits`);
  }
  return { channels, sampling_rate: view.getUint32(4, true), bytes, read };
}

function readerOf(coding: number, bits: number): WavFormat["read"] | undefined {
  switch (`${coding}/${bits}`) {
    case `${PCM}/8`:
      return (view, offset) => (view.getUint8(offset) - 128) / 2 ** 7;
    case `${PCM}/16`:
      return (view, offset) => view.getInt16(offset, true) / 2 ** 15;
    case `${PCM}/24`:
      return (view, offset) => (view.getInt8(offset + 2) * 2 ** 16 + view.getUint16(offset, true)) / 2 ** 23;
    case `${PCM}/32`:
      return (view, offset) => view.getInt32(offset, true) / 2 ** 31;
    case `${FLOAT}/32`:
      return (view, offset) => view.getFloat32(offset, true);
    case `${FLOAT}/64`:
      return (view, offset) => view.getFloat64(offset, true);
    case `${A_LAW}/8`:
      return (view, offset) => expandALaw(view.getUint8(offset));
    case `${MU_LAW}/8`:
      return (view, offset) => expandMuLaw(view.getUint8(offset));
    default:
      return undefined;
  }
}

function readSamples(view: DataView, format: WavFormat, buffer: SampleBuffer): void {
  const { channels, sampling_rate, bytes, read } = format;
  const frames = Math.floor(view.byteLength / (channels * bytes || 1));
  buffer.check(frames, channels, sampling_rate);
  for (let start = 0; start < frames; start += FRAMES_PER_PIECE) {
    const length = Math.min(FRAMES_PER_PIECE, frames - start);
    const piece = Array.from({ length: channels }, () => new Float32Array(length));
    let offset = start * channels * bytes;
    for (let i = 0; i < length; i++) {
      for (let c = 0; c < channels; c++) {
        piece[c]![i] = read(view, offset);
        offset += bytes;
      }
    }
    buffer.push(piece, sampling_rate);
  }
}

/** ITU-T G.711 A-law: every other bit inverted, sign, 3 bits of exponent, 4 of mantissa. */
function expandALaw(code: number): number {
  const value = code ^ 0x55;
  const exponent = (value >> 4) & 7;
  const mantissa = ((value & 15) << 4) + 8;
  const size = exponent === 0 ? mantissa : (mantissa + 0x100) << (exponent - 1);
  return (value & 0x80 ? size : -size) / 2 ** 15;
}

/** ITU-T G.711 mu-law: all bits inverted, a bias of 132 in the size. */
function expandMuLaw(code: number): number {
  const value = ~code & 0xff;
  const size = ((((value & 15) << 3) + 132) << ((value >> 4) & 7)) - 132;
  return (value & 0x80 ? -size : size) / 2 ** 15;
}

/** A WAV file of 32-bit floats, which keeps the samples as they are. */
export function encodeWav(channels: readonly Float32Array[], sampling_rate: number): Uint8Array<ArrayBuffer> {
  const length = channels[0]?.length ?? 0;
  const frame = 4 * channels.length;
  const bytes = new Uint8Array(44 + length * frame);
  const view = new DataView(bytes.buffer);
  const text = (offset: number, value: string): void => bytes.set(Buffer.from(value, "latin1"), offset);
  text(0, "RIFF");
  view.setUint32(4, bytes.length - 8, true);
  text(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, FLOAT, true);
  view.setUint16(22, channels.length, true);
  view.setUint32(24, sampling_rate, true);
  view.setUint32(28, sampling_rate * frame, true);
  view.setUint16(32, frame, true);
  view.setUint16(34, 32, true);
  text(36, "data");
  view.setUint32(40, length * frame, true);
  channels.forEach((samples, c) => {
    for (let i = 0; i < length; i++) view.setFloat32(44 + i * frame + 4 * c, samples[i]!, true);
  });
  return bytes;
}
