import { InputError } from "../../errors.ts";
import { GemmaBpe } from "../../processing/gemma-bpe.ts";
import { isByteToken, type TokenDecoder } from "../stopping.ts";
import { latin1 } from "./expressions.ts";

/** What constraints need of a tokenizer. */
export interface ConstraintTokenizer extends TokenDecoder {
  /** Number of ids. */
  readonly vocab_size: number;
}

/** Longer tokens are never written: no tokenizer has them, and depths are kept in bytes. */
const LONGEST = 250;
/** Stretches that are sorted by comparing. */
const FEW = 24;
/** "▁", a space in the tokens of a Gemma tokenizer, in UTF-8. */
const SPACE = [0xe2, 0x96, 0x81] as const;

/**
 * The tokens that stand for text, by their bytes, as a trie in the order of a depth-first walk: a node's children
 * follow it, and `after` is where its subtree ends. Special tokens are not in it.
 */
export class Vocabulary {
  readonly size: number;
  /** Bytes of the longest token. */
  readonly longest: number;
  /** The byte of each node. */
  readonly label: Uint8Array;
  /** Bytes before it. */
  readonly depth: Uint8Array;
  readonly after: Int32Array;
  /** Node n stands for the tokens `ids[first[n]]` up to `ids[first[n + 1] - 1]`: there may be several, or none. */
  readonly first: Int32Array;
  readonly ids: Int32Array;
  readonly #bytes: Uint8Array;
  readonly #offsets: Uint32Array;

  constructor(tokenizer: ConstraintTokenizer) {
    const { bytes, offsets } = tokenBytes(tokenizer);
    this.size = offsets.length - 1;
    this.#bytes = bytes;
    this.#offsets = offsets;
    const sorted = sortedTokens(bytes, offsets);
    const trie = buildTrie(sorted, bytes, offsets);
    this.ids = sorted;
    this.label = trie.label;
    this.depth = trie.depth;
    this.after = trie.after;
    this.first = trie.first;
    this.longest = sorted.reduce((most, id) => Math.max(most, offsets[id + 1]! - offsets[id]!), 0);
  }

  /** A token's bytes; none for special tokens. */
  bytesOf(id: number): Uint8Array {
    if (id < 0 || id >= this.size) return this.#bytes.subarray(0, 0);
    return this.#bytes.subarray(this.#offsets[id], this.#offsets[id + 1]);
  }

