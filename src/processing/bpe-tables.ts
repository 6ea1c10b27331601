import { CheckpointError } from "../errors.ts";
import { byteHash, byteIndexSize, findBytes, findText, pairHash } from "./bpe-hash.ts";

/** SentencePiece's stand-in for a space. */
export const SPACE = "▁";

/** A token that is cut out of the raw text before anything else happens. */
export interface AddedToken {
  readonly id: number;
  readonly content: string;
  readonly special: boolean;
}

/** A BPE vocabulary as flat arrays: written to a file and read back without building anything. */
export interface BpeTables {
  /** UTF-8 of every token, by id; token i is [tokenOffsets[i], tokenOffsets[i + 1]), empty where an id has no token. */
  readonly tokenBytes: Uint8Array;
  readonly tokenOffsets: Uint32Array;
  /** Open-addressing table over the bytes: id + 1, or 0. */
  readonly tokenSlots: Uint32Array;
  /** By rank: the two tokens that merge and what they become. */
  readonly mergeLeft: Uint32Array;
  readonly mergeRight: Uint32Array;
  readonly mergeResult: Uint32Array;
  /** Open-addressing table over the pairs: rank + 1, or 0. */
  readonly mergeSlots: Uint32Array;
  /** The 256 tokens that stand for single bytes. */
  readonly byteIds: Uint32Array;
  /** Tokens of one code point: where every text starts from. */
  readonly charCodes: Uint32Array;
  readonly charIds: Uint32Array;
  /** Added tokens, ascending, and whether each is special. */
  readonly addedIds: Uint32Array;
  readonly addedSpecial: Uint8Array;
  /** Trie of the added tokens: node n has the children trieStart[n] … trieStart[n + 1] - 1. */
  readonly trieStart: Uint32Array;
  /** UTF-16 code unit that leads to a node, and id + 1 of the token which ends there, or 0. */
  readonly trieLabels: Uint16Array;
  readonly trieIds: Uint32Array;
  /** Code units that stand before ▁ inside some token: after any other one a word ends where ▁ begins. */
  readonly glue: Uint32Array;
}

/** Merges in order of rank, as ids. */
export interface Merges {
  readonly left: Uint32Array;
  readonly right: Uint32Array;
  readonly result: Uint32Array;
}

/** The tokens' bytes with an index over them: what deriving merges needs, and the first part of the tables. */
export type TokenIndex = Pick<BpeTables, "tokenBytes" | "tokenOffsets" | "tokenSlots">;

/** Packs tokens (by id; "" where there is none) and indexes them. Of equal tokens the first is found. */
export function indexTokens(tokens: readonly string[]): TokenIndex {
  const encoder = new TextEncoder();
  const tokenOffsets = new Uint32Array(tokens.length + 1);
  let tokenBytes = new Uint8Array(tokens.length * 8 + 64);
  let end = 0;
  for (let id = 0; id < tokens.length; id++) {
    const token = tokens[id]!;
    if (end + token.length * 3 > tokenBytes.length) {
      const grown = new Uint8Array((end + token.length * 3) * 2);
      grown.set(tokenBytes);
      tokenBytes = grown;
    }
    end += encoder.encodeInto(token, tokenBytes.subarray(end)).written;
    tokenOffsets[id + 1] = end;
  }
  tokenBytes = tokenBytes.slice(0, end);
  const tokenSlots = new Uint32Array(byteIndexSize(tokens.length));
  const mask = tokenSlots.length - 1;
  const index = { tokenBytes, tokenOffsets, tokenSlots };
  for (let id = 0; id < tokens.length; id++) {
    const [from, to] = [tokenOffsets[id]!, tokenOffsets[id + 1]!];
    if (from === to || findBytes(index, tokenBytes, from, to) !== -1) continue;
    let slot = byteHash(tokenBytes, from, to) & mask;
    while (tokenSlots[slot] !== 0) slot = (slot + 1) & mask;
    tokenSlots[slot] = id + 1;
  }
  return index;
}

