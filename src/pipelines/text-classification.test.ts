import { resolve } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { AutoTokenizer } from "../api/tokenizers.ts";
import { callable } from "../callable.ts";
import type { PreTrainedTokenizer } from "../processing/tokenizer.ts";
import { Tensor } from "../tensor.ts";
import type { LabelConfig } from "./labels.ts";
import { TextClassificationPipeline } from "./text-classification.ts";

const TOKENIZER = resolve(import.meta.dirname, "../../test/fixtures/tokenizer");
const LABELS = { 0: "bad", 1: "plain", 2: "good" };
/** Logits of every row, and what softmax makes of them. */
const LOGITS = [1, -1, 3];
const SOFTMAX = [0.11731, 0.015876, 0.866814];

describe("text-classification", () => {
  let tokenizer: PreTrainedTokenizer;
  let seen: number[][] = [];
  beforeAll(async () => {
    tokenizer = await AutoTokenizer.from_pretrained(TOKENIZER);
  });

  function make(config: LabelConfig, logits: readonly number[] = LOGITS): TextClassificationPipeline {
    const model = callable({
      config,
      dispose: async () => {},
      async _call({ input_ids }: { input_ids: Tensor }): Promise<{ logits: Tensor }> {
        seen = (input_ids.tolist() as bigint[][]).map((row) => row.map(Number));
        const batch = input_ids.dims[0]!;
        const rows = Array.from({ length: batch }, () => logits).flat();
        return { logits: new Tensor("float32", rows, [batch, logits.length]) };
      },
    });
    return new TextClassificationPipeline({ task: "text-classification", model, tokenizer });
  }

  const scored = (label: string, score: number): object => ({ label, score: expect.closeTo(score, 5) });

  it("gives the best label, a list of labels, or all", async () => {
    const pipe = make({ id2label: LABELS, num_labels: 3 });
    expect(await pipe("a")).toEqual([scored("good", SOFTMAX[2]!)]);
    expect(await pipe(["a", "bc"])).toEqual([scored("good", SOFTMAX[2]!), scored("good", SOFTMAX[2]!)]);
    const two = [scored("good", SOFTMAX[2]!), scored("bad", SOFTMAX[0]!)];
    expect(await pipe("a", { top_k: 2 })).toEqual(two);
    expect(await pipe(["a", "b"], { top_k: 2 })).toEqual([two, two]);
    for (const top_k of [null, 0, 7]) expect(await pipe("a", { top_k })).toHaveLength(3);
  });

  it.each([
    [{ id2label: LABELS }, LOGITS, SOFTMAX[2]!],
    [{ id2label: LABELS, problem_type: "regression" }, LOGITS, 3],
    [{ id2label: LABELS, problem_type: "multi_label_classification" }, LOGITS, 0.952574],
    [{ id2label: { 0: "good" }, num_labels: 1 }, [2], 0.880797],
    [{ id2label: { 0: "good" }, num_labels: 1, problem_type: "regression" }, [2], 2],
  ])("makes scores as the model was trained (%#)", async (config, logits, score) => {
    expect(await make(config, logits)("a")).toEqual([scored("good", score)]);
  });

  it("makes scores as it is told, and names labels without names", async () => {
    const pipe = make({ num_labels: 3 });
    expect(await pipe("a", { function_to_apply: "none" })).toEqual([scored("LABEL_2", 3)]);
    expect(await pipe("a", { function_to_apply: "sigmoid" })).toEqual([scored("LABEL_2", 0.952574)]);
    await expect(pipe("a", { function_to_apply: "tanh" as never })).rejects.toThrow(/softmax, sigmoid, none/);
    await expect(pipe("a", { top_k: -1 })).rejects.toThrow(/top_k/);
    await expect(pipe("a", { topk: 1 } as object)).rejects.toThrow(/did you mean "top_k"/);
  });

  it("hands pairs to the tokenizer, padded on the right", async () => {
    await make({ id2label: LABELS })([{ text: "a", text_pair: "bc" }, { text: "a" }]);
    const pair = tokenizer.encode("a", { text_pair: "bc" });
    const one = tokenizer.encode("a");
    const padding = new Array<number>(pair.length - one.length).fill(tokenizer.pad_token_id!);
    expect(seen).toEqual([pair, [...one, ...padding]]);
    await expect(make({})({ text: 3 } as never)).rejects.toThrow(/expected texts/);
    await expect(make({})({ text: "a", text_piar: "b" } as never)).rejects.toThrow(/text_pair/);
  });
});
