import { describe, expect, it } from "vitest";
import { floats, soundReferences, worstDifference } from "../../../test/support/sounds.ts";
import { resample, resampledLength } from "./resample.ts";

function tone(rate: number, frequency: number, seconds: number): Float32Array {
  return Float32Array.from({ length: rate * seconds }, (_, i) =>
    Math.sin((2 * Math.PI * frequency * i) / rate),
  );
}

/** Away from the ends, where silence comes in. */
function middle(samples: Float32Array): Float32Array {
  return samples.subarray(samples.length / 4, (3 * samples.length) / 4);
}

describe("resample", () => {
  it("is the windowed sinc that numpy sums", () => {
    const { signal, rates } = soundReferences().resampled;
    for (const { from, to, samples } of rates) {
      expect(worstDifference(resample(floats(signal), from, to), floats(samples))).toBeLessThan(2e-7);
    }
  });

  it.each([8000, 11025, 22050, 24000, 44100, 48000, 96000, 15999])(
    "keeps a tone of 1 kHz from %i Hz",
    (rate) => {
      const got = resample(tone(rate, 1000, 0.4), rate, 16_000);
      expect(worstDifference(middle(got), middle(tone(16_000, 1000, 0.4)))).toBeLessThan(1e-6);
    },
  );

  it("removes what the new rate cannot hold", () => {
    const got = middle(resample(tone(48_000, 9000, 0.4), 48_000, 16_000));
    expect(worstDifference(got, new Float32Array(got.length))).toBeLessThan(1e-6);
  });

  it("gives the sound itself at its own rate, and as many samples as last as long", () => {
    const sound = tone(16_000, 300, 0.1);
    expect(resample(sound, 16_000, 16_000)).toBe(sound);
    expect(resampledLength(441, 44_100, 16_000)).toBe(160);
    expect(resampledLength(442, 44_100, 16_000)).toBe(161);
  });
});
