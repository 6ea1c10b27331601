/** A picture and a prompt: the Gemma 3n page's first example. `npx tsx examples/gemma3n-image-pipeline.ts [MODEL [IMAGE]]` */
import { pipeline } from "lapidary";

const CAT =
  "https://huggingface.co/datasets/huggingface/documentation-images/resolve/main/pipeline-cat-chonk.jpeg";

const [, , model = "google/gemma-3n-E4B", image = CAT] = process.argv;
const pipe = await pipeline({ task: "image-text-to-text", model, device: 0, torch_dtype: "bfloat16" });
const output = await pipe(image, { text: "<start_of_image> What is shown in this image?" });
console.log(output[0]!.generated_text);
await pipe.dispose();
