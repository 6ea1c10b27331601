import { InputError } from "../../errors.ts";

/** What a FLAC file says of itself (STREAMINFO). */
export interface FlacInfo {
  readonly sampling_rate: number;
  readonly channels: number;
  /** Bits of a sample. */
  readonly bits: number;
  /** Samples of each channel; 0: not known. */
  readonly length: number;
}

/** Reads the description that begins at `start` with "fLaC", and checks that the metadata behind it is all there. */
export function readFlacInfo(bytes: Uint8Array, start: number, place: string): FlacInfo {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let position = start + 4;
  let info: FlacInfo | undefined;
  for (let isLast = false; !isLast; ) {
    if (position + 4 > bytes.length) throw new InputError(`${place}: is cut off within its metadata`);
    const head = view.getUint32(position);
    isLast = head >>> 31 === 1;
    const length = head & 0xff_ffff;
    position += 4;
    if (position + length > bytes.length) throw new InputError(`${place}: is cut off within its metadata`);
    const isInfo = ((head >>> 24) & 127) === 0;
    if (isInfo !== (info === undefined) || (isInfo && length < 34)) {
      throw new InputError(`${place}: is damaged: its metadata does not begin with the stream's description`);
    }
    info ??= streamInfo(view, position + 10);
    position += length;
  }
  return info!;
}

/** 20 bits sampling rate, 3 bits channels less 1, 5 bits sample size less 1, 36 bits length. */
function streamInfo(view: DataView, offset: number): FlacInfo {
  const high = view.getUint32(offset);
  return {
    sampling_rate: high >>> 12,
    channels: ((high >>> 9) & 7) + 1,
    bits: ((high >>> 4) & 31) + 1,
    length: (high & 15) * 2 ** 32 + view.getUint32(offset + 4),
  };
}
