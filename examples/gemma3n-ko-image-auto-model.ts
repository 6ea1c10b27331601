/** The Korean page's chat about a picture. `npx tsx examples/gemma3n-ko-image-auto-model.ts [MODEL [IMAGE]]` */
import { AutoProcessor, Gemma3nForConditionalGeneration } from "lapidary";

const CAT =
  "https://huggingface.co/datasets/huggingface/documentation-images/resolve/main/pipeline-cat-chonk.jpeg";

const [, , id = "google/gemma-3n-E4B-it", image = CAT] = process.argv;
const model = await Gemma3nForConditionalGeneration.from_pretrained(id, {
  dtype: "bfloat16",
  device_map: "auto",
  attn_implementation: "sdpa",
});
const processor = await AutoProcessor.from_pretrained(id, { padding_side: "left" });
const messages = [
  { role: "system", content: [{ type: "text", text: "당신은 도움이 되는 어시스턴트입니다." }] },
  {
    role: "user",
    content: [
      { type: "image", url: image },
      { type: "text", text: "이 이미지에 무엇이 보이나요?" },
    ],
  },
];
const inputs = await processor.apply_chat_template(messages, {
  tokenize: true,
  return_dict: true,
  return_tensors: "pt",
  add_generation_prompt: true,
});
const output = await model.generate({
  ...inputs.to(model.device),
  max_new_tokens: 50,
  cache_implementation: "static",
});
console.log(processor.decode(output[0]!, { skip_special_tokens: true }));
await model.dispose();
