import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { temporaryFolder } from "../../test/checkpoints/files.ts";
import { denseWeights, TINY_MODEL, writeSentenceFolder } from "../../test/support/sentence-folder.ts";
import { Tensor } from "../tensor.ts";
import { type EncodeOptions, SentenceTransformer } from "./sentence-transformer.ts";

const folder = temporaryFolder();
const HIDDEN = 20;
const TEXTS = [
  "Hello world",
  "What is the capital of France?",
  "a",
  "The quick brown fox jumps over the dog.",
];
const SETTINGS = {
  prompts: { query: "query: ", document: "text: ", STS: "same? ", none: null },
  default_prompt_name: null,
  similarity_fn_name: "cosine",
};

function write(name: string, options: Partial<Parameters<typeof writeSentenceFolder>[1]> = {}): string {
  return writeSentenceFolder(join(folder, name), { hidden_size: HIDDEN, settings: SETTINGS, ...options });
}

function numbers(tensor: Tensor): number[] {
  return Array.from(tensor.data as Float32Array);
}

function expectNear(got: Tensor, expected: readonly number[]): void {
  expect(numbers(got)).toEqual(expected.map((value) => expect.closeTo(value, 4)));
}

/** Vectors of one text's tokens, straight from the model. */
async function states(model: SentenceTransformer, text: string): Promise<number[][]> {
  const { input_ids, attention_mask } = model.tokenizer([text]);
  const { last_hidden_state } = await model.model({ input_ids, attention_mask, use_cache: false });
  return last_hidden_state.tolist()[0] as number[][];
}

function mean(rows: readonly (readonly number[])[]): number[] {
  return rows[0]!.map((_, i) => rows.reduce((sum, row) => sum + row[i]!, 0) / rows.length);
}

describe("SentenceTransformer", () => {
  let model: SentenceTransformer;
  beforeAll(async () => {
    model = await SentenceTransformer.from_pretrained(write("whole"));
  });
  afterAll(() => model.dispose());

  it("pools, projects with bias and activation, and normalises", async () => {
    const { weight, bias } = denseWeights(HIDDEN);
    const pooled = mean(await states(model, TEXTS[0]!));
    const projected = Array.from(bias, (value, row) =>
      Math.tanh(pooled.reduce((sum, x, i) => sum + x * weight[row * HIDDEN + i]!, value)),
    );
    const norm = Math.hypot(...projected);
    expectNear(
      await model.encode(TEXTS[0]!),
      projected.map((value) => value / norm),
    );
  });

  it("gives the same vectors whatever the batches, in the order of the texts", async () => {
    const together = await model.encode(TEXTS);
    expect(together.dims).toEqual([4, 3]);
    for (const [i, text] of TEXTS.entries()) {
      const alone = await model.encode(text);
      expect(alone.dims).toEqual([3]);
      expectNear(together.at(i)!, numbers(alone));
    }
    expectNear(await model.encode(TEXTS, { batch_size: 1 }), numbers(together));
    expect((await model.encode([])).dims[0]).toBe(0);
  });

  it("puts the right prompt before a text", async () => {
    const of = async (text: string): Promise<number[]> => numbers(await model.encode(text));
    expectNear(await model.encode_query("a"), await of("query: a"));
    expectNear(await model.encode_document("a"), await of("text: a"));
    expectNear(await model.encode_query("a", { prompt_name: "STS" }), await of("same? a"));
    expectNear(await model.encode("a", { prompt_name: "STS", prompt: "x " }), await of("x a"));
    expectNear(await model.encode("a", { prompt_name: "none" }), await of("a"));
    await expect(model.encode("a", { prompt_name: "querry" })).rejects.toThrow(/did you mean "query"/);
  });

  it("cuts vectors short, and normalises them again only when asked", async () => {
    const [x, y] = numbers(await model.encode("a")) as [number, number];
    expectNear(await model.encode("a", { truncate_dim: 2 }), [x, y]);
    const norm = Math.hypot(x, y);
    expectNear(await model.encode("a", { truncate_dim: 2, normalize_embeddings: true }), [
      x / norm,
      y / norm,
    ]);
    const short = await SentenceTransformer.from_pretrained(join(folder, "whole"), { truncate_dim: 1 });
    expectNear(await short.encode("a"), [x]);
    await short.dispose();
  });

  it("reports progress and stops when told", async () => {
    const seen: unknown[] = [];
    await model.encode(TEXTS, {
      batch_size: 2,
      progress_callback: ({ loaded, total }) => seen.push([loaded, total]),
    });
    expect(seen.at(-1)).toEqual([4, 4]);
    const signal = AbortSignal.abort(new Error("enough"));
    await expect(model.encode(TEXTS, { signal })).rejects.toThrow("enough");
  });

  it("refuses what it can't take", async () => {
    await expect(model.encode("a", { promptname: "query" } as EncodeOptions)).rejects.toThrow(/prompt_name/);
    await expect(model.encode("a", { batch_size: 0 })).rejects.toThrow(/batch_size/);
    await expect(model.encode([3] as never)).rejects.toThrow(/list of texts/);
  });

  it("measures likeness by cosine, dot product and distances", async () => {
    const a = new Tensor("float32", [1, 2, 0, -1], [2, 2]);
    const b = new Tensor("float32", [3, 4], [2]);
    const scores = async (similarity_fn_name: "cosine"): Promise<Tensor> => {
      const one = new SentenceTransformer({ ...model, similarity_fn_name, do_lower_case: false });
      return one.similarity(a, b);
    };
    expect((await scores("cosine")).dims).toEqual([2, 1]);
    expectNear(await scores("cosine"), [11 / (5 * Math.sqrt(5)), -0.8]);
    expectNear(await scores("dot" as "cosine"), [11, -4]);
    expectNear(await scores("euclidean" as "cosine"), [-Math.sqrt(8), -Math.sqrt(34)]);
    expectNear(await scores("manhattan" as "cosine"), [-4, -8]);
    expect(() => model.similarity(a, new Tensor("float32", [1], [1]))).toThrow(/truncate_dim/);
  });
});

