/** A cache of one's own, which holds the whole text afterwards. `npx tsx examples/gemma-cache.ts [MODEL]` */
import { AutoModelForCausalLM, AutoTokenizer, DynamicCache } from "lapidary";

const id = process.argv[2] ?? "google/gemma-2b";
const tokenizer = await AutoTokenizer.from_pretrained(id);
const model = await AutoModelForCausalLM.from_pretrained(id, {
  torch_dtype: "bfloat16",
  device_map: "auto",
  attn_implementation: "sdpa",
});
const inputs = tokenizer("LLMs generate text through a process known as", { return_tensors: "pt" });
const past_key_values = new DynamicCache();
const outputs = await model.generate({ ...inputs.to(model.device), max_new_tokens: 50, past_key_values });
console.log(tokenizer.decode(outputs[0]!, { skip_special_tokens: true }));
console.log(`${past_key_values.get_seq_length()} positions held`);
await model.dispose();
