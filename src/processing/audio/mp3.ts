/** MPEG audio (MP3 and its elder layers): where its frames lie. What they hold is decoded elsewhere. */
import { InputError } from "../../errors.ts";

/** A run of whole frames. */
export interface MpegFrames {
  readonly start: number;
  readonly end: number;
  readonly channels: number;
  readonly sampling_rate: number;
}

interface FrameHeader {
  /** In bytes. */
  readonly length: number;
  readonly channels: number;
  readonly sampling_rate: number;
}

/** kbit/s by index; rows: version 1 of layers 1, 2 and 3, later versions of layer 1, and of layers 2 and 3. */
const BITRATES = [
  [0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448],
  [0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384],
  [0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320],
  [0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256],
  [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160],
] as const;
const RATES = [44_100, 48_000, 32_000] as const;
const MONO = 3;

/** The header of a frame at `position`, or undefined where there is none. Frames of free bitrate do not count. */
export function frameHeader(bytes: Uint8Array, position: number): FrameHeader | undefined {
  const [first, second, third, fourth] = bytes.subarray(position, position + 4);
  if (first !== 0xff || second === undefined || third === undefined || fourth === undefined) return undefined;
  if ((second & 0xe0) !== 0xe0) return undefined;
  // Version bits: 3 is MPEG-1, 2 MPEG-2, 0 MPEG-2.5; 1 is none.
  const version = (second >> 3) & 3;
  const layer = 4 - ((second >> 1) & 3);
  const bitrate = BITRATES[version === 3 ? layer - 1 : layer === 1 ? 3 : 4]?.[third >> 4] ?? 0;
  const base = RATES[(third >> 2) & 3];
  if (version === 1 || layer === 4 || bitrate === 0 || base === undefined) return undefined;
  const sampling_rate = version === 3 ? base : version === 2 ? base / 2 : base / 4;
  const padding = (third >> 1) & 1;
  const bits = bitrate * 1000;
  const samplesInBytes = layer === 3 && version !== 3 ? 72 : 144;
  const length =
    layer === 1
      ? (Math.floor((12 * bits) / sampling_rate) + padding) * 4
      : Math.floor((samplesInBytes * bits) / sampling_rate) + padding;
  return { length, channels: fourth >> 6 === MONO ? 1 : 2, sampling_rate };
}

/** Follows the frames from `start` to what may come after them. Throws an InputError where a frame is cut off or lost. */
export function findFrames(bytes: Uint8Array, start: number, place: string): MpegFrames {
  const first = frameHeader(bytes, start);
  if (first === undefined) throw new InputError(`${place}: has no MP3 frame at byte ${start}`);
  const { channels, sampling_rate } = first;
  let position = start;
  while (position < bytes.length) {
    const header = frameHeader(bytes, position);
    if (header === undefined) {
      if (isTrailer(bytes.subarray(position))) break;
      throw new InputError(`${place}: is damaged: there is no MP3 frame at byte ${position}`);
    }
    if (header.sampling_rate !== sampling_rate) {
      throw new InputError(`${place}: changes midway from ${sampling_rate} Hz to ${header.sampling_rate} Hz`);
    }
    if (position + header.length > bytes.length) {
      const there = bytes.length - position;
      throw new InputError(`${place}: is cut off: ${there} of ${header.length} bytes of a frame are there`);
    }
    position += header.length;
  }
  return { start, end: position, channels, sampling_rate };
}

/** Tags that players write behind the sound, or padding. */
function isTrailer(bytes: Uint8Array): boolean {
  const head = Buffer.from(bytes.subarray(0, 11)).toString("latin1");
  return /^(TAG|APETAGEX|LYRICSBEGIN|3DI|ID3)/.test(head) || bytes.every((byte) => byte === 0);
}

/** Where the sound begins behind ID3v2 tags, which may be padded with zeros. */
export function skipId3(bytes: Uint8Array, place: string): number {
  let position = 0;
  while (Buffer.from(bytes.subarray(position, position + 3)).toString("latin1") === "ID3") {
    const size = bytes.subarray(position + 6, position + 10);
    const hasFooter = ((bytes[position + 5] ?? 0) & 0x10) !== 0;
    // Four times seven bits.
    position += 10 + size.reduce((sum, part) => sum * 128 + (part & 127), 0) + (hasFooter ? 10 : 0);
    if (position >= bytes.length) throw new InputError(`${place}: is cut off within its ID3 tag`);
  }
  if (position > 0) while (position < bytes.length && bytes[position] === 0) position++;
  return position;
}