describe("a sentence-transformers folder", () => {
  async function encodeWith(
    name: string,
    options: Partial<Parameters<typeof writeSentenceFolder>[1]>,
    texts: readonly string[] = ["Hello world"],
    encode: EncodeOptions = {},
  ): Promise<{ got: Tensor; rows: number[][]; model: SentenceTransformer }> {
    const model = await SentenceTransformer.from_pretrained(write(name, { modules: [], ...options }));
    const got = await model.encode(texts, encode);
    const rows = await states(model, `${encode.prompt ?? ""}${texts[0]}`);
    return { got: got.at(0)!, rows, model };
  }

  const MODES: [object, (rows: number[][]) => number[]][] = [
    [{ pooling_mode: "cls" }, (rows) => rows[0]!],
    [{ pooling_mode_lasttoken: true }, (rows) => rows.at(-1)!],
    [
      { pooling_mode_max_tokens: true },
      (rows) => rows[0]!.map((_, i) => Math.max(...rows.map((row) => row[i]!))),
    ],
    [
      { pooling_mode: "mean_sqrt_len_tokens" },
      (rows) => mean(rows).map((value) => value * Math.sqrt(rows.length)),
    ],
    [
      { pooling_mode: "weightedmean" },
      (rows) => {
        const total = (rows.length * (rows.length + 1)) / 2;
        return mean(rows.map((row, p) => row.map((value) => (value * (p + 1) * rows.length) / total)));
      },
    ],
    [
      { pooling_mode_cls_token: true, pooling_mode_mean_tokens: true },
      (rows) => [...rows[0]!, ...mean(rows)],
    ],
  ];
  it.each(MODES)("pools by %j, past the padding of a batch", async (pooling, expected) => {
    const name = Object.keys(pooling).join("-") + String(Object.values(pooling)[0]);
    const texts = ["Hello world", "What is the capital?"];
    const { got, rows, model } = await encodeWith(name, { pooling }, texts);
    expectNear(got, expected(rows));
    await model.dispose();
  });

  it("leaves the prompt out of the pooling where it says so", async () => {
    const pooling = { include_prompt: false };
    const { got, rows, model } = await encodeWith("prompt", { pooling }, ["abc"], { prompt: "abc " });
    const left = rows.slice(model.tokenizer.encode("abc ").length);
    expect([left.length > 0, left.length < rows.length]).toEqual([true, true]);
    expectNear(got, mean(left));
    await model.dispose();
  });

  it("cuts texts at max_seq_length and writes them small where it says so", async () => {
    const encoder = { max_seq_length: 4, do_lower_case: true };
    const model = await SentenceTransformer.from_pretrained(write("short", { modules: [], encoder }));
    expect(model.max_seq_length).toBe(4);
    expectNear(await model.encode("abcdefgh"), mean((await states(model, "abcdefgh")).slice(0, 4)));
    expectNear(await model.encode("ABC"), numbers(await model.encode("abc")));
    await model.dispose();
  });

  it("needs no modules.json: vectors are then means", async () => {
    const model = await SentenceTransformer.from_pretrained(TINY_MODEL);
    expectNear(await model.encode("Hello world"), mean(await states(model, "Hello world")));
    expect(Object.keys(model.prompts)).toEqual(["query", "document"]);
    await model.dispose();
  });

  it.each([
    ["[]", /list of modules/],
    ["{}", /list of modules/],
    ['[{"type": "x.Transformer", "path": "../elsewhere"}]', /path "..\/elsewhere"/],
    ['[{"type": "x.Transformer", "path": "/etc"}]', /path "\/etc"/],
    ['[{"type": "x.Pooling", "path": "1_Pooling"}]', /first module must be a Transformer/],
    [
      '[{"type": "x.Transformer", "path": ""}, {"type": "x.LSTM", "path": "1_LSTM"}]',
      /LSTM is not supported/,
    ],
    ['[{"type": "x.Transformer", "path": ""}, {"type": "x.Dense", "path": "9_Dense"}]', /no config\.json/],
  ])("is refused where modules.json is %s", async (modules, message) => {
    const path = write("broken");
    writeFileSync(join(path, "modules.json"), modules);
    await expect(SentenceTransformer.from_pretrained(path)).rejects.toThrow(message);
  });

  it.each([
    [
      "2_Dense/config.json",
      { in_features: 20, out_features: 3, activation_function: "my.Own" },
      /unknown activation/,
    ],
    ["2_Dense/config.json", { in_features: 21, out_features: 3 }, /shape/],
    ["1_Pooling/config.json", { pooling_mode: "median" }, /pooling_mode/],
    ["config_sentence_transformers.json", { similarity_fn_name: "angle" }, /cosine, dot/],
    ["config_sentence_transformers.json", { default_prompt_name: "missing" }, /no prompt "missing"/],
  ])("is refused where %s is %j", async (file, content, message) => {
    const path = write("wrong");
    writeFileSync(join(path, file), JSON.stringify(content));
    await expect(SentenceTransformer.from_pretrained(path)).rejects.toThrow(message);
  });
});
