import type { PublicApi } from "../../tools/parity/api.ts";
import type { StoredTensor } from "../../tools/parity/safetensors.ts";
import type { ParityCase, ParityTest } from "../../tools/parity/test-set.ts";

/** Just enough of a package to see the runner's verdicts: a "model" whose logits follow a formula. */

export const VOCAB = 11;
const LAYERS = 2;

class FakeTensor {
  readonly type: string;
  readonly data: ArrayLike<number | bigint>;
  readonly dims: readonly number[];
  constructor(type: string, data: ArrayLike<number | bigint>, dims: readonly number[]) {
    this.type = type;
    this.data = data;
    this.dims = dims;
  }
}

/** Logits at position t of a row of ids, from all ids up to t (so that a cache matters). */
export function logit(ids: readonly number[], t: number, v: number): number {
  const sum = ids.slice(0, t + 1).reduce((total, id, i) => total + id * (i + 3), 0);
  return Math.sin(sum * 0.7 + v * 1.9) * 4;
}

/** What to spoil in the fake package. */
export interface Flaws {
  /** Added to one logit. */
  readonly offset?: number;
  /** Replaces one logit. */
  readonly value?: number;
  /** Ignores past_key_values. */
  readonly forgetful?: boolean;
  /** Returns one hidden state too many. */
  readonly extraState?: boolean;
  /** The call throws. */
  readonly throws?: boolean;
}

/** The fake package's exports. */
export function fakeApi(flaws: Flaws = {}): PublicApi {
  const loads: string[] = [];
  const model = (inputs: Record<string, FakeTensor>): Record<string, unknown> => {
    if (flaws.throws === true) throw new RangeError("the model is out of gems");
    const past = inputs.past_key_values as unknown as number[][] | undefined;
    const fresh = rows(inputs.input_ids!);
    const all = fresh.map((row, r) => [...(flaws.forgetful === true ? [] : (past?.[r] ?? [])), ...row]);
    const time = fresh[0]!.length;
    const data = all.flatMap((ids) =>
      Array.from({ length: time * VOCAB }, (_, i) =>
        logit(ids, ids.length - time + Math.floor(i / VOCAB), i % VOCAB),
      ),
    );
    const spoiled = data.length - 4;
    data[spoiled] = flaws.value ?? data[spoiled]! + (flaws.offset ?? 0);
    const dims = [all.length, time, VOCAB];
    const states = LAYERS + (flaws.extraState === true ? 1 : 0);
    return {
      logits: new FakeTensor("float32", Float32Array.from(data), dims),
      hidden_states: Array.from({ length: states }, () => new FakeTensor("float32", data, dims)),
      past_key_values: all,
    };
  };
  const loaded = Object.assign(model, {
    generate: (inputs: Record<string, unknown>) => greedy(model, inputs),
    dispose: () => loads.push("disposed"),
  });
  return {
    Tensor: FakeTensor,
    loads,
    Gemma3ForCausalLM: Object.assign(() => undefined, {
      from_pretrained: (folder: string) => {
        loads.push(folder);
        return loaded;
      },
    }),
  };
}

function greedy(
  model: (inputs: Record<string, FakeTensor>) => Record<string, unknown>,
  inputs: Record<string, unknown>,
): Record<string, unknown> {
  const sequences = rows(inputs.input_ids as FakeTensor);
  const logits: FakeTensor[] = [];
  for (let step = 0; step < Number(inputs.max_new_tokens); step++) {
    const ids = new FakeTensor("int64", sequences.flat(), [sequences.length, sequences[0]!.length]);
    const out = model({ input_ids: ids }).logits as FakeTensor;
    const time = out.dims[1]!;
    const last = sequences.map((_, r) =>
      Array.from({ length: VOCAB }, (_, v) => Number(out.data[(r * time + time - 1) * VOCAB + v])),
    );
    logits.push(new FakeTensor("float32", last.flat(), [sequences.length, VOCAB]));
    for (const [r, row] of sequences.entries()) row.push(last[r]!.indexOf(Math.max(...last[r]!)));
  }
  const dims = [sequences.length, sequences[0]!.length];
  return { sequences: new FakeTensor("int64", BigInt64Array.from(sequences.flat(), BigInt), dims), logits };
}

