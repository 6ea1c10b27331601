import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

/** Folder of the sounds that tools/oracle/sounds.py wrote. */
export const SOUNDS: string = fileURLToPath(new URL("../fixtures/audio/", import.meta.url));

export interface DecodedSound {
  readonly sampling_rate: number;
  readonly channels: number;
  /** base64 float32, frame by frame. */
  readonly samples: string;
}

/** What libsndfile and numpy made of the sounds. */
export function soundReferences(): {
  readonly files: Readonly<Record<string, DecodedSound>>;
  readonly resampled: {
    readonly signal: string;
    readonly rates: readonly { readonly from: number; readonly to: number; readonly samples: string }[];
  };
} {
  return JSON.parse(readFileSync(`${SOUNDS}sounds.json`, "utf8"));
}

export function floats(base64: string): Float32Array {
  return new Float32Array(Uint8Array.from(Buffer.from(base64, "base64")).buffer);
}

/** Largest difference of two arrays of one length; infinite for different lengths and for what is no number. */
export function worstDifference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) return Number.POSITIVE_INFINITY;
  let worst = 0;
  for (let i = 0; i < a.length; i++) {
    const difference = Math.abs(a[i]! - b[i]!);
    if (!(difference <= worst)) worst = Number.isNaN(difference) ? Number.POSITIVE_INFINITY : difference;
  }
  return worst;
}
