/** What the tokens of a text with a picture can attend to. `npx tsx examples/gemma3-image-mask.ts [MODEL]` */
import { AttentionMaskVisualizer } from "lapidary";

const visualizer = new AttentionMaskVisualizer(process.argv[2] ?? "google/gemma-3-4b-it");
await visualizer("<img>What is shown in this image?");
