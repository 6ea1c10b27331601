import { field, fromPretrained, method, NotYet, toNumbers } from "../api.ts";
import type { Numbers } from "../compare.ts";
import { storedTensor } from "../test-set.ts";
import type { Call, CallContext, CallOutputs } from "./call.ts";

/** Arguments of a forward test that go to the model; others say how its inputs were made. */
const FORWARD_FLAGS = ["output_hidden_states", "output_attentions", "logits_to_keep"];

/** Logits, hidden states, last hidden state or loss of one call without cache. */
export const forward: Call = async (context) => {
  const model = await context.load(context.test.class);
  return forwardOutputs(context, await model({ ...context.inputs(), ...flags(context), use_cache: false }));
};

/** The bare model under a head: its field `model` as in HF, or the checkpoint through AutoModel. */
export const forwardBaseModel: Call = async (context) => {
  const model = await context.load(context.test.class);
  const inner = field(model, "model");
  const base = typeof inner === "function" ? (inner as typeof model) : await context.load("AutoModel");
  return forwardOutputs(context, await base({ ...context.inputs(), ...flags(context), use_cache: false }));
};

/** Log-probability of each prompt token given the ones before it: [batch, time - 1]. */
export const promptLogprobs: Call = async (context) => {
  const model = await context.load(context.test.class);
  const logits = toNumbers(field(await model({ ...context.inputs(), use_cache: false }), "logits"), "logits");
  const ids = storedTensor(context.source, context.test.inputs.input_ids!);
  const [batch, time] = ids.shape as readonly [number, number];
  const vocab = logits.shape[2] ?? 0;
  if (logits.shape.join() !== [batch, time, vocab].join()) {
    return { problem: `logits have shape [${logits.shape.join(", ")}] for ids [${batch}, ${time}]` };
  }
  const out = new Float64Array(batch * (time - 1));
  for (let row = 0; row < batch; row++) {
    for (let t = 0; t + 1 < time; t++) {
      const start = (row * time + t) * vocab;
      out[row * (time - 1) + t] = logSoftmaxAt(logits.data, start, vocab, ids.data[row * time + t + 1]!);
    }
  }
  return { tensors: { logprobs: { shape: [batch, time - 1], data: out } } };
};

/** Gemma 3n's per-layer embeddings of the ids, and what the layers get of them. */
export const perLayerInputs: Call = async (context) => {
  const inner = field(await context.load(context.test.class), "model");
  const { input_ids } = context.inputs(["input_ids"]);
  const get = method(inner, "get_per_layer_inputs", "model");
  const project = method(inner, "project_per_layer_inputs", "model");
  const embed = method(inner, "get_input_embeddings", "model")() as (ids: unknown) => Promise<unknown>;
  const embedded = await get(input_ids);
  return {
    tensors: {
      per_layer_embeddings: toNumbers(embedded, "per_layer_embeddings"),
      projected_per_layer_inputs: toNumbers(
        await project(await embed(input_ids), embedded),
        "projected_per_layer_inputs",
      ),
    },
  };
};

/** Logits of a model quantised to NF4 on load. */
export const forwardNf4: Call = async (context) => {
  const { api, test } = context;
  const Config = api.BitsAndBytesConfig;
  if (typeof Config !== "function") throw new NotYet("BitsAndBytesConfig is not exported");
  const config = new (Config as unknown as new (options: object) => unknown)({ ...test.arguments });
  if (context.checkpoint === undefined) throw new NotYet("the test names no checkpoint");
  const model = await fromPretrained(api, test.class, context.checkpoint, { quantization_config: config });
  try {
    const result = await model({ ...context.inputs(), use_cache: false });
    const logits = toNumbers(field(result, "logits"), "logits");
    return { tensors: { logits, logits_from_dequantized_weights: logits } };
  } finally {
    await method(model, "dispose", test.class)();
  }
};

/** What the vision tower gives, and the projected features. */
export const imageFeatures: Call = async (context) => {
  const { test } = context;
  const model = await context.load(test.class);
  const result = await method(model, "get_image_features", test.class)(context.inputs());
  const last = toNumbers(field(result, "last_hidden_state"), "last_hidden_state");
  return {
    tensors: {
      image_features: toNumbers(field(result, "pooler_output"), "pooler_output"),
      // Two names of one thing: SigLIP's in Gemma 3, and the tower's in 3n.
      vision_last_hidden_state: last,
      vision_tower_output: last,
    },
  };
};

