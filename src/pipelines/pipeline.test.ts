import { join, resolve } from "node:path";
import { describe, expect, it } from "vitest";
import { temporaryFolder } from "../../test/checkpoints/files.ts";
import { TINY_MODEL, writeSentenceFolder } from "../../test/support/sentence-folder.ts";
import { SentenceTransformer } from "../api/sentence-transformer.ts";
import { AutoTokenizer } from "../api/tokenizers.ts";
import { callable } from "../callable.ts";
import { InputError } from "../errors.ts";
import { Tensor } from "../tensor.ts";
import { FeatureExtractionPipeline } from "./feature-extraction.ts";
import { type PipelineOptions, type PipelineTask, pipeline } from "./pipeline.ts";

const folder = temporaryFolder();
const GREEDY = { do_sample: false, max_new_tokens: 3 };

describe("pipeline", () => {
  it("takes task, model and options one by one or in one object", async () => {
    const one = await pipeline("text-generation", TINY_MODEL, { dtype: "fp32" });
    const other = await pipeline({
      task: "text-generation",
      model: TINY_MODEL,
      torch_dtype: "torch.float32",
      device: -1,
    });
    expect(await other("Hello", GREEDY)).toEqual(await one("Hello", GREEDY));
    expect([one.task, one.tokenizer.padding_side]).toEqual(["text-generation", "left"]);
    await one.dispose();
    await other.dispose();
  });

  it("runs with device 0 whether there is an accelerator or not", async () => {
    for (const device of [0, "0"] as const) {
      const pipe = await pipeline("text-generation", TINY_MODEL, { device });
      expect(await pipe("Hello", GREEDY)).toHaveLength(1);
      await pipe.dispose();
    }
    await expect(pipeline("text-generation", TINY_MODEL, { device: 3 })).rejects.toThrow(/first accelerator/);
  });

  it("reports progress", async () => {
    const seen = new Set<string>();
    const pipe = await pipeline("feature-extraction", TINY_MODEL, {
      progress_callback: ({ status }) => seen.add(status),
    });
    expect(seen).toContain("ready");
    await pipe.dispose();
  });

  it.each([
    ["text-generaton", /did you mean "text-generation"\? Tasks are .*token-classification/],
    ["constructor", /unknown task/],
    [undefined, /unknown task/],
  ])("refuses the task %s", async (task, message) => {
    const call = pipeline(task as PipelineTask, TINY_MODEL);
    await expect(call).rejects.toThrow(message);
    await expect(call).rejects.toBeInstanceOf(InputError);
  });

  it("refuses unknown options, and tasks without a model", async () => {
    await expect(pipeline("text-generation", TINY_MODEL, { dtyp: "q8" } as PipelineOptions)).rejects.toThrow(
      /did you mean "dtype"/,
    );
    await expect(pipeline("feature-extraction")).rejects.toThrow(/name a model/);
  });
});

describe("sentence-similarity", () => {
  it("scores sentences by the model's own steps and measure", async () => {
    const path = writeSentenceFolder(join(folder, "sentences"), {
      hidden_size: 20,
      settings: { prompts: { STS: "same? " }, similarity_fn_name: "dot" },
    });
    const pipe = await pipeline("sentence-similarity", path);
    const model = await SentenceTransformer.from_pretrained(path);
    const sentences = ["Hello there", "What is the capital of France?"];
    const of = async (options: object): Promise<number[]> => {
      const source = await model.encode("Hello world", options);
      const scores = model.similarity(source, await model.encode(sentences, options));
      return Array.from(scores.data as Float32Array, (score) => expect.closeTo(score, 5) as number);
    };
    expect(await pipe({ source_sentence: "Hello world", sentences })).toEqual(await of({}));
    const options = { prompt_name: "STS" };
    expect(await pipe("Hello world", sentences, options)).toEqual(await of(options));
    expect(await pipe("Hello world", [])).toEqual([]);
    await expect(pipe("Hello world" as never)).rejects.toThrow(/source_sentence/);
    await pipe.dispose();
    await model.dispose();
  });
});

describe("feature-extraction", () => {
  it("gives a vector a token, or pools and packs them", async () => {
    const pipe = await pipeline("feature-extraction", resolve(TINY_MODEL));
    const text = "Hello world";
    const states = await pipe(text);
    expect(states.dims).toEqual([1, pipe.tokenizer.encode(text).length, 20]);
    const rows = states.tolist()[0] as number[][];
    const mean = rows[0]!.map((_, i) => rows.reduce((sum, row) => sum + row[i]! / rows.length, 0));
    const near = (tensor: Tensor, expected: readonly number[]): void =>
      expect(Array.from(tensor.data as Float32Array)).toEqual(expected.map((x) => expect.closeTo(x, 5)));
    near(await pipe(text, { pooling: "mean" }), mean);
    near(await pipe(text, { pooling: "cls" }), rows[0]!);
    near(await pipe([text, "x"], { pooling: "eos" }).then((both) => both.at(0)!), rows.at(-1)!);
    const norm = Math.hypot(...mean);
    near(
      await pipe(text, { pooling: "mean", normalize: true }),
      mean.map((x) => x / norm),
    );
    await expect(pipe(text, { quantize: true, pooling: "mean" })).rejects.toThrow(/multiple of 8/);
    await expect(pipe(text, { pooling: "avg" as "mean" })).rejects.toThrow(/none, mean, cls/);
    await pipe.dispose();
  });

  it("packs signs into bytes as Transformers.js does", async () => {
    const values = [1, -1, 0, 2, 3, -4, 5, -6, -1, -1, -1, -1, -1, -1, -1, 1];
    const model = callable({
      dispose: async () => {},
      _call: async ({ input_ids }: { input_ids: Tensor }): Promise<{ last_hidden_state: Tensor }> => {
        const length = input_ids.dims[1]!;
        const rows = Array.from({ length }, () => values).flat();
        return { last_hidden_state: new Tensor("float32", rows, [1, length, values.length]) };
      },
    });
    const tokenizer = await AutoTokenizer.from_pretrained(TINY_MODEL);
    const pipe = new FeatureExtractionPipeline({ task: "feature-extraction", model, tokenizer });
    const packed = await pipe("a", { pooling: "cls", quantize: true, precision: "ubinary" });
    expect([packed.type, packed.tolist()]).toEqual(["uint8", [[0b10011010, 1]]]);
    const shifted = await pipe("a", { pooling: "cls", quantize: true });
    expect([shifted.type, shifted.tolist()]).toEqual(["int8", [[0b10011010 - 128, -127]]]);
  });
});
