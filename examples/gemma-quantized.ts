/** Weights in 4 bits, bitsandbytes' NF4. `npx tsx examples/gemma-quantized.ts [MODEL]` */
import { AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig } from "lapidary";

const id = process.argv[2] ?? "google/gemma-7b";
const quantization_config = new BitsAndBytesConfig({
  load_in_4bit: true,
  bnb_4bit_compute_dtype: "bfloat16",
  bnb_4bit_quant_type: "nf4",
});
const tokenizer = await AutoTokenizer.from_pretrained(id);
const model = await AutoModelForCausalLM.from_pretrained(id, {
  quantization_config,
  device_map: "auto",
  attn_implementation: "sdpa",
});
const inputs = tokenizer("LLMs generate text through a process known as.", { return_tensors: "pt" });
const outputs = await model.generate({
  ...inputs.to(model.device),
  max_new_tokens: 50,
  cache_implementation: "static",
});
console.log(tokenizer.decode(outputs[0]!, { skip_special_tokens: true }));
console.log(model.memory().weights);
await model.dispose();
