/** Texts by closeness to a question, with EmbeddingGemma. `npx tsx examples/embeddings.ts [MODEL]` */
import { SentenceTransformer } from "lapidary";

const model = await SentenceTransformer.from_pretrained(process.argv[2] ?? "google/embeddinggemma-300m");
const documents = ["Venus is called Earth's twin.", "Mars is known as the Red Planet.", "Saturn has rings."];
const query = await model.encode_query("Which planet is red?");
const similarities = await model.similarity(query, await model.encode_document(documents));
console.log(similarities.tolist());
await model.dispose();
