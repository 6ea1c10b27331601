import path from "node:path";
import { exported, field, type Loaded, method, toNested, toNumbers } from "../api.ts";
import type { Numbers } from "../compare.ts";
import type { Call, CallContext, CallOutputs } from "./call.ts";

interface ContentItem {
  readonly type: string;
  readonly path?: string;
}

interface Message {
  readonly role: string;
  readonly content: string | readonly ContentItem[];
}

/** Text, images and sounds through a processor. */
export const processor: Call = async (context) => {
  const { test } = context;
  const { text, images, audio, image_processor_class, ...options } = test.arguments;
  const isPil = String(image_processor_class ?? "").endsWith("Pil");
  const loaded = await context.load(test.class, isPil ? { backend: "pil" } : {});
  const pictures = await mapFiles(context, images, "load_image");
  const sounds = await mapFiles(context, audio, "load_audio");
  const result = await loaded(text, pictures ?? null, sounds ?? null, options);
  const outputs = collect(context, result);
  const tensors: Record<string, Numbers> = { ...outputs.tensors };
  if ("num_crops" in test.expected && !("num_crops" in tensors)) {
    const crops = await numCrops(loaded, pictures, options);
    if (crops !== undefined) tensors.num_crops = crops;
  }
  if (!("expanded_text" in (test.expected_values ?? {}))) return { tensors };
  return { tensors, values: { expanded_text: expandedText(loaded, result) } };
};

/** Sounds through the feature extractor of a checkpoint. */
export const featureExtractor: Call = async (context) => {
  const { test } = context;
  const extractor = await context.load(test.class);
  const { audio, ...options } = test.arguments;
  const sounds = await mapFiles(context, audio, "load_audio");
  return collect(context, await extractor(sounds, options));
};

/** A chat with images and sounds, rendered and tokenised by a processor. */
export const processorChatTemplate: Call = async (context) => {
  const { test } = context;
  const loaded = await context.load(test.class);
  const { messages, ...options } = test.arguments;
  const given = (messages as readonly Message[]).map((message) => withPaths(message, context.source.folder));
  const apply = method(loaded, "apply_chat_template", test.class);
  const outputs = collect(context, await apply(given, { ...options, return_dict: true }));
  if (!("rendered_text" in (test.expected_values ?? {}))) return outputs;
  return { ...outputs, values: { rendered_text: await apply(given, { ...options, tokenize: false }) } };
};

/** The expected outputs that a result has, as tensors. */
function collect(context: CallContext, result: unknown): CallOutputs {
  const tensors: Record<string, Numbers> = {};
  for (const name of Object.keys(context.test.expected)) {
    const value = field(result, name);
    if (value !== undefined) tensors[name] = toNumbers(value, name);
  }
  return { tensors };
}

/** The same nesting of lists with files loaded from the case folder. */
async function mapFiles(context: CallContext, names: unknown, loader: string): Promise<unknown> {
  if (names === undefined || names === null) return undefined;
  if (Array.isArray(names)) return Promise.all(names.map((name) => mapFiles(context, name, loader)));
  return exported(context.api, loader)(path.join(context.source.folder, String(names)));
}

async function numCrops(
  loaded: Loaded,
  pictures: unknown,
  { padding: _padding, ...options }: Readonly<Record<string, unknown>>,
): Promise<Numbers | undefined> {
  const imageProcessor = loaded.image_processor;
  if (typeof imageProcessor !== "function" || !Array.isArray(pictures)) return undefined;
  const result: unknown = await (imageProcessor as Loaded)(pictures.flat(), options);
  const crops = toNested(field(result, "num_crops"));
  if (!Array.isArray(crops)) return undefined;
  const data = crops.flat().map(Number);
  return { shape: [data.length], data };
}

/** The prompt with its placeholders expanded, read back from the ids: padding and <bos> taken off. */
function expandedText(loaded: Loaded, result: unknown): unknown {
  const ids = toNested(field(result, "input_ids")) as number[][];
  const mask = toNested(field(result, "attention_mask")) as number[][];
  const decode = method(loaded.tokenizer, "decode", "processor.tokenizer");
  return ids.map((row, r) => {
    const text = String(decode(row.filter((_, i) => mask[r]?.[i] === 1)));
    return text.startsWith("<bos>") ? text.slice("<bos>".length) : text;
  });
}

function withPaths(message: Message, folder: string): Message {
  if (typeof message.content === "string") return message;
  const content = message.content.map((item) =>
    item.path === undefined ? item : { ...item, path: path.join(folder, item.path) },
  );
  return { ...message, content };
}
