import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  AutoModelForCausalLM,
  AutoTokenizer,
  type CausalLM,
  type PreTrainedTokenizer,
  type Tensor,
} from "../../src/index.ts";
import { readReference, realModel } from "./weights.ts";

const file = await realModel();
const reference = readReference();
const missing = file === undefined || reference === undefined;

const NEW_TOKENS = 96;
const GREEDY = { max_new_tokens: NEW_TOKENS, do_sample: false, eos_token_id: [] as number[] };

/** What is written once, to be written again. */
const TEXT =
  "Dear Anna, the parcel with the three blue cups and the two white plates left Lisbon on 14 March and should reach " +
  "you by Friday. Please check that nothing is broken, and write to me at once if the box was opened.";

const PROMPTS = [
  `Original: ${TEXT}\nCopy: ${TEXT.slice(0, 40)}`,
  `${TEXT}\n\n${TEXT}\n\n`,
  "1, 2, 3, 4, 5, 6, 7, 8,",
  "function add(a, b) {\n  return a + b;\n}\n\nfunction subtract(a, b) {\n",
  "The history of the lighthouse began when",
  "Ingredients: flour, sugar, butter, eggs. Method:",
  "Once upon a time",
  "Q: What is the boiling point of water?\nA:",
];

for (const dtype of ["auto", "fp32"] as const) {
  describe.skipIf(missing)(
    `the real Gemma 3 270M (${dtype}) gives the tokens of plain greedy decoding`,
    () => {
      let model: CausalLM;
      let tokenizer: PreTrainedTokenizer;
      const plain: number[][] = [];
      beforeAll(async () => {
        model = await AutoModelForCausalLM.from_pretrained(file!, { dtype });
        tokenizer = await AutoTokenizer.from_pretrained(file!);
        for (const prompt of PROMPTS) plain.push(await answer(prompt, {}));
      }, 600_000);
      afterAll(() => model?.dispose());

      async function answer(prompt: string, options: object): Promise<number[]> {
        const inputs = tokenizer(prompt);
        const output = await model.generate({ ...inputs, ...GREEDY, ...options });
        return (output.tolist()[0] as bigint[]).slice(inputs.input_ids.dims[1]).map(Number);
      }

      it.each([3, 10])(
        "with %i guesses from the prompt",
        async (prompt_lookup_num_tokens) => {
          for (const [i, prompt] of PROMPTS.entries())
            expect(await answer(prompt, { prompt_lookup_num_tokens }), prompt).toEqual(plain[i]);
        },
        600_000,
      );

      it("with an assistant in 4 bits", async () => {
        const assistant_model = await AutoModelForCausalLM.from_pretrained(file!, { dtype: "q4" });
        for (const [i, prompt] of PROMPTS.entries())
          expect(await answer(prompt, { assistant_model }), prompt).toEqual(plain[i]);
        await assistant_model.dispose();
      }, 600_000);

      it("with all logits of every token", async () => {
        const whole = { logits_processor: [(_: unknown, logits: Tensor) => logits] };
        for (const [i, prompt] of PROMPTS.entries())
          expect(await answer(prompt, whole), prompt).toEqual(plain[i]);
        const sampled = { do_sample: true, top_k: 64, top_p: 0.95, seed: 5 };
        for (const prompt of PROMPTS.slice(0, 3))
          expect(await answer(prompt, sampled)).toEqual(await answer(prompt, { ...sampled, ...whole }));
      }, 600_000);

      it("in a batch of 8 prompts of different lengths", async () => {
        const inputs = tokenizer(PROMPTS, { padding: true });
        const output = await model.generate({ ...inputs, ...GREEDY });
        const rows = (output.tolist() as bigint[][]).map((row) =>
          row.slice(inputs.input_ids.dims[1]).map(Number),
        );
        expect(rows).toEqual(plain);
      }, 600_000);
    },
  );
}
