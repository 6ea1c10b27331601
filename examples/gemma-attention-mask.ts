/** What each token can attend to. `npx tsx examples/gemma-attention-mask.ts [MODEL]` */
import { AttentionMaskVisualizer } from "lapidary";

const visualizer = new AttentionMaskVisualizer(process.argv[2] ?? "google/gemma-2b");
await visualizer("LLMs generate text through a process known as");
