import { InputError } from "../../errors.ts";
import { type AudioLimits, SampleBuffer, type Samples } from "./sample-buffer.ts";
import { decodeWav } from "./wav.ts";

/**
 * Decodes a WAV file: all channels at their own sampling rate. The format is told from the first bytes. `place` names
 * the file in messages.
 */
export async function decodeAudio(bytes: Uint8Array, limits: AudioLimits, place: string): Promise<Samples> {
  const buffer = new SampleBuffer(limits, place);
  switch (formatOf(bytes)) {
    case "WAV":
      decodeWav(bytes, buffer, place);
      return buffer.finish();
    default:
      throw new InputError(`${place}: is no WAV file`);
  }
}

function formatOf(bytes: Uint8Array): string | undefined {
  const head = Buffer.from(bytes.subarray(0, 64)).toString("latin1");
  if (head.startsWith("RIFF") && head.slice(8, 12) === "WAVE") return "WAV";
  return undefined;
}
