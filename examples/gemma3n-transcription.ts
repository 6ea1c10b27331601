/** Writes down what is said, long recordings in pieces of 30 s. `npx tsx examples/gemma3n-transcription.ts [MODEL [SOUND]]` */
import { pipeline } from "lapidary";

const [, , model = "google/gemma-3n-E2B-it", sound = "talk.flac"] = process.argv;
const pipe = await pipeline("automatic-speech-recognition", model);
const { text } = await pipe(sound, { prompt: "Transcribe.", chunk_length_s: 30, max_new_tokens: 200 });
console.log({ text });
await pipe.dispose();
