/** lapidary through its public API. With LAPIDARY_ENGINE=node the same graphs run through onnxruntime-node's API. */
import { type Answer, type Command, type Engine, secondsSince, serve, type WorkerSetup } from "./protocol.ts";

interface Tensor {
  readonly data: ArrayLike<number | bigint>;
  readonly dims: readonly number[];
}

interface Model {
  (inputs: object): Promise<{ logits: Tensor; past_key_values: unknown }>;
  generate(options: object): Promise<unknown>;
  dispose(): Promise<void>;
}

type Tokenizer = (text: string) => { input_ids: Tensor };

interface Package {
  readonly AutoModelForCausalLM: {
    from_pretrained(model: string, options: object): Promise<Model>;
  };
  readonly AutoTokenizer: { from_pretrained(model: string): Promise<Tokenizer> };
  readonly Tensor: new (type: string, data: BigInt64Array, dims: readonly number[]) => Tensor;
  readonly TextStreamer: new (tokenizer: Tokenizer, options: object) => object;
}

/** Positions whose logits are held at a time while measuring perplexity: 262,144 float32 each. */
const PERPLEXITY_CHUNK = 128;

await serve(async (setup: WorkerSetup): Promise<Engine> => {
  const lapidary = (await import(setup.module)) as Package;
  const model = await lapidary.AutoModelForCausalLM.from_pretrained(setup.model, {
    dtype: setup.dtype,
    threads: setup.threads,
  });

  const ids = (rows: readonly (readonly number[])[]): Tensor =>
    new lapidary.Tensor("int64", BigInt64Array.from(rows.flat(), BigInt), [rows.length, rows[0]!.length]);

  /** Generates `count` tokens and returns the time of each, by a streamer's callbacks. */
  async function times(prompts: Command["prompts"], count: number): Promise<number[]> {
    const seen: number[] = [];
    let calls = 0;
    const streamer = {
      // The first call hands over the prompt.
      put: () => {
        if (calls++ > 0) seen.push(performance.now());
      },
      end: () => undefined,
    };
    await model.generate({
      input_ids: ids(prompts),
      max_new_tokens: count,
      do_sample: false,
      eos_token_id: [],
      // Streamers take one row; a batch is timed as a whole.
      ...(prompts.length === 1 ? { streamer } : {}),
    });
    return seen;
  }

  async function run({ kind, prompts, steps, text }: Command): Promise<Answer> {
    if (kind === "perplexity") return perplexity(text ?? "");
    const start = performance.now();
    if (kind === "prefill") {
      await times(prompts, 1);
      return { seconds: secondsSince(start) };
    }
    const seen = await times(prompts, steps + 1);
    if (prompts.length === 1) {
      if (seen.length !== steps + 1) throw new Error(`${seen.length} tokens instead of ${steps + 1}`);
      return { seconds: (seen[steps]! - seen[0]!) / 1000 };
    }
    const total = secondsSince(start);
    const again = performance.now();
    await times(prompts, 1);
    return { seconds: total - secondsSince(again) };
  }

  async function perplexity(text: string): Promise<Answer> {
    const start = performance.now();
    const tokenizer = await lapidary.AutoTokenizer.from_pretrained(setup.model);
    const row = Array.from(tokenizer(text).input_ids.data, Number);
    let past: unknown;
    let sum = 0;
    for (let from = 0; from + 1 < row.length; from += PERPLEXITY_CHUNK) {
      const chunk = row.slice(from, Math.min(from + PERPLEXITY_CHUNK, row.length - 1));
      const out = await model({
        input_ids: ids([chunk]),
        use_cache: true,
        ...(past === undefined ? {} : { past_key_values: past }),
      });
      past = out.past_key_values;
      for (let i = 0; i < chunk.length; i++) sum += surprise(out.logits, i, row[from + i + 1]!);
    }
    return { seconds: secondsSince(start), value: Math.exp(sum / (row.length - 1)) };
  }

  return {
    run,
    async firstToken(text, onToken) {
      const tokenizer = await lapidary.AutoTokenizer.from_pretrained(setup.model);
      const options = {
        skip_prompt: true,
        // By token, not by text: a streamer holds text back until a word is complete.
        token_callback_function: (tokens: readonly unknown[]) => onToken(String(tokens[0])),
        callback_function: () => undefined,
      };
      const streamer = new lapidary.TextStreamer(tokenizer, options);
      const { input_ids } = tokenizer(text);
      await model.generate({ input_ids, max_new_tokens: 1, do_sample: false, streamer });
    },
    dispose: () => model.dispose(),
  };
});

/** -log p of `id` by the logits of one position. */
function surprise(logits: Tensor, position: number, id: number): number {
  const vocab = logits.dims.at(-1)!;
  const row = (logits.data as Float32Array).subarray(position * vocab, (position + 1) * vocab);
  let largest = Number.NEGATIVE_INFINITY;
  for (const value of row) if (value > largest) largest = value;
  let sum = 0;
  for (const value of row) sum += Math.exp(value - largest);
  return largest + Math.log(sum) - row[id]!;
}
