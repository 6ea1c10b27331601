/** The same from the Korean page, without a placeholder. `npx tsx examples/gemma3n-ko-image-pipeline.ts [MODEL [IMAGE]]` */
import { pipeline } from "lapidary";

const CAT =
  "https://huggingface.co/datasets/huggingface/documentation-images/resolve/main/pipeline-cat-chonk.jpeg";

const [, , model = "google/gemma-3n-E4B", image = CAT] = process.argv;
const pipe = await pipeline({ task: "image-text-to-text", model, device: 0, dtype: "bfloat16" });
const output = await pipe(image, { text: "이 이미지에 무엇이 보이나요?" });
console.log(output[0]!.generated_text);
await pipe.dispose();
