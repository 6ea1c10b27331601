/** A chat about a picture, without the pipeline. `npx tsx examples/gemma3n-image-auto-model.ts [MODEL [IMAGE]]` */
import { AutoProcessor, Gemma3nForConditionalGeneration } from "lapidary";

const CAT =
  "https://huggingface.co/datasets/huggingface/documentation-images/resolve/main/pipeline-cat-chonk.jpeg";

const [, , id = "google/gemma-3n-E4B-it", image = CAT] = process.argv;
const model = await Gemma3nForConditionalGeneration.from_pretrained(id, {
  torch_dtype: "bfloat16",
  device_map: "auto",
  attn_implementation: "sdpa",
});
const processor = await AutoProcessor.from_pretrained(id, { padding_side: "left" });
const messages = [
  { role: "system", content: [{ type: "text", text: "You are a helpful assistant." }] },
  {
    role: "user",
    content: [
      { type: "image", url: image },
      { type: "text", text: "What is shown in this image?" },
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
