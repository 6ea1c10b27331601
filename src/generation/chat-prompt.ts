import type { ChatMessage } from "../processing/chat-template.ts";
import { Tensor } from "../tensor.ts";

/** What a chat needs of a processor to show images and sounds to a model. */
export interface ChatProcessor {
  /** Undefined where the model takes no audio. */
  readonly audio_token?: string;
  apply_chat_template(
    messages: readonly ChatMessage[],
    options: { tokenize: true; return_dict: true; [option: string]: unknown },
  ): Promise<{ readonly input_ids: Tensor; readonly [input: string]: unknown }>;
}

/** A conversation as a model takes it. */
export interface ChatPrompt {
  readonly prompt: readonly number[];
  /** The prompt with other numbers where images and sounds are: equal ones are equal pictures. */
  readonly key: readonly number[];
  /** What the model takes besides ids. */
  readonly media: Readonly<Record<string, unknown>>;
}

/** Types of tokens, and the input whose rows their runs stand for. */
const FEATURES: Readonly<Record<number, string>> = { 1: "pixel_values", 3: "input_features" };

/** What a processor made of a conversation. */
export function promptWithMedia(inputs: {
  readonly input_ids: Tensor;
  readonly [input: string]: unknown;
}): ChatPrompt {
  const { input_ids, attention_mask: _mask, ...media } = inputs;
  const prompt = numbersOf(input_ids);
  const types = numbersOf(media.token_type_ids as Tensor);
  const next: Record<number, number> = {};
  let current = 0;
  const key = prompt.map((id, i) => {
    const type = types[i]!;
    const name = FEATURES[type];
    if (name === undefined) return id;
    if (types[i - 1] !== type) {
      const row = next[type] ?? 0;
      next[type] = row + 1;
      current = fingerprint(withoutPadding(media[name] as Tensor, row, media[`${name}_mask`]));
    }
    return current;
  });
  return { prompt, key, media };
}

/** One row's numbers. Where a mask goes with them, those of its frames up to the last that counts: the rest depends on its neighbours. */
function withoutPadding(tensor: Tensor, row: number, mask: unknown): Float32Array {
  const size = tensor.size / tensor.dims[0]!;
  const numbers = (tensor.data as Float32Array).subarray(row * size, (row + 1) * size);
  if (!(mask instanceof Tensor)) return numbers;
  const frames = mask.dims[1]!;
  const bits = mask.data.subarray(row * frames, (row + 1) * frames) as Uint8Array;
  return numbers.subarray(0, (bits.lastIndexOf(1) + 1) * (size / frames));
}

/** A number below 0 for the content of an image or a sound (FNV-1a over its words, twice 26 bits). */
function fingerprint({ buffer, byteOffset, length }: Float32Array): number {
  const words = new Uint32Array(buffer, byteOffset, length);
  let [low, high] = [0x811c9dc5, 0x9e3779b9];
  for (const word of words) {
    low = Math.imul(low ^ word, 0x01000193);
    high = Math.imul(high ^ (word >>> 7) ^ low, 0x85ebca6b);
  }
  return -1 - ((low >>> 6) * 2 ** 26 + (high >>> 6));
}

function numbersOf(tensor: Tensor): number[] {
  return Array.from(tensor.data as BigInt64Array, Number);
}
