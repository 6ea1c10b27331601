/** The same with weights in 4 bits, in groups of 128. `npx tsx examples/gemma3-image-quantized.ts [MODEL [IMAGE]]` */
import { AutoProcessor, Gemma3ForConditionalGeneration, TorchAoConfig } from "lapidary";

const CAT =
  "https://huggingface.co/datasets/huggingface/documentation-images/resolve/main/pipeline-cat-chonk.jpeg";

const [, , id = "google/gemma-3-27b-it", image = CAT] = process.argv;
const model = await Gemma3ForConditionalGeneration.from_pretrained(id, {
  device_map: "auto",
  quantization_config: new TorchAoConfig("int4_weight_only", { group_size: 128 }),
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
console.log(model.memory().weights);
await model.dispose();
