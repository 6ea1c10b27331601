import { describe, expect, it } from "vitest";
import { Tensor } from "../tensor.ts";
import { promptWithMedia } from "./chat-prompt.ts";

/** A prompt with a sound of two tokens, padded to so many frames of two bands. */
function prompt(sound: readonly number[], frames: number): readonly number[] {
  const data = new Float32Array(frames * 2);
  data.set(sound);
  const mask = new Uint8Array(frames).fill(1, 0, sound.length / 2);
  const ids = BigInt64Array.from([2n, 9n, 9n, 3n]);
  return promptWithMedia({
    input_ids: new Tensor("int64", ids, [1, 4]),
    token_type_ids: new Tensor("int64", BigInt64Array.from([0n, 3n, 3n, 0n]), [1, 4]),
    input_features: new Tensor("float32", data, [1, frames, 2]),
    input_features_mask: new Tensor("bool", mask, [1, frames]),
  }).key;
}

describe("the key of a prompt with sounds", () => {
  it("is the same beside a longer one, and another for other sounds", () => {
    const key = prompt([1, 2, 3, 4], 2);
    expect(key[0]).toBe(2);
    expect(key[1]).toBeLessThan(0);
    expect(prompt([1, 2, 3, 4], 5)).toEqual(key);
    expect(prompt([1, 2, 3, 5], 2)).not.toEqual(key);
    expect(prompt([1, 2, 3, 4, 0, 0], 5)).not.toEqual(key);
  });
});
