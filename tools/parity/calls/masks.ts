import path from "node:path";
import { construct, field, type Loaded, method, NotYet, toNumbers } from "../api.ts";
import type { Numbers } from "../compare.ts";
import type { Call, CallContext } from "./call.ts";

/** What a text looks like to a model: HF's AttentionMaskVisualizer, what it prints and the matrices behind it. */
export const visualizeAttentionMask: Call = async (context) => {
  const { test } = context;
  // The recorded title holds the name of the folder alone.
  const picture = await inFolderOf(context, (name) => {
    const visualizer = construct(context.api, test.class, name, { print: false }) as Loaded;
    return visualizer(test.arguments.input_sentence);
  });
  const tensors: Record<string, Numbers> = {};
  for (const name of Object.keys(test.expected)) {
    const value = field(picture, name);
    if (value !== undefined) tensors[name] = toNumbers(value, name);
  }
  return { tensors, values: { tokens: field(picture, "tokens"), printed: field(picture, "printed") } };
};

/** The masks of a batch by kind of layer. */
export const attentionMasks: Call = async (context) => {
  const visualizer = construct(context.api, "AttentionMaskVisualizer", context.checkpoint);
  const result = await method(visualizer, "masks", "AttentionMaskVisualizer")(context.inputs());
  const kinds = Object.entries(result as Record<string, unknown>);
  return { tensors: Object.fromEntries(kinds.map(([kind, mask]) => [kind, toNumbers(mask, kind)])) };
};

/** Makes a call with the checkpoint's bare name, found through env.localModelPath. */
async function inFolderOf(
  { api, checkpoint }: CallContext,
  call: (name: string) => unknown,
): Promise<unknown> {
  const env = api.env as { localModelPath: string } | undefined;
  if (env === undefined) throw new NotYet("env is not exported");
  if (checkpoint === undefined) throw new NotYet("the test names no checkpoint");
  const before = env.localModelPath;
  env.localModelPath = path.dirname(path.resolve(checkpoint));
  try {
    return await call(path.basename(checkpoint));
  } finally {
    env.localModelPath = before;
  }
}
