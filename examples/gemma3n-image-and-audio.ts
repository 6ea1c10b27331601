/** A spoken question about a picture. `npx tsx examples/gemma3n-image-and-audio.ts [MODEL [IMAGE SOUND]]` */
import { AutoModelForImageTextToText, AutoProcessor, TextStreamer } from "lapidary";

const [, , id = "google/gemma-3n-E2B-it", image = "photo.jpg", sound = "question.wav"] = process.argv;
const processor = await AutoProcessor.from_pretrained(id);
const model = await AutoModelForImageTextToText.from_pretrained(id);
const content = [
  { type: "image", path: image },
  { type: "audio", path: sound },
  { type: "text", text: "Answer the question that you hear about the picture." },
];
const inputs = await processor.apply_chat_template([{ role: "user", content }], {
  tokenize: true,
  return_dict: true,
  add_generation_prompt: true,
});
console.log(`${inputs.input_ids.dims[1]} tokens with those of the picture and the sound`);
const streamer = new TextStreamer(processor.tokenizer, { skip_prompt: true, skip_special_tokens: true });
await model.generate({ ...inputs, max_new_tokens: 50, streamer });
await model.dispose();
