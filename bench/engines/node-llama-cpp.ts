/**
 * llama.cpp through node-llama-cpp, on the processor, with its defaults but for threads, context size and its
 * estimates of free memory, which are left out: they cost it half a second at the start.
 */
import { type Answer, type Command, type Engine, secondsSince, serve, type WorkerSetup } from "./protocol.ts";

interface Sequence {
  readonly tokenMeter: { readonly usedInputTokens: number; readonly usedOutputTokens: number };
  clearHistory(): Promise<void>;
  evaluate(
    tokens: readonly number[],
    options: { temperature: number; yieldEogToken: boolean },
  ): AsyncGenerator<number>;
}

interface Model {
  tokenize(text: string, specialTokens?: boolean): number[];
  detokenize(tokens: readonly number[]): string;
  readonly tokens: { readonly bos: number | null };
  createContext(options: object): Promise<{ getSequence(): Sequence }>;
}

interface Package {
  getLlama(options: object): Promise<{ loadModel(options: object): Promise<Model> }>;
}

/** Tokens that went through the model: the meter counts those with logits as output, others as input. */
function evaluatedTokens({ tokenMeter }: Sequence): number {
  return tokenMeter.usedInputTokens + tokenMeter.usedOutputTokens;
}

/** Greedy, and going on past a token that would end the text, so that every engine makes the same number. */
const GREEDY = { temperature: 0, yieldEogToken: true };

await serve(async (setup: WorkerSetup): Promise<Engine> => {
  const { getLlama } = (await import(setup.module)) as Package;
  const llama = await getLlama({
    gpu: false,
    build: "never",
    skipDownload: true,
    progressLogs: false,
    logLevel: "error",
    maxThreads: setup.threads,
  });
  const model = await llama.loadModel({
    modelPath: setup.model,
    gpuLayers: 0,
    ignoreMemorySafetyChecks: true,
  });
  const context = await model.createContext({
    contextSize: setup.positions,
    sequences: setup.batch,
    ignoreMemorySafetyChecks: true,
    threads: { ideal: setup.threads, min: setup.threads },
  });
  const sequences = Array.from({ length: setup.batch }, () => context.getSequence());

  async function run({ kind, prompts, steps }: Command): Promise<Answer> {
    if (kind === "perplexity") throw new Error("perplexity is not measured for this engine");
    const used = sequences.slice(0, prompts.length);
    // Without this the sequence would find a common prefix and skip it.
    for (const sequence of used) await sequence.clearHistory();
    const before = used.map(evaluatedTokens);
    let start = performance.now();
    const streams = used.map((sequence, row) => sequence.evaluate(prompts[row]!, GREEDY));
    await Promise.all(streams.map((stream) => stream.next()));
    for (const [row, sequence] of used.entries()) {
      const evaluated = evaluatedTokens(sequence) - before[row]!;
      if (evaluated !== prompts[row]!.length) {
        throw new Error(`evaluated ${evaluated} of ${prompts[row]!.length} prompt tokens`);
      }
    }
    if (kind === "decode") {
      start = performance.now();
      await Promise.all(
        streams.map(async (stream) => {
          for (let step = 0; step < steps; step++) {
            if ((await stream.next()).done === true) throw new Error(`the stream ended after ${step} tokens`);
          }
        }),
      );
    }
    const seconds = secondsSince(start);
    await Promise.all(streams.map((stream) => stream.return(undefined)));
    return { seconds };
  }

  return {
    run,
    async firstToken(text, onToken) {
      const ids = model.tokenize(text);
      const bos = model.tokens.bos;
      const stream = sequences[0]!.evaluate(bos === null ? ids : [bos, ...ids], GREEDY);
      const { value } = await stream.next();
      onToken(model.detokenize([value as number]));
      await stream.return(undefined);
    },
    dispose: () => Promise.resolve(),
  };
});