/** The complete tables. `tokens` are by id; every single byte must have a token `<0xNN>`. */
export function buildBpeTables(
  tokens: readonly string[],
  index: TokenIndex,
  merges: Merges,
  added: readonly AddedToken[],
): BpeTables {
  const sorted = [...added].sort((a, b) => a.id - b.id);
  return {
    ...index,
    mergeLeft: merges.left,
    mergeRight: merges.right,
    mergeResult: merges.result,
    mergeSlots: indexMerges(merges),
    byteIds: findByteTokens(index),
    ...singleCharacters(tokens, index),
    addedIds: Uint32Array.from(sorted, (token) => token.id),
    addedSpecial: Uint8Array.from(sorted, (token) => Number(token.special)),
    ...buildTrie(sorted),
    glue: findGlue(tokens),
  };
}

function indexMerges({ left, right }: Merges): Uint32Array {
  const slots = new Uint32Array(byteIndexSize(left.length));
  const mask = slots.length - 1;
  for (let rank = 0; rank < left.length; rank++) {
    let slot = pairHash(left[rank]!, right[rank]!) & mask;
    for (let held = slots[slot]!; held !== 0; held = slots[slot]!) {
      // A pair that is listed twice counts with its later rank, as in HF's table.
      if (left[held - 1] === left[rank] && right[held - 1] === right[rank]) break;
      slot = (slot + 1) & mask;
    }
    slots[slot] = rank + 1;
  }
  return slots;
}

/** The vocabularies of Gemma 1 and 2 have a tab where the byte <0x09> would be: an ASCII character is its own byte. */
function findByteTokens(index: TokenIndex): Uint32Array {
  return Uint32Array.from({ length: 256 }, (_, byte) => {
    const name = `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`;
    const named = findText(index, name);
    const id = named === -1 && byte < 0x80 ? findText(index, String.fromCharCode(byte)) : named;
    if (id === -1) throw new CheckpointError(`tokenizer: the vocabulary has no byte token ${name}`);
    return id;
  });
}

function singleCharacters(
  tokens: readonly string[],
  index: TokenIndex,
): Pick<BpeTables, "charCodes" | "charIds"> {
  const codes: number[] = [];
  const ids: number[] = [];
  for (let id = 0; id < tokens.length; id++) {
    const token = tokens[id]!;
    const code = token.codePointAt(0);
    if (code === undefined || token.length !== (code > 0xffff ? 2 : 1)) continue;
    const { tokenBytes, tokenOffsets } = index;
    if (findBytes(index, tokenBytes, tokenOffsets[id]!, tokenOffsets[id + 1]!) !== id) continue;
    codes.push(code);
    ids.push(id);
  }
  return { charCodes: Uint32Array.from(codes), charIds: Uint32Array.from(ids) };
}

interface TrieNode {
  id: number;
  readonly children: Map<number, TrieNode>;
}

/** Nodes in breadth-first order, children by code unit, so that a node's children stand side by side. */
function buildTrie(added: readonly AddedToken[]): Pick<BpeTables, "trieStart" | "trieLabels" | "trieIds"> {
  const root: TrieNode = { id: 0, children: new Map() };
  for (const { id, content } of added) {
    let node = root;
    for (let i = 0; i < content.length; i++) {
      const unit = content.charCodeAt(i);
      const child = node.children.get(unit) ?? { id: 0, children: new Map() };
      node.children.set(unit, child);
      node = child;
    }
    if (node !== root) node.id = id + 1;
  }
  const nodes = [root];
  const labels = [0];
  const start: number[] = [];
  for (let i = 0; i < nodes.length; i++) {
    start.push(nodes.length);
    for (const [unit, child] of [...nodes[i]!.children].sort((a, b) => a[0] - b[0])) {
      nodes.push(child);
      labels.push(unit);
    }
  }
  start.push(nodes.length);
  return {
    trieStart: Uint32Array.from(start),
    trieLabels: Uint16Array.from(labels),
    trieIds: Uint32Array.from(nodes, (node) => node.id),
  };
}

function findGlue(tokens: readonly string[]): Uint32Array {
  const units = new Set<number>();
  for (const token of tokens) {
    for (let at = token.indexOf(SPACE, 1); at !== -1; at = token.indexOf(SPACE, at + 1)) {
      units.add(token.charCodeAt(at - 1));
    }
  }
  return Uint32Array.from(units).sort();
}
