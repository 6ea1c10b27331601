/** Continues a text with the pipeline: the Gemma page's first example. `npx tsx examples/gemma-pipeline.ts [MODEL]` */
import { pipeline } from "lapidary";

const generator = await pipeline("text-generation", process.argv[2] ?? "google/gemma-2b", {
  torch_dtype: "bfloat16",
});
const output = await generator("LLMs generate text through a process known as", { max_new_tokens: 50 });
console.log(output[0]!.generated_text);
await generator.dispose();