/** What the audio encoder's parts give, and the projected features. */
export const audioFeatures: Call = async (context) => {
  const { test } = context;
  const model = await context.load(test.class);
  const result = await method(model, "get_audio_features", test.class)(context.inputs());
  return {
    tensors: {
      subsample_conv_projection: toNumbers(field(result, "subsample_conv_projection"), "subsampled"),
      encoder_output: toNumbers(field(result, "last_hidden_state"), "last_hidden_state"),
      encoder_padding_mask: toNumbers(field(result, "audio_mel_mask"), "audio_mel_mask"),
      audio_features: toNumbers(field(result, "pooler_output"), "pooler_output"),
    },
  };
};

/** The maps of the vision tower's stem and stages. */
export const visionStages: Call = async (context) => {
  const { test } = context;
  const model = await context.load(test.class);
  const get = method(model, "get_image_features", test.class);
  const states = field(await get({ ...context.inputs(), output_hidden_states: true }), "hidden_states");
  if (!Array.isArray(states)) throw new Error("hidden_states: expected the tower's maps");
  const names = ["stem", ...states.slice(1).map((_, stage) => `stage.${stage}`)];
  return {
    tensors: Object.fromEntries(states.map((state, i) => [names[i]!, toNumbers(state, names[i]!)])),
  };
};

function flags({ test }: CallContext): Record<string, unknown> {
  const states = Object.keys(test.expected).some((name) => name.startsWith("hidden_states."));
  return {
    ...(states ? { output_hidden_states: true } : {}),
    ...Object.fromEntries(Object.entries(test.arguments).filter(([name]) => FORWARD_FLAGS.includes(name))),
  };
}

function forwardOutputs(context: CallContext, result: unknown): CallOutputs {
  const names = Object.keys(context.test.expected);
  const tensors: Record<string, Numbers> = {};
  for (const name of names) {
    const [head, index] = name.split(".") as [string, string?];
    if (name === "mean_pooled") tensors[name] = meanPooled(context, result);
    else if (index === undefined) tensors[name] = oneOutput(result, name);
    else {
      const list = field(result, head);
      if (!Array.isArray(list)) throw new Error(`${head}: got ${typeof list} where an array was expected`);
      tensors[name] = toNumbers(list[Number(index)], name);
    }
  }
  const expectedStates = names.filter((name) => name.startsWith("hidden_states.")).length;
  const states = field(result, "hidden_states");
  if (expectedStates > 0 && Array.isArray(states) && states.length !== expectedStates) {
    return { tensors, problem: `hidden_states: got ${states.length} entries expected ${expectedStates}` };
  }
  return { tensors };
}

/** A loss may come as a Tensor without dimensions or as a number; the sets store [1]. */
function oneOutput(result: unknown, name: string): Numbers {
  const value = field(result, name);
  if (name !== "loss") return toNumbers(value, name);
  if (typeof value === "number") return { shape: [1], data: [value] };
  const loss = toNumbers(value, name);
  return loss.data.length === 1 ? { shape: [1], data: loss.data } : loss;
}

/** The mean of the hidden states over the positions that the attention mask keeps, as the set's maker takes it. */
function meanPooled(context: CallContext, result: unknown): Numbers {
  const hidden = toNumbers(field(result, "last_hidden_state"), "last_hidden_state");
  const mask = storedTensor(context.source, context.test.inputs.attention_mask!);
  const [batch, time, size] = hidden.shape as readonly [number, number, number];
  const out = new Float64Array(batch * size);
  for (let row = 0; row < batch; row++) {
    let count = 0;
    for (let t = 0; t < time; t++) {
      if (mask.data[row * time + t] === 0) continue;
      count++;
      for (let i = 0; i < size; i++) {
        out[row * size + i]! += Number(hidden.data[(row * time + t) * size + i]);
      }
    }
    for (let i = 0; i < size; i++) out[row * size + i]! /= count;
  }
  return { shape: [batch, size], data: out };
}

function logSoftmaxAt(
  logits: ArrayLike<number | bigint>,
  start: number,
  count: number,
  index: number,
): number {
  let largest = Number.NEGATIVE_INFINITY;
  for (let i = 0; i < count; i++) largest = Math.max(largest, Number(logits[start + i]));
  let sum = 0;
  for (let i = 0; i < count; i++) sum += Math.exp(Number(logits[start + i]) - largest);
  return Number(logits[start + index]) - largest - Math.log(sum);
}
