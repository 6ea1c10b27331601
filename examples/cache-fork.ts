/** A prefix is computed once and goes on in several ways. `npx tsx examples/cache-fork.ts [MODEL]` */
import { AutoModelForCausalLM, AutoTokenizer } from "lapidary";

const id = process.argv[2] ?? "gemma-3-270m";
const tokenizer = await AutoTokenizer.from_pretrained(id);
const model = await AutoModelForCausalLM.from_pretrained(id);
const prefix = "The four seasons are spring, summer, autumn and winter.";
const { past_key_values } = await model({ ...tokenizer(prefix), logits_to_keep: 1 });
for (const ending of [" In spring", " In winter"]) {
  const outputs = await model.generate({
    ...tokenizer(prefix + ending),
    past_key_values: past_key_values!.fork(),
    max_new_tokens: 12,
  });
  console.log(tokenizer.decode(outputs[0]!, { skip_special_tokens: true }));
}
await model.dispose();
