import type { MetadataValue } from "../checkpoints/checkpoint.ts";
import { CheckpointError } from "../errors.ts";
import { FNV_START, findBytes, findText, fnvStep, spread } from "./bpe-hash.ts";
import {
  type AddedToken,
  type BpeTables,
  buildBpeTables,
  indexTokens,
  type Merges,
  SPACE,
  type TokenIndex,
} from "./bpe-tables.ts";
import { NO_MAX_LENGTH, type TokenizerSettings } from "./tokenizer-settings.ts";

type Metadata = ReadonlyMap<string, MetadataValue>;

/** tokenizer.ggml.token_type, as in llama.cpp's llama_token_type. */
const UNKNOWN = 2;
const CONTROL = 3;
const USER_DEFINED = 4;
const BYTE = 6;

/** Roles whose tokens a GGUF file does not name. */
const NAMED_TOKENS = {
  bos_token: "<bos>",
  eos_token: "<eos>",
  unk_token: "<unk>",
  pad_token: "<pad>",
  mask_token: "<mask>",
  boi_token: "<start_of_image>",
  eoi_token: "<end_of_image>",
  image_token: "<image_soft_token>",
  boa_token: "<start_of_audio>",
  eoa_token: "<end_of_audio>",
  audio_token: "<audio_soft_token>",
};
const ID_KEYS = {
  bos_token: "bos",
  eos_token: "eos",
  unk_token: "unknown",
  pad_token: "padding",
  mask_token: "mask",
};

/** Control tokens without a meaning: HF does not mark them as special. */
const UNUSED = /^(<unused\d+>|<2mass>|\[@BOS@\])$/;

/** Tokens of the chat, which the first converters for Gemma stored like words. */
const TURN = /^<(start|end)_of_turn>$/;

/** Tables and settings from the metadata of a GGUF file with a SentencePiece vocabulary ("llama"). */
export function tokenizerFromGguf(
  metadata: Metadata,
  file: string,
): { tables: BpeTables; settings: TokenizerSettings } {
  const kind = metadata.get("tokenizer.ggml.model");
  if (kind !== "llama") {
    throw new CheckpointError(`tokenizer.ggml.model is ${JSON.stringify(kind)}, expected "llama"`, { file });
  }
  const stored = textsOf(metadata.get("tokenizer.ggml.tokens"));
  if (stored === undefined)
    throw new CheckpointError("tokenizer.ggml.tokens must be a list of texts", { file });
  const scores = numbersOf(metadata.get("tokenizer.ggml.scores"), stored.length);
  const types = numbersOf(metadata.get("tokenizer.ggml.token_type"), stored.length);
  if (scores === undefined || types === undefined) {
    throw new CheckpointError("tokenizer.ggml.scores and token_type must have a number for each token", {
      file,
    });
  }
  // Runs of spaces are stored as such, where the vocabulary means ▁.
  const tokens = stored.map((token) => token.replaceAll(" ", SPACE));
  nameTab(tokens);
  const added: AddedToken[] = [];
  for (const [id, content] of tokens.entries()) {
    const control = types[id] === CONTROL || types[id] === UNKNOWN || TURN.test(content);
    if (control || types[id] === USER_DEFINED)
      added.push({ id, content, special: control && !UNUSED.test(content) });
  }
  const index = indexTokens(tokens);
  const tables = buildBpeTables(tokens, index, deriveMerges(tokens, index, scores, types), added);
  return { tables, settings: readSettings(metadata, tokens, index, file) };
}

/** The vocabularies of Gemma 1 and 2 have the tab only as a byte, but runs of tabs as tokens; HF's converter renames it. */
function nameTab(tokens: string[]): void {
  const byte = tokens.indexOf("<0x09>");
  if (byte !== -1 && !tokens.includes("\t")) tokens[byte] = "\t";
}

/**
 * The merges that HF's converter writes into tokenizer.json: every way to make a token of two others, by score, the
 * longer left part first. Only the order among splits of one token goes beyond the scores; it decides in runs of
 * repeated characters.
 */
function deriveMerges(
  tokens: readonly string[],
  index: TokenIndex,
  scores: ArrayLike<number>,
  types: ArrayLike<number>,
): Merges {
  // Tokens which are cut out beforehand carry a score of -1000 here; SentencePiece's own for them is 0.
  const score = (id: number): number =>
    types[id] === CONTROL || types[id] === USER_DEFINED ? 0 : scores[id]!;
  const order = Array.from(tokens.keys()).filter((id) => types[id] !== BYTE);
  order.sort((a, b) => score(b) - score(a) || a - b);
  const lengths = Uint32Array.from(tokens, codePoints);
  const flat: number[] = []; // left, right, result of each merge
  for (let i = 0; i < order.length; ) {
    const tied: number[] = [];
    const value = score(order[i]!);
    let members = 0;
    for (; i < order.length && score(order[i]!) === value; i++, members++) splitsOf(order[i]!, index, tied);
    if (members > 1) sortTied(tied, lengths);
    for (const id of tied) flat.push(id);
  }
  const merges = flat.length / 3;
  const [left, right, result] = [new Uint32Array(merges), new Uint32Array(merges), new Uint32Array(merges)];
  for (let rank = 0; rank < merges; rank++) {
    left[rank] = flat[rank * 3]!;
    right[rank] = flat[rank * 3 + 1]!;
    result[rank] = flat[rank * 3 + 2]!;
  }
  return { left, right, result };
}

