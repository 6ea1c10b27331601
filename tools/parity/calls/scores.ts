import { construct, exported, method, NotYet, toNumbers } from "../api.ts";
import { storedTensor } from "../test-set.ts";
import type { Call, CallContext } from "./call.ts";

/**
 * Positional arguments of the processors' constructors, in HF's and Transformers.js' order. Anything else that a test
 * gives goes into an options object behind them.
 */
const POSITIONAL: Readonly<Record<string, readonly string[]>> = {
  TemperatureLogitsWarper: ["temperature"],
  TopKLogitsWarper: ["top_k"],
  TopPLogitsWarper: ["top_p"],
  MinPLogitsWarper: ["min_p"],
  TopHLogitsWarper: ["top_h"],
  TypicalLogitsWarper: ["mass"],
  EpsilonLogitsWarper: ["epsilon"],
  EtaLogitsWarper: ["epsilon"],
  RepetitionPenaltyLogitsProcessor: ["penalty"],
  NoRepeatNGramLogitsProcessor: ["ngram_size"],
  NoBadWordsLogitsProcessor: ["bad_words_ids", "eos_token_id"],
  SequenceBiasLogitsProcessor: ["sequence_bias"],
  SuppressTokensLogitsProcessor: ["suppress_tokens"],
  SuppressTokensAtBeginLogitsProcessor: ["begin_suppress_tokens", "begin_index"],
  MinLengthLogitsProcessor: ["min_length", "eos_token_id"],
  MinNewTokensLengthLogitsProcessor: ["prompt_length_to_skip", "min_new_tokens", "eos_token_id"],
  ForcedEOSTokenLogitsProcessor: ["max_length", "eos_token_id"],
  ExponentialDecayLengthPenalty: ["exponential_decay_length_penalty", "eos_token_id", "input_ids_seq_length"],
  LogitNormalization: [],
};

/** The classes that make up a LogitsProcessorList test, by the option that asks for each. */
const BY_OPTION: Readonly<Record<string, string>> = {
  repetition_penalty: "RepetitionPenaltyLogitsProcessor",
  no_repeat_ngram_size: "NoRepeatNGramLogitsProcessor",
  temperature: "TemperatureLogitsWarper",
  top_k: "TopKLogitsWarper",
  top_p: "TopPLogitsWarper",
  min_p: "MinPLogitsWarper",
};

/** Scores before and after a processor, called as Transformers.js does: ids as rows of bigints, scores as a Tensor. */
export const logitsProcessor: Call = async (context) => {
  const { source, test } = context;
  const processor = build(context);
  const ids = storedTensor(source, test.inputs.input_ids!);
  const [rows, length] = ids.shape as readonly [number, number];
  const idRows = Array.from({ length: rows }, (_, row) =>
    Array.from(ids.data.subarray(row * length, (row + 1) * length), BigInt),
  );
  const scores = context.inputs(["scores"]).scores;
  const call =
    typeof processor === "function"
      ? (processor as (...args: unknown[]) => unknown)
      : method(processor, "_call", test.class);
  const result = await call(idRows, scores);
  return { tensors: { scores: toNumbers(result ?? scores, "scores") } };
};

/** Probabilities of rows of scores. */
export const softmax: Call = async ({ api, source, test }) => {
  const apply = exported(api, "softmax");
  const scores = storedTensor(source, test.inputs.scores!);
  const columns = scores.shape.at(-1)!;
  const out = new Float64Array(scores.data.length);
  for (let start = 0; start < out.length; start += columns) {
    const row = Float32Array.from(scores.data.subarray(start, start + columns));
    out.set(Array.from((await apply(row)) as ArrayLike<number>, Number), start);
  }
  return { tensors: { probabilities: { shape: scores.shape, data: out } } };
};

function build({ api, test }: CallContext): unknown {
  if (test.class === "LogitsProcessorList") return buildList(api, test.arguments);
  if (test.class === "PrefixConstrainedLogitsProcessor") {
    const { allowed_by_batch_row, num_beams } = test.arguments;
    const table = allowed_by_batch_row as readonly (readonly number[])[];
    return construct(api, test.class, (batchRow: number) => table[batchRow], num_beams);
  }
  const names = POSITIONAL[test.class];
  if (names === undefined) throw new NotYet(`how to construct a ${test.class} is not known here`);
  const rest = Object.entries(test.arguments).filter(([name]) => !names.includes(name));
  const positional = names.map((name) => test.arguments[name]);
  return construct(api, test.class, ...positional, ...(rest.length > 0 ? [Object.fromEntries(rest)] : []));
}

/** Processors in the order of the test's arguments. */
function buildList(api: CallContext["api"], options: Readonly<Record<string, unknown>>): unknown {
  const list = construct(api, "LogitsProcessorList");
  for (const [option, value] of Object.entries(options)) {
    const className = BY_OPTION[option];
    if (className === undefined) throw new NotYet(`which processor ${option} stands for is not known here`);
    method(list, "push", "LogitsProcessorList")(construct(api, className, value));
  }
  return list;
}
