/** Weights in 4 bits, torchao's int4 in groups of 128. `npx tsx examples/gemma3-quantized.ts [MODEL]` */
import { AutoModelForCausalLM, AutoTokenizer, TorchAoConfig } from "lapidary";

const id = process.argv[2] ?? "google/gemma-3-1b-it";
const model = await AutoModelForCausalLM.from_pretrained(id, {
  device_map: "auto",
  quantization_config: new TorchAoConfig("int4_weight_only", { group_size: 128 }),
});
const tokenizer = await AutoTokenizer.from_pretrained(id, { padding_side: "left" });
const messages = [
  { role: "system", content: "You are a helpful assistant." },
  { role: "user", content: "Why is the sky blue?" },
];
const inputs = tokenizer.apply_chat_template(messages, { return_dict: true, add_generation_prompt: true });
const output = await model.generate({ ...inputs, max_new_tokens: 50, cache_implementation: "static" });
console.log(tokenizer.decode(output[0]!, { skip_special_tokens: true }));
console.log(model.memory().weights);
await model.dispose();
