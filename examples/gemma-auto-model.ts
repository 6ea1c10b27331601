/** The same with the model's own classes. `npx tsx examples/gemma-auto-model.ts [MODEL]` */
import { AutoModelForCausalLM, AutoTokenizer } from "lapidary";

const id = process.argv[2] ?? "google/gemma-2b";
const tokenizer = await AutoTokenizer.from_pretrained(id);
const model = await AutoModelForCausalLM.from_pretrained(id, {
  torch_dtype: "bfloat16",
  device_map: "auto",
  attn_implementation: "sdpa",
});
const inputs = tokenizer("LLMs generate text through a process known as", { return_tensors: "pt" });
const outputs = await model.generate({
  ...inputs.to(model.device),
  max_new_tokens: 50,
  cache_implementation: "static",
});
console.log(tokenizer.decode(outputs[0]!, { skip_special_tokens: true }));
await model.dispose();
