/**
 * Seconds that the encoders of images and sounds take, against transformers (Python, float32) on the same checkpoint and
 * input, in turn: `npm run bench:media -- --model FOLDER --python PYTHON`. A checkpoint of random weights will do:
 * tools/random-checkpoint.ts.
 */
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { availableParallelism, cpus, tmpdir } from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";
import {
  AutoConfig,
  AutoModelForImageTextToText,
  type Gemma3ForConditionalGeneration,
  type Gemma3nForConditionalGeneration,
  Tensor,
} from "../src/index.ts";
import { startPython } from "./python-worker.ts";
import { cosine, median } from "./statistics.ts";

type Part = "vision" | "audio";
type Encoded = { readonly seconds: number; readonly vectors: Float32Array };
type MediaModel = Gemma3ForConditionalGeneration | Gemma3nForConditionalGeneration;

interface Engine {
  readonly name: string;
  encode(part: Part, input: Tensor): Promise<Encoded>;
  close(): Promise<void>;
}

async function lapidary(folder: string, dtype: "fp32" | "q8", threads: number): Promise<Engine> {
  // The text model is in the way here: 4 bits keep it small.
  const parts = { decoder: "q4", vision_encoder: dtype, audio_encoder: dtype } as const;
  const options = { dtype: parts, threads };
  const model = (await AutoModelForImageTextToText.from_pretrained(folder, options)) as MediaModel;
  const encoders = {
    vision: (pixel_values: Tensor) => model.get_image_features({ pixel_values }),
    audio: (input_features: Tensor) =>
      (model as Gemma3nForConditionalGeneration).get_audio_features({ input_features }),
  };
  return {
    name: `lapidary ${dtype}`,
    async encode(part, input) {
      const start = performance.now();
      const { pooler_output } = await encoders[part](input);
      const seconds = (performance.now() - start) / 1000;
      return { seconds, vectors: pooler_output.data as Float32Array };
    },
    close: () => model.dispose(),
  };
}

async function transformers(folder: string, python: string, threads: number): Promise<Engine> {
  const args = [folder, String(threads)];
  const worker = await startPython(python, "media_worker.py", args, "transformers (for Gemma 3n also timm)");
  const scratch = await mkdtemp(path.join(tmpdir(), "lapidary-bench-"));
  return {
    name: worker.name,
    async encode(part, { data, dims }) {
      const file = path.join(scratch, part);
      const { buffer, byteOffset, byteLength } = data;
      await writeFile(file, new Uint8Array(buffer, byteOffset, byteLength));
      const { seconds, file: out } = (await worker.ask({ part, file, dims })) as {
        seconds: number;
        file: string;
      };
      return { seconds, vectors: new Float32Array(new Uint8Array(await readFile(out)).buffer) };
    },
    async close() {
      worker.close();
      await rm(scratch, { recursive: true, force: true });
    },
  };
}

/** What processors give for one image and one clip of 30 s, with numbers that look like none. */
async function inputsOf(folder: string): Promise<Map<Part, Tensor>> {
  const config = await AutoConfig.from_pretrained(folder);
  const { model_type } = config;
  if (model_type === "gemma3") {
    const { num_channels, image_size } = config.vision_config;
    return new Map([["vision", noise([1, num_channels, image_size, image_size])]]);
  }
  if (model_type !== "gemma3n") throw new Error(`${folder}: ${model_type} has no encoders`);
  return new Map([
    ["vision", noise([1, 3, 768, 768])],
    ["audio", noise([1, 2997, config.audio_config.input_feat_size])],
  ]);
}

function noise(dims: readonly number[]): Tensor {
  const size = dims.reduce((product, dim) => product * dim, 1);
  return new Tensor(
    "float32",
    Float32Array.from({ length: size }, (_, i) => Math.sin(i * i * 0.37)),
    [...dims],
  );
}

const { values } = parseArgs({
  options: {
    model: { type: "string" },
    python: { type: "string", default: "python3" },
    rounds: { type: "string", default: "3" },
    threads: { type: "string", default: String(availableParallelism()) },
  },
});
if (values.model === undefined) throw new Error("--model: the folder of a model with images is needed");
const { model, python } = values;
const threads = Number(values.threads);
const rounds = Number(values.rounds);
const engines = [
  await transformers(model, python, threads),
  await lapidary(model, "fp32", threads),
  await lapidary(model, "q8", threads),
];
console.log(`${cpus()[0]?.model.trim()}, ${threads} threads, medians of ${rounds}\n`);
for (const [part, input] of await inputsOf(model)) {
  const seconds = engines.map((): number[] => []);
  const vectors: Float32Array[] = [];
  // The first round loads the weights, and is not counted.
  for (let round = 0; round <= rounds; round++) {
    for (const [e, engine] of engines.entries()) {
      const result = await engine.encode(part, input);
      if (round > 0) seconds[e]!.push(result.seconds);
      vectors[e] = result.vectors;
    }
  }
  console.log(`${part}, [${input.dims.join(", ")}]`);
  for (const [e, engine] of engines.entries()) {
    const ratio = median(seconds[0]!) / median(seconds[e]!);
    const same = cosine(vectors[0]!, vectors[e]!).toFixed(6);
    console.log(
      `  ${engine.name.padEnd(48)}${median(seconds[e]!).toFixed(1).padStart(8)} s ${ratio.toFixed(2).padStart(6)}x   cosine ${same}`,
    );
  }
}
for (const engine of engines) await engine.close();
