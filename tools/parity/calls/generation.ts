import { field, idTensor, method, toNumbers } from "../api.ts";
import type { Numbers } from "../compare.ts";
import { storedTensor } from "../test-set.ts";
import type { Call } from "./call.ts";

/** generate() with the test's options; raw logits of the steps and beam scores where they are expected. */
export const generate: Call = async (context) => {
  const { test } = context;
  const model = await context.load(test.class);
  const wantsLogits = "step_logits" in test.expected;
  const result = await method(
    model,
    "generate",
    test.class,
  )({
    ...context.inputs(),
    ...test.arguments,
    return_dict_in_generate: true,
    ...(wantsLogits ? { output_logits: true } : {}),
    ...("sequences_scores" in test.expected ? { output_scores: true } : {}),
  });
  const tensors: Record<string, Numbers> = { sequences: toNumbers(field(result, "sequences"), "sequences") };
  if (wantsLogits) tensors.step_logits = stackSteps(field(result, "logits"));
  if ("sequences_scores" in test.expected) {
    tensors.sequences_scores = toNumbers(field(result, "sequences_scores"), "sequences_scores");
  }
  return { tensors };
};

/** A prefill call, then single-token calls with past_key_values; the greedy choice is made here. */
export const decodeWithCache: Call = async (context) => {
  const { api, source, test } = context;
  const model = await context.load(test.class);
  const prompt = storedTensor(source, test.inputs.input_ids!);
  const [batch, length] = prompt.shape as readonly [number, number];
  const sequences = rowsOf(prompt.data, batch, length);
  const masks = rowsOf(storedTensor(source, test.inputs.attention_mask!).data, batch, length);
  let positions = masks.map(positionsOf);
  let current = sequences.map((row) => [...row]);
  let cache: unknown;
  const steps: Numbers[] = [];
  for (let step = 0; step < Number(test.arguments.steps); step++) {
    const result = await model({
      input_ids: idTensor(api, current),
      attention_mask: idTensor(api, masks),
      position_ids: idTensor(api, positions),
      ...(cache === undefined ? {} : { past_key_values: cache }),
      use_cache: true,
    });
    cache = field(result, "past_key_values");
    if (cache === undefined) return { problem: `step ${step}: the call returned no past_key_values` };
    const logits = lastPosition(toNumbers(field(result, "logits"), "logits"));
    steps.push(logits);
    const next = argmaxRows(logits, test.arguments.allowed_ids_below as number | undefined);
    current = next.map((id) => [id]);
    for (let row = 0; row < batch; row++) {
      sequences[row]!.push(next[row]!);
      masks[row]!.push(1);
    }
    positions = positions.map((row) => [row.at(-1)! + 1]);
  }
  const ids = { shape: [batch, sequences[0]!.length], data: sequences.flat() };
  return { tensors: { sequences: ids, step_logits: stack(steps) } };
};

/** Steps come as an array of [batch, vocab], or already stacked to [batch, steps, vocab]. */
function stackSteps(value: unknown): Numbers {
  if (!Array.isArray(value)) return toNumbers(value, "logits");
  return stack(value.map((step, i) => toNumbers(step, `logits[${i}]`)));
}

/** [batch, vocab] a step to [batch, steps, vocab]. */
function stack(steps: readonly Numbers[]): Numbers {
  const [batch, vocab] = (steps[0]?.shape ?? [0, 0]) as readonly [number, number];
  const data = new Float64Array(batch * steps.length * vocab);
  for (const [s, step] of steps.entries()) {
    if (step.shape.join() !== [batch, vocab].join()) {
      throw new Error(
        `logits of step ${s} have shape [${step.shape.join(", ")}], of step 0 [${batch}, ${vocab}]`,
      );
    }
    for (let row = 0; row < batch; row++) {
      for (let i = 0; i < vocab; i++) {
        data[(row * steps.length + s) * vocab + i] = Number(step.data[row * vocab + i]);
      }
    }
  }
  return { shape: [batch, steps.length, vocab], data };
}

function lastPosition(logits: Numbers): Numbers {
  const [batch, time, vocab] = logits.shape as readonly [number, number, number];
  if (logits.shape.length !== 3) throw new Error(`logits have shape [${logits.shape.join(", ")}]`);
  const data = new Float64Array(batch * vocab);
  for (let row = 0; row < batch; row++) {
    for (let i = 0; i < vocab; i++) {
      data[row * vocab + i] = Number(logits.data[(row * time + time - 1) * vocab + i]);
    }
  }
  return { shape: [batch, vocab], data };
}

function argmaxRows(logits: Numbers, below: number | undefined): number[] {
  const [batch, vocab] = logits.shape as readonly [number, number];
  return Array.from({ length: batch }, (_, row) => {
    let best = 0;
    for (let i = 1; i < Math.min(vocab, below ?? vocab); i++) {
      if (Number(logits.data[row * vocab + i]) > Number(logits.data[row * vocab + best])) best = i;
    }
    return best;
  });
}

function rowsOf(data: ArrayLike<number>, rows: number, length: number): number[][] {
  return Array.from({ length: rows }, (_, row) =>
    Array.from({ length }, (_, column) => data[row * length + column]!),
  );
}

/** Positions count from the first valid token; padding on the left stays at 0. */
function positionsOf(mask: readonly number[]): number[] {
  let count = 0;
  return mask.map((value) => {
    count += value;
    return Math.max(count - 1, 0);
  });
}
