/** The smaller model inside a larger one (MatFormer). `npx tsx examples/gemma3n-slice.ts [MODEL [UNITS]]` */
import { AutoTokenizer, Gemma3nForCausalLM } from "lapidary";

const [, , id = "google/gemma-3n-E4B", units] = process.argv;
const slice = units === undefined ? "E2B" : { intermediate_size: Number(units) };
const tokenizer = await AutoTokenizer.from_pretrained(id);
const model = await Gemma3nForCausalLM.from_pretrained(id, { slice, dtype: "q4" });
console.log({ layers: model.config.num_hidden_layers, units: model.config.intermediate_size });
const inputs = await tokenizer("Plants create energy through a process known as");
const output = await model.generate({ ...inputs, max_new_tokens: 20 });
console.log(tokenizer.decode(output[0]!, { skip_special_tokens: true }));
await model.dispose();
