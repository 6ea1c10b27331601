import { describe, expect, it } from "vitest";
import { readArguments } from "./processor-arguments.ts";
import { routeOptions } from "./processor-options.ts";
import { RawImage } from "./raw-image.ts";

const token = { placeholder: "<i>", soft: "<s>", id: 7, type: 1 };
const parts = [
  { token: { ...token, kind: "images" as const }, optionNames: ["do_pan_and_scan", "size"] },
  { token: { ...token, kind: "audio" as const }, optionNames: ["padding", "sampling_rate"] },
];

describe("routeOptions", () => {
  it("gives each option to the part that knows it", () => {
    const { signal } = new AbortController();
    const routed = routeOptions(
      {
        padding: true,
        do_pan_and_scan: true,
        text_kwargs: { max_length: 5 },
        images_kwargs: { size: 48 },
        audio_kwargs: { padding: "longest", sampling_rate: 16000 },
        common_kwargs: { return_tensors: "pt" },
        signal,
      },
      parts,
      "processor",
    );
    expect(routed).toEqual({
      text: { padding: true, max_length: 5, return_tensors: "pt" },
      images: { do_pan_and_scan: true, size: 48, signal },
      audio: { padding: "longest", sampling_rate: 16000, signal },
    });
  });

  it("refuses what no part knows, and what is given twice", () => {
    const route = (options: object): unknown => routeOptions(options, parts, "processor");
    expect(() => route({ paddin: true })).toThrow('unknown option "paddin"; did you mean "padding"?');
    expect(() => route({ images_kwargs: { padding: true } })).toThrow("processor: images_kwargs");
    expect(() => route({ size: 1, images_kwargs: { size: 2 } })).toThrow(
      "size stands by itself and in images_kwargs",
    );
  });
});

describe("readArguments", () => {
  const image = new RawImage(new Uint8Array(3), 1, 1, 3);
  const options = { padding: true };

  it("takes the options last, wherever that is", () => {
    const expected = { text: ["a"], images: image, audio: undefined, options };
    expect(readArguments(["a", image, null, options])).toEqual(expected);
    expect(readArguments(["a", image, options])).toEqual(expected);
    expect(readArguments(["a", options])).toEqual({ ...expected, images: undefined });
    expect(readArguments(["a", image])).toEqual({ ...expected, options: {} });
  });

  it("takes all by name", () => {
    expect(readArguments([{ text: ["a", "b"], audio: "talk.wav", padding: true }])).toEqual({
      text: ["a", "b"],
      images: undefined,
      audio: "talk.wav",
      options,
    });
  });

  it("refuses images where the text belongs, and a fourth argument that is no object", () => {
    expect(() => readArguments([image, "a"])).toThrow("images come second");
    expect(() => readArguments(["a", image, null, true])).toThrow("object of options");
  });
});
