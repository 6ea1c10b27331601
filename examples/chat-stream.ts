/** A chat turn, printed as it comes; Ctrl-C stops it. `npx tsx examples/chat-stream.ts [MODEL]` */
import { pipeline, TextStreamer } from "lapidary";

const chat = await pipeline("text-generation", process.argv[2] ?? "google/gemma-3-1b-it", { dtype: "q8" });
const stop = new AbortController();
process.once("SIGINT", () => stop.abort());
const messages = [{ role: "user", content: "Name three rivers of Europe." }];
const output = await chat(messages, {
  max_new_tokens: 100,
  streamer: new TextStreamer(chat.tokenizer, { skip_prompt: true, skip_special_tokens: true }),
  signal: stop.signal,
});
console.log(output[0]!.generated_text.at(-1));
await chat.dispose();
