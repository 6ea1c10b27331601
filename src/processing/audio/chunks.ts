import { InputError } from "../../errors.ts";

/** A piece of a long sound, in samples. */
export interface AudioChunk {
  readonly start: number;
  /** First sample after it. */
  readonly end: number;
  /** Samples at its start that the piece before it has too, half of them better heard there. */
  readonly stride_left: number;
  /** The same at its end. */
  readonly stride_right: number;
}

/**
 * Cuts `length` samples into pieces of `chunk` that overlap as in HF's and Transformers.js' speech pipelines: each
 * shares `left + right` samples with its neighbour, and the outer ends have no stride. The last piece may be shorter.
 */
export function chunkAudio(
  length: number,
  chunk: number,
  [left, right]: readonly [left: number, right: number] = [0, 0],
): AudioChunk[] {
  const step = chunk - left - right;
  if (!(step > 0) || left < 0 || right < 0) {
    throw new InputError(
      `chunks of ${chunk} samples must be longer than both strides, ${left} and ${right}`,
      {
        option: "stride_length_s",
      },
    );
  }
  const chunks: AudioChunk[] = [];
  for (let start = 0; ; start += step) {
    const end = Math.min(start + chunk, length);
    const isLast = end === length;
    const stride_left = start === 0 ? 0 : left;
    chunks.push({ start, end, stride_left, stride_right: isLast ? 0 : right });
    if (isLast) return chunks;
  }
}