  /** In how many tokens a text (one character for each byte) is written if each is the longest that fits. */
  tokensFor(text: string): number {
    let count = 0;
    for (let at = 0; at < text.length; at += Math.max(1, this.#longestMatch(text, at))) count++;
    return count;
  }

  #longestMatch(text: string, at: number): number {
    let length = 0;
    let node = 0;
    let end = this.label.length;
    for (let i = at; i < text.length && node < end; ) {
      if (this.label[node] !== text.charCodeAt(i)) {
        node = this.after[node]!;
        continue;
      }
      i++;
      if (this.first[node]! < this.first[node + 1]!) length = i - at;
      end = this.after[node]!;
      node++;
    }
    return length;
  }
}

interface TokenBytes {
  readonly bytes: Uint8Array;
  /** Token id's bytes run from offsets[id] to offsets[id + 1]. */
  readonly offsets: Uint32Array;
}

function tokenBytes(tokenizer: ConstraintTokenizer): TokenBytes {
  if (!Number.isSafeInteger(tokenizer.vocab_size)) {
    throw new InputError("the tokenizer must have a vocab_size for constraints to work", {
      option: "tokenizer",
    });
  }
  const engine: unknown = (tokenizer as { engine?: unknown }).engine;
  const special = (tokenizer as { all_special_ids?: readonly number[] }).all_special_ids;
  return engine instanceof GemmaBpe && special !== undefined
    ? tableBytes(engine, new Set(special))
    : decodedBytes(tokenizer);
}

/** From the tables of the Gemma tokenizer: asking it for a quarter of a million texts takes half a second. */
function tableBytes({ tables }: GemmaBpe, special: ReadonlySet<number>): TokenBytes {
  const { tokenBytes: source, tokenOffsets: from, byteIds } = tables;
  const byteOf = new Map([...byteIds].map((id, byte) => [id, byte]));
  const size = from.length - 1;
  const bytes = new Uint8Array(source.length);
  const offsets = new Uint32Array(size + 1);
  let end = 0;
  for (let id = 0; id < size; id++) {
    const byte = byteOf.get(id);
    if (byte !== undefined) bytes[end++] = byte;
    else if (!special.has(id)) end = copyText(source, from[id]!, from[id + 1]!, bytes, end);
    offsets[id + 1] = end;
  }
  return { bytes, offsets };
}

/** Copies a token's bytes with "▁" as spaces, and returns where they end. */
function copyText(source: Uint8Array, from: number, to: number, target: Uint8Array, at: number): number {
  let end = at;
  for (let i = from; i < to; i++) {
    if (source[i] === SPACE[0] && source[i + 1] === SPACE[1] && source[i + 2] === SPACE[2]) {
      target[end++] = 32;
      i += 2;
    } else target[end++] = source[i]!;
  }
  return end;
}

/** From what any tokenizer decodes. */
function decodedBytes(tokenizer: ConstraintTokenizer): TokenBytes {
  const all: number[] = [];
  const offsets = new Uint32Array(tokenizer.vocab_size + 1);
  for (let id = 0; id < tokenizer.vocab_size; id++) {
    const text = tokenizer.decode([id], { skip_special_tokens: true });
    const byte = isByteToken(tokenizer, id)
      ? /^<0x([0-9A-Fa-f]{2})>$/.exec(tokenizer.convert_ids_to_tokens?.([id])[0] ?? "")?.[1]
      : undefined;
    if (byte !== undefined) all.push(Number.parseInt(byte, 16));
    else if (!text.includes("\ufffd")) for (const unit of latin1(text)) all.push(unit.charCodeAt(0));
    offsets[id + 1] = all.length;
  }
  return { bytes: Uint8Array.from(all), offsets };
}

/** The ids of tokens with bytes, in the order of these. */
function sortedTokens(bytes: Uint8Array, offsets: Uint32Array): Int32Array {
  const ids = new Int32Array(offsets.length - 1);
  let count = 0;
  for (let id = 0; id + 1 < offsets.length; id++) {
    const length = offsets[id + 1]! - offsets[id]!;
    if (length > 0 && length <= LONGEST) ids[count++] = id;
  }
  const sorted = ids.subarray(0, count);
  sortFrom(sorted, new Int32Array(count), 0, count, 0, bytes, offsets);
  return sorted;
}

/** Sorts a stretch of ids, equal in their first `depth` bytes, by counting the bytes that come next. */
function sortFrom(
  ids: Int32Array,
  scratch: Int32Array,
  from: number,
  to: number,
  depth: number,
  bytes: Uint8Array,
  offsets: Uint32Array,
): void {
  if (to - from <= FEW) {
    insertionSort(ids, from, to, depth, bytes, offsets);
    return;
  }
  // Place 0 is for tokens that end here.
  const starts = new Int32Array(258);
  const place = (id: number): number => {
    const at = offsets[id]! + depth;
    return at < offsets[id + 1]! ? bytes[at]! + 1 : 0;
  };
  for (let i = from; i < to; i++) starts[place(ids[i]!) + 1]!++;
  for (let p = 0; p < 257; p++) starts[p + 1]! += starts[p]!;
  const next = starts.slice();
  for (let i = from; i < to; i++) scratch[from + next[place(ids[i]!)]!++] = ids[i]!;
  ids.set(scratch.subarray(from, to), from);
  for (let p = 1; p < 257; p++) {
    const [start, end] = [from + starts[p]!, from + starts[p + 1]!];
    if (end - start > 1) sortFrom(ids, scratch, start, end, depth + 1, bytes, offsets);
  }
}

function insertionSort(
  ids: Int32Array,
  from: number,
  to: number,
  depth: number,
  bytes: Uint8Array,
  offsets: Uint32Array,
): void {
  const isAfter = (a: number, b: number): boolean => {
    let [i, j] = [offsets[a]! + depth, offsets[b]! + depth];
    const [iEnd, jEnd] = [offsets[a + 1]!, offsets[b + 1]!];
    while (i < iEnd && j < jEnd && bytes[i] === bytes[j]) {
      i++;
      j++;
    }
    return j === jEnd ? i < iEnd : i < iEnd && bytes[i]! > bytes[j]!;
  };
  for (let i = from + 1; i < to; i++) {
    const id = ids[i]!;
    let at = i;
    for (; at > from && isAfter(ids[at - 1]!, id); at--) ids[at] = ids[at - 1]!;
    ids[at] = id;
  }
}

interface Trie {
  readonly label: Uint8Array;
  readonly depth: Uint8Array;
  readonly after: Int32Array;
  readonly first: Int32Array;
}

function buildTrie(sorted: Int32Array, bytes: Uint8Array, offsets: Uint32Array): Trie {
  const label = new Uint8Array(bytes.length);
  const depth = new Uint8Array(bytes.length);
  const after = new Int32Array(bytes.length);
  const first = new Int32Array(bytes.length + 1);
  /** The nodes from the root to the token before. */
  const path = new Int32Array(LONGEST);
  let nodes = 0;
  let open = 0;
  for (let n = 0; n < sorted.length; n++) {
    const start = offsets[sorted[n]!]!;
    const length = offsets[sorted[n]! + 1]! - start;
    let common = 0;
    while (common < open && common < length && label[path[common]!] === bytes[start + common]) common++;
    while (open > common) after[path[--open]!] = nodes;
    for (; open < length; open++) {
      label[nodes] = bytes[start + open]!;
      depth[nodes] = open;
      // Tokens of a node come right after those before it: the nodes on the way have none.
      first[nodes] = n;
      path[open] = nodes++;
    }
  }
  while (open > 0) after[path[--open]!] = nodes;
  first[nodes] = sorted.length;
  return {
    label: label.slice(0, nodes),
    depth: depth.slice(0, nodes),
    after: after.slice(0, nodes),
    first: first.slice(0, nodes + 1),
  };
}