function rows(tensor: FakeTensor): number[][] {
  const [batch, time] = tensor.dims as readonly [number, number];
  return Array.from({ length: batch }, (_, r) =>
    Array.from({ length: time }, (_, t) => Number(tensor.data[r * time + t])),
  );
}

/** Floats as a set stores them. */
export function floats(data: readonly number[], shape: readonly number[]): StoredTensor {
  return { kind: "float", shape, data: Float32Array.from(data) };
}

/** Ids as a set stores them. */
export function integers(data: readonly number[], shape: readonly number[]): StoredTensor {
  return { kind: "integer", shape, data: Int32Array.from(data) };
}

const IDS = [
  [0, 0, 5, 3],
  [2, 7, 1, 4],
];

/** A case in memory for the fake model: forward, greedy and cached decoding of a left-padded batch. */
export function fakeCase(): ParityCase {
  const sequences = IDS.map((row) => [...row]);
  const steps: number[][][] = [[], []];
  for (let step = 0; step < 3; step++) {
    for (const [r, row] of sequences.entries()) {
      const scores = Array.from({ length: VOCAB }, (_, v) => logit(row, row.length - 1, v));
      steps[r]!.push(scores);
      row.push(scores.indexOf(Math.max(...scores)));
    }
  }
  const logits = IDS.flatMap((row) =>
    row.flatMap((_, t) => Array.from({ length: VOCAB }, (_, v) => logit(row, t, v))),
  );
  const logprobs = IDS.flatMap((row) =>
    row.slice(1).map((id, t) => {
      const scores = Array.from({ length: VOCAB }, (_, v) => logit(row, t, v));
      return scores[id]! - Math.log(scores.reduce((sum, score) => sum + Math.exp(score), 0));
    }),
  );
  const tensors = new Map<string, StoredTensor>([
    ["ids", integers(IDS.flat(), [2, 4])],
    ["mask", integers([0, 0, 1, 1, 1, 1, 1, 1], [2, 4])],
    ["logits", floats(logits, [2, 4, VOCAB])],
    ["logprobs", floats(logprobs, [2, 3])],
    ["sequences", integers(sequences.flat(), [2, 7])],
    ["steps", floats(steps.flat(2), [2, 3, VOCAB])],
  ]);
  const tests = [
    fakeTest("forward", "forward", { logits: "logits" }, { compare_where: "attention_mask" }),
    fakeTest("states", "forward", { "hidden_states.0": "logits", "hidden_states.1": "logits" }),
    fakeTest(
      "greedy",
      "generate",
      { sequences: "sequences", step_logits: "steps" },
      { arguments: { max_new_tokens: 3 } },
    ),
    fakeTest(
      "steps",
      "decode_with_cache",
      { sequences: "sequences", step_logits: "steps" },
      { arguments: { steps: 3 } },
    ),
    fakeTest("logprobs", "prompt_logprobs", { logprobs: "logprobs" }, { compare_where: "attention_mask" }),
  ];
  return { name: "fake", folder: "/nowhere", tests, tensors };
}

/** A test of the fake case. */
export function fakeTest(
  name: string,
  call: string,
  expected: Record<string, string>,
  more: Partial<ParityTest> = {},
): ParityTest {
  return {
    name,
    call,
    expected,
    checkpoint: "model",
    class: "Gemma3ForCausalLM",
    arguments: {},
    inputs: { input_ids: "ids", attention_mask: "mask" },
    tolerance: { atol: 1e-4, rtol: 1e-4 },
    ...more,
  };
}
