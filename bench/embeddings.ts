/**
 * Texts a second of an embedding model against sentence-transformers (Python), which take turns on the same texts:
 * `npm run bench:embeddings -- --model FOLDER --python PYTHON`
 */
import { availableParallelism, cpus } from "node:os";
import { parseArgs } from "node:util";
import { SentenceTransformer } from "../src/index.ts";
import { startPython } from "./python-worker.ts";
import { cosine, median } from "./statistics.ts";

/** Kinds of texts, by the number of sentences in each. */
const KINDS: Readonly<Record<string, { sentences: number; texts: number }>> = {
  "queries of about 12 tokens": { sentences: 1, texts: 64 },
  "paragraphs of about 90 tokens": { sentences: 8, texts: 24 },
  "pages of about 440 tokens": { sentences: 40, texts: 6 },
};

const WORDS =
  "the river carries old stones past quiet towns while people trade stories about weather bread and distant mountains".split(
    " ",
  );

/** Texts that differ, always the same ones; lengths vary by a quarter around the mean. */
function makeTexts({ sentences, texts }: { sentences: number; texts: number }): string[] {
  return Array.from({ length: texts }, (_, t) =>
    Array.from({ length: Math.max(1, Math.round(sentences * (0.75 + (t % 5) / 8))) }, (_, s) =>
      Array.from({ length: 9 }, (_, w) => WORDS[(7 * t + 5 * s + 3 * w * (t + 1)) % WORDS.length]).join(" "),
    ).join(". "),
  );
}

/** Encodes texts: seconds, and the first vector. */
interface Engine {
  readonly name: string;
  encode(texts: readonly string[]): Promise<{ seconds: number; first: ArrayLike<number> }>;
  close(): Promise<void>;
}

async function lapidary(model: string, dtype: "fp32" | "q8", threads: number): Promise<Engine> {
  const encoder = await SentenceTransformer.from_pretrained(model, { dtype, threads });
  return {
    name: `lapidary ${dtype}`,
    async encode(texts) {
      const start = performance.now();
      const vectors = await encoder.encode(texts);
      return { seconds: (performance.now() - start) / 1000, first: vectors.at(0)!.data as Float32Array };
    },
    close: () => encoder.dispose(),
  };
}

async function sentenceTransformers(model: string, python: string, threads: number): Promise<Engine> {
  const script = "sentence_transformers_worker.py";
  const worker = await startPython(python, script, [model, String(threads)], "sentence-transformers");
  return {
    name: worker.name,
    encode: async (texts) => (await worker.ask({ texts })) as { seconds: number; first: number[] },
    close: async () => worker.close(),
  };
}

const { values } = parseArgs({
  options: {
    model: { type: "string" },
    python: { type: "string", default: "python3" },
    rounds: { type: "string", default: "3" },
    threads: { type: "string", default: String(availableParallelism()) },
  },
});
if (values.model === undefined)
  throw new Error("--model: the folder of a sentence-transformers model is needed");
const threads = Number(values.threads);
const engines = [
  await sentenceTransformers(values.model, values.python, threads),
  await lapidary(values.model, "fp32", threads),
  await lapidary(values.model, "q8", threads),
];
console.log(`${cpus()[0]?.model.trim()}, ${threads} threads, medians of ${values.rounds}\n`);
for (const [kind, plan] of Object.entries(KINDS)) {
  const texts = makeTexts(plan);
  const seconds = engines.map((): number[] => []);
  const firsts: ArrayLike<number>[] = [];
  // The first round is not counted.
  for (let round = 0; round <= Number(values.rounds); round++) {
    for (const [e, engine] of engines.entries()) {
      const result = await engine.encode(texts);
      if (round > 0) seconds[e]!.push(result.seconds);
      firsts[e] = result.first;
    }
  }
  console.log(kind);
  for (const [e, engine] of engines.entries()) {
    const rate = texts.length / median(seconds[e]!);
    const ratio = median(seconds[0]!) / median(seconds[e]!);
    console.log(
      `  ${engine.name.padEnd(48)}${rate.toFixed(1).padStart(8)} texts/s ${ratio.toFixed(2).padStart(6)}x   cosine ${cosine(firsts[0]!, firsts[e]!).toFixed(6)}`,
    );
  }
}
for (const engine of engines) await engine.close();
