/** Opus in Ogg (RFC 7845). */
import { setImmediate } from "node:timers/promises";
import { InputError } from "../../errors.ts";
import { checkErrors, loadPackage } from "./decoder-packages.ts";
import { OggReader } from "./ogg.ts";
import type { SampleBuffer, Samples } from "./sample-buffer.ts";

interface OpusHead {
  readonly channels: number;
  /** Samples before the sound. */
  readonly preSkip: number;
  /** Factor of every sample. */
  readonly gain: number;
  readonly streamCount: number;
  readonly coupledStreamCount: number;
  /** For each channel the decoded one that it is. */
  readonly channelMappingTable: number[];
}

/** Opus counts time, and is decoded, at this rate. */
const SAMPLING_RATE = 48_000;
/** A packet holds at most 120 ms: so many make at most 4 s. */
const PACKETS_PER_TURN = 32;

export async function decodeOpus(
  bytes: Uint8Array,
  buffer: SampleBuffer,
  place: string,
  signal: AbortSignal | undefined,
): Promise<Samples> {
  const { OpusDecoder } = await loadPackage("opus-decoder", () => import("opus-decoder"));
  const reader = new OggReader(bytes, place);
  const packets = reader.packets();
  const head = readHead(packets.next().value ?? new Uint8Array(0), place);
  packets.next(); // titles and the like
  const { channels, gain, preSkip, ...mapping } = head;
  const decoder = new OpusDecoder({ channels, ...mapping });
  try {
    await decoder.ready;
    for (
      let turn = take(packets, PACKETS_PER_TURN);
      turn.length > 0;
      turn = take(packets, PACKETS_PER_TURN)
    ) {
      const { channelData, errors } = decoder.decodeFrames(turn);
      checkErrors(errors);
      const amplified = gain === 1 ? channelData : channelData.map((samples) => samples.map((x) => x * gain));
      buffer.push(amplified, SAMPLING_RATE);
      await setImmediate();
      signal?.throwIfAborted();
    }
  } finally {
    decoder.free();
  }
  // Encoders fill the last packet up. A stream that was cut out of a longer one counts from elsewhere.
  const end = reader.granule > preSkip && reader.granule < buffer.length ? reader.granule : buffer.length;
  return buffer.finish(preSkip, end);
}

function readHead(packet: Uint8Array, place: string): OpusHead {
  const view = new DataView(packet.buffer, packet.byteOffset, packet.byteLength);
  const fail = (): never => {
    throw new InputError(`${place}: is damaged: its Opus header makes no sense`);
  };
  if (packet.length < 19 || packet[8]! >> 4 !== 0) return fail();
  const channels = packet[9]!;
  const family = packet[18]!;
  const common = {
    channels,
    preSkip: view.getUint16(10, true),
    gain: 10 ** (view.getInt16(16, true) / 256 / 20),
  };
  if (family === 0) {
    if (channels !== 1 && channels !== 2) return fail();
    const table = channels === 1 ? [0] : [0, 1];
    return { ...common, streamCount: 1, coupledStreamCount: channels - 1, channelMappingTable: table };
  }
  const [streamCount = 0, coupledStreamCount = 0] = packet.subarray(19, 21);
  const channelMappingTable = [...packet.subarray(21, 21 + channels)];
  const decoded = streamCount + coupledStreamCount;
  const isWhole =
    channelMappingTable.length === channels && channelMappingTable.every((index) => index < decoded);
  if (channels < 1 || channels > 8 || streamCount < 1 || coupledStreamCount > streamCount || !isWhole)
    return fail();
  return { ...common, streamCount, coupledStreamCount, channelMappingTable };
}

/** The next `count` packets, fewer at the end; empty ones hold nothing. */
function take(packets: Iterator<Uint8Array>, count: number): Uint8Array[] {
  const taken: Uint8Array[] = [];
  while (taken.length < count) {
    const { value, done } = packets.next();
    if (done) break;
    if (value.length > 0) taken.push(value);
  }
  return taken;
}