/** Appends every split of a token into two tokens, the longest left part first: left, right, token. */
function splitsOf(id: number, index: TokenIndex, out: number[]): void {
  const { tokenBytes, tokenOffsets } = index;
  const [start, end] = [tokenOffsets[id]!, tokenOffsets[id + 1]!];
  const first = out.length;
  let hash = FNV_START;
  for (let at = start + 1; at < end; at++) {
    hash = fnvStep(hash, tokenBytes[at - 1]!);
    if ((tokenBytes[at]! & 0xc0) === 0x80) continue; // inside a character
    const left = findBytes(index, tokenBytes, start, at, spread(hash));
    const right = left === -1 ? -1 : findBytes(index, tokenBytes, at, end);
    if (right !== -1) out.push(id, right, left);
  }
  // Found with the shortest left part first, and each backwards.
  for (let low = first, high = out.length - 1; low < high; low++, high--) {
    [out[low], out[high]] = [out[high]!, out[low]!];
  }
}

/** Merges of several tokens with one score: the longest left part first, then the longest right part. */
function sortTied(merges: number[], lengths: Uint32Array): void {
  const triples = Array.from({ length: merges.length / 3 }, (_, i) => merges.slice(i * 3, i * 3 + 3));
  triples.sort((a, b) => lengths[b[0]!]! - lengths[a[0]!]! || lengths[b[1]!]! - lengths[a[1]!]!);
  triples.forEach((triple, i) => {
    for (let part = 0; part < 3; part++) merges[i * 3 + part] = triple[part]!;
  });
}

function codePoints(token: string): number {
  let count = 0;
  for (const _ of token) count++;
  return count;
}

function readSettings(
  metadata: Metadata,
  tokens: readonly string[],
  index: TokenIndex,
  file: string,
): TokenizerSettings {
  const special: Record<string, string> = {};
  for (const [role, token] of Object.entries(NAMED_TOKENS)) {
    if (findText(index, token) !== -1) special[role] = token;
  }
  for (const [role, key] of Object.entries(ID_KEYS)) {
    const id = metadata.get(`tokenizer.ggml.${key}_token_id`);
    if (id === undefined) continue;
    const token = tokens[Number(id)];
    if (token === undefined) {
      throw new CheckpointError(`tokenizer.ggml.${key}_token_id ${String(id)} is no token`, { file });
    }
    special[role] = token;
  }
  const flag = (name: string, value: boolean): boolean => {
    const stored = metadata.get(`tokenizer.ggml.${name}`);
    return typeof stored === "boolean" ? stored : value;
  };
  const template = readTemplate(metadata);
  return {
    tokenizer_class: "GemmaTokenizer",
    special_tokens: special,
    additional_special_tokens: [],
    add_bos_token: flag("add_bos_token", true),
    add_eos_token: flag("add_eos_token", false),
    padding_side: "left",
    model_max_length: NO_MAX_LENGTH,
    clean_up_tokenization_spaces: false,
    ...(template !== undefined && { chat_template: template }),
  };
}

/** `tokenizer.chat_template`, with further ones as `tokenizer.chat_template.NAME`. */
function readTemplate(metadata: Metadata): string | Record<string, string> | undefined {
  const main = metadata.get("tokenizer.chat_template");
  const named: Record<string, string> = {};
  const prefix = "tokenizer.chat_template.";
  for (const [key, value] of metadata) {
    if (key.startsWith(prefix) && typeof value === "string") named[key.slice(prefix.length)] = value;
  }
  if (typeof main !== "string") return Object.keys(named).length === 0 ? undefined : named;
  return Object.keys(named).length === 0 ? main : { default: main, ...named };
}

/** A packed list of texts (checkpoints/packed-strings.ts), or a plain one. */
function textsOf(value: MetadataValue | undefined): readonly string[] | undefined {
  if (typeof value !== "object") return undefined;
  const list: readonly unknown[] = "toArray" in value ? value.toArray() : Array.isArray(value) ? value : [];
  return list.length > 0 && list.every((item) => typeof item === "string") ? list : undefined;
}

function numbersOf(value: MetadataValue | undefined, length: number): ArrayLike<number> | undefined {
  if (typeof value !== "object" || value.length !== length) return undefined;
  if (value instanceof BigInt64Array || value instanceof BigUint64Array) return Array.from(value, Number);
  if (ArrayBuffer.isView(value)) return value as ArrayLike<number>;
  return Array.isArray(value) && value.every((item) => typeof item === "number") ? value : undefined;
}
