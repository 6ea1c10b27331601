import { expect, it } from "vitest";
import { chatMedia, withoutSources } from "./chat-media.ts";
import { RawImage } from "./raw-image.ts";

const image = new RawImage(new Uint8Array(3), 1, 1, 3);
const messages = [
  { role: "system", content: "Be brief." },
  {
    role: "user",
    content: [
      { type: "image", url: "https://example.org/a.png" },
      { type: "image", image },
      { type: "image", base64: "QUJD" },
      { type: "image_url", image_url: { url: "data:image/png;base64,QUJD" } },
      { type: "audio", path: "talk.wav", speaker: "Ada" },
      { type: "text", text: "What?" },
    ],
  },
];

it("collects what the parts refer to", () => {
  expect(chatMedia(messages)).toEqual({
    images: ["https://example.org/a.png", image, "data:;base64,QUJD", "data:image/png;base64,QUJD"],
    audio: ["talk.wav"],
  });
});

it("leaves types and the rest to the template", () => {
  expect(withoutSources(messages)).toEqual([
    messages[0],
    {
      role: "user",
      content: [
        { type: "image" },
        { type: "image" },
        { type: "image" },
        { type: "image" },
        { type: "audio", speaker: "Ada" },
        { type: "text", text: "What?" },
      ],
    },
  ]);
});

it("names a part without a source", () => {
  const content = [{ type: "image" }];
  expect(() => chatMedia([{ role: "user", content }])).toThrow(
    "messages[0]: the image part has no source; give one of image, url, path, base64, data",
  );
  expect(() => chatMedia([{ role: "user", content: [{ type: "video" }] }])).toThrow("video");
});
