/** The Korean page's question about several pictures. `npx tsx examples/gemma3n-ko-images.ts [MODEL [IMAGE IMAGE]]` */
import { AutoModelForImageTextToText, AutoProcessor } from "lapidary";

const COW =
  "https://media.istockphoto.com/id/1192867753/photo/cow-in-berchida-beach-siniscola.jpg?s=612x612&w=0&k=20&c=v0hjjniwsMNfJSuKWZuIn8pssmD5h5bSN1peBd1CmH4=";
const CAT =
  "https://huggingface.co/datasets/huggingface/documentation-images/resolve/main/pipeline-cat-chonk.jpeg";

const [, , id = "google/gemma-3n-E4B-it", cow = COW, cat = CAT] = process.argv;
const processor = await AutoProcessor.from_pretrained(id, { padding_side: "left" });
const model = await AutoModelForImageTextToText.from_pretrained(id);
const messages = [
  { role: "system", content: [{ type: "text", text: "당신은 도움이 되는 어시스턴트입니다." }] },
  {
    role: "user",
    content: [
      { type: "image", url: cow },
      { type: "image", url: cat },
      { type: "text", text: "어떤 이미지가 더 귀엽습니까?" },
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
