/** Gemma 3 as a language model: the Gemma 3 page's example for text. `npx tsx examples/gemma3-text.ts [MODEL]` */
import { AutoModelForCausalLM, AutoTokenizer } from "lapidary";

const id = process.argv[2] ?? "google/gemma-3-1b-pt";
const tokenizer = await AutoTokenizer.from_pretrained(id);
const model = await AutoModelForCausalLM.from_pretrained(id, {
  device_map: "auto",
  attn_implementation: "sdpa",
});
const inputs = tokenizer("Plants create energy through a process known as", { return_tensors: "pt" });
const output = await model.generate({ ...inputs.to(model.device), cache_implementation: "static" });
console.log(tokenizer.decode(output[0]!, { skip_special_tokens: true }));
await model.dispose();
