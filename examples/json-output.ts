/** An answer that fits a JSON schema. `npx tsx examples/json-output.ts [MODEL]` */
import { AutoModelForCausalLM, AutoTokenizer } from "lapidary";

const id = process.argv[2] ?? "google/gemma-3-1b-it";
const tokenizer = await AutoTokenizer.from_pretrained(id);
const model = await AutoModelForCausalLM.from_pretrained(id);
const messages = [{ role: "user", content: "Describe Paris as JSON with name and population in millions." }];
const inputs = tokenizer.apply_chat_template(messages, { return_dict: true, add_generation_prompt: true });
const output = await model.generate({
  ...inputs,
  tokenizer,
  max_new_tokens: 100,
  json_schema: {
    type: "object",
    properties: { name: { type: "string", maxLength: 20 }, population: { type: "integer" } },
    required: ["name", "population"],
    additionalProperties: false,
  },
});
const answer = output.slice(0, [inputs.input_ids.dims.at(-1)!, null]);
console.log(JSON.parse(tokenizer.decode(answer, { skip_special_tokens: true })));
await model.dispose();
