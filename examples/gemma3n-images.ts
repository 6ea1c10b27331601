/** Several pictures in one question. `npx tsx examples/gemma3n-images.ts [MODEL [IMAGE IMAGE]]` */
import { AutoModelForImageTextToText, AutoProcessor } from "lapidary";

const COW =
  "https://media.istockphoto.com/id/1192867753/photo/cow-in-berchida-beach-siniscola.jpg?s=612x612&w=0&k=20&c=v0hjjniwsMNfJSuKWZuIn8pssmD5h5bSN1peBd1CmH4=";
const CAT =
  "https://huggingface.co/datasets/huggingface/documentation-images/resolve/main/pipeline-cat-chonk.jpeg";

const [, , id = "google/gemma-3n-E4B-it", cow = COW, cat = CAT] = process.argv;
const processor = await AutoProcessor.from_pretrained(id, { padding_side: "left" });
const model = await AutoModelForImageTextToText.from_pretrained(id);
const messages = [
  { role: "system", content: [{ type: "text", text: "You are a helpful assistant." }] },
  {
    role: "user",
    content: [
      { type: "image", url: cow },
      { type: "image", url: cat },
      { type: "text", text: "Which image is cuter?" },
    ],
  },
];
const inputs = await processor.apply_chat_template(messages, {
  tokenize: true,
  return_dict: true,
  add_generation_prompt: true,
});
const output = await model.generate({ ...inputs, max_new_tokens: 50 });
console.log(processor.decode(output[0]!, { skip_special_tokens: true }));
await model.dispose();
